"""What a detector is scored against: ground truth or labels of one's own, as masks, and the
no-model floor.

Letters: A actors, F frames of a video, S pixels of the network's square maps.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from claus.datasets import table
from claus.datasets.clips.geometry import ClipGeometry, center_crop, transform
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations, Video
from claus.datasets.labels.masks import PackedMasks
from claus.metrics import capsule, floor
from claus.utils.runtime import UserError

BLOCK = 64  # frames whose masks are unpacked at once


def read_labels(path: str, dataset: str, trained_on: Path) -> Annotations:
    """The videos of an annotation file in which an actor is labeled.

    UserError where there is none, or where one is labeled in the annotation file
    `trained_on` (which need not exist) too, or shares frames of its file with one that is.
    """
    labels = annotation_file.load(path)
    table.check_same(dataset, labels.dataset, path)
    labeled = labels.labeled()
    tested = {video.name: video for video in labeled if len(video.tubes)}
    empty = len(labeled) - len(tested)
    note = f"; {empty} labeled videos show none and are not scored" if empty else ""
    print(f"test set: the labeled frames with an actor of {len(tested)} videos of {path}{note}")
    if not tested:
        raise UserError(
            f"{path}: no frame with an actor is labeled in it; label some test videos first"
        )
    if trained_on.exists():
        trained = annotation_file.load(trained_on).labeled()
        both = sorted({video.name for video in trained} & set(tested))
        if both:
            raise UserError(
                f"{path}: {len(both)} of its videos are labeled in {trained_on} too, the "
                f"first is {both[0]}; a test video must not be trained on, keep them in "
                f"folders of their own"
            )
        check_segments_apart(trained, tested.values(), path, trained_on)
    return replace(labels, videos=tested)


def check_segments_apart(
    trained: Iterable[Video], tested: Iterable[Video], path: str, trained_on: Path
) -> None:
    """UserError where a test video and a labeled one are segments, or a segment and the
    whole, of one file and share frames; a note where they only lie in one file.
    """
    by_source = defaultdict(list)
    for video in trained:
        by_source[video.source].append(video)
    beside = 0
    for video in tested:
        others = by_source.get(video.source, [])
        beside += bool(others)
        for other in others:
            apart = (
                other.first + other.frames <= video.first
                or video.first + video.frames <= other.first
            )
            if not apart:
                raise UserError(
                    f"{path}: {video.name} shares frames with {other.name}, which is labeled "
                    f"in {trained_on}; a test video must not be trained on"
                )
    if beside:
        print(
            f"note: {beside} test segments are of videos with labeled segments: what they "
            "look like is known from training, so expect less on other videos"
        )


def check_classes(trained: tuple, tested: tuple, given: str) -> None:
    """UserError unless the detector's classes are those of the truth; `given`: its path."""
    if tuple(trained) != tuple(tested):
        raise UserError(
            f"{given} has {len(tested)} classes ({tested[0]} …), the detector was trained "
            f"for {len(trained)} ({trained[0]} …); give the ground truth of the data set "
            f"it was trained on"
        )


def truth_of(video: Video, geometry: ClipGeometry, gt: str) -> floor.Truth:
    """Ground truth of a video inside the center crop of a region (clips.region), at its
    resolution; `gt` says which actors count (capsule.GT_MODES). Masks are held compressed.
    ValueError for a geometry with bars, in which no protocol scores.
    """
    if geometry.fit != "stretch" and geometry.frame != geometry.crop:
        raise ValueError(f"{geometry} is what a network sees; give a region, see region_of")
    if geometry.fit == "letterbox":
        raise ValueError(f"{geometry} has bars; give a region, see region_of")
    rng = np.random.default_rng(zlib.crc32(video.name.encode()))
    size = geometry.size, geometry.size
    if all(tube.masks is None for tube in video.tubes):
        return floor.video_truth(video, geometry.crop, gt, rng, geometry.frame, size)
    chosen_A_F = _chosen_actors(video, geometry, gt, rng)
    masks_F_S_S = PackedMasks.pack_blocks(
        _cropped_masks(video, geometry, start, chosen_A_F).any(axis=0)
        for start in range(0, video.frames, BLOCK)
    )
    return floor.Truth(video.name, video.label, size, masks_F_H_W=masks_F_S_S)


def _chosen_actors(video, geometry, gt, rng):
    """Which actors' masks are the truth of each frame, bool (A, F)."""
    visible_A_F = np.ones((len(video.tubes), video.frames), bool)
    if gt == "union":
        return visible_A_F
    for start in range(0, video.frames, BLOCK):
        masks = _cropped_masks(video, geometry, start, visible_A_F)
        visible_A_F[:, start : start + BLOCK] = masks.any(axis=(2, 3))
    return capsule.select_actors(visible_A_F, gt, rng)


def _cropped_masks(video, geometry, start, chosen_A_F):
    """Masks of the chosen actors, bool (A, n, S, S), at the network's resolution, of the
    frames from `start` on.
    """
    count = min(BLOCK, video.frames - start)
    masks_A_n_S_S = np.zeros((len(video.tubes), count, geometry.size, geometry.size), bool)
    corner = center_crop(geometry)
    for actor, tube in enumerate(video.tubes):
        rows = slice(*np.searchsorted(tube.frames, (start, start + count)))
        frames = tube.frames[rows]
        if len(frames):
            masks = transform(tube.masks[rows].view(np.uint8), geometry, corner)
            chosen_n = chosen_A_F[actor, frames]
            masks_A_n_S_S[actor, frames - start] = masks.numpy() & chosen_n[:, None, None]
    return masks_A_n_S_S


def truth_masks(truth: floor.Truth, frames: np.ndarray | None = None) -> np.ndarray:
    """Masks of a floor.Truth, boxes filled: bool (F, S, S), or (n, S, S) of n `frames` by
    number, -1 for an empty mask.
    """
    frames = np.arange(truth.frames) if frames is None else np.asarray(frames)
    masks_n_S_S = np.zeros((len(frames), *truth.size), bool)
    real_n = frames >= 0
    if truth.masks_F_H_W is not None:
        masks_n_S_S[real_n] = truth.masks_F_H_W[frames[real_n]]
        return masks_n_S_S
    for boxes_F_4 in truth.boxes_A_F_4:
        for place in np.flatnonzero(real_n):
            x0, y0, x1, y1 = boxes_F_4[frames[place]]
            masks_n_S_S[place, y0:y1, x0:x1] = True
    return masks_n_S_S


def no_model_floor(
    training: Iterable[Video],
    tested: Iterable[Video],
    classes: tuple,
    geometry: ClipGeometry,
    switches: capsule.Switches,
) -> dict | None:
    """The best centered rectangle of the training videos, scored on the tested ones -> see
    floor.to_dict; None where no training video has an actor.
    """

    def truths(videos):
        return (truth_of(video, geometry, switches.gt) for video in videos)

    rectangle = floor.choose_rectangle(truths(training), classes, switches)
    if rectangle is None:
        return None
    result = floor.score_rectangle(rectangle, truths(tested), classes, switches)
    return floor.to_dict(rectangle, result)
