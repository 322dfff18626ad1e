"""What the detector of a cycle sees in single frames: proposals for the frames that the next
request asks for, and what the labels of the cycle are compared with.

Made after the choice, of the chosen frames alone: 13 ms each (laptop, one core), where boxes
of every frame would cost scoring half a millisecond and 100 bytes each, 400 times as often
in the paper's budget. Scoring also looks at half of the frames, and through dropout.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from claus import engine
from claus.annotators.actors import KINDS
from claus.annotators.proposals import read_proposals
from claus.datasets.clips.chosen_clips import ChosenClips
from claus.datasets.clips.tiles import TileLoader, Unreadable
from claus.datasets.labels.annotations import Video
from claus.datasets.labels.masks import encode_rle
from claus.metrics.detections import DetectionSettings
from claus.metrics.masks import mask_boxes, to_video_pixels
from claus.models import BACKBONES
from claus.utils import progress
from claus.utils.runtime import UserError, write_text

HOW = DetectionSettings()
FIX = "remove it; the next call of run_cycles.py makes it again"


def predict_frames(
    trained,
    videos: Iterable[Video],
    wanted: Mapping[str, Iterable[int]],
    find_video,
    kind: str = KINDS[0],
    cache: Path | None = None,
    features=None,
    workers: int = 0,
) -> tuple[dict, dict]:
    """({video: {frame: [{"box", "class", "score", and "rle" for masks}]}}, {video: reason}
    of those that could not be read).

    wanted: {video: frames}, both here and in the result by the numbers of the file. box:
    half-open whole pixels of the displayed video, x0, y0, x1, y1. score: mean foreground
    probability times that of the class, which is the likeliest of the clip. A frame in which
    nothing is seen has []. cache, features: see VideoTiles.
    """
    chosen = [video for video in videos if len(wanted.get(video.name, ()))]
    own = {video.name: np.asarray(list(wanted[video.name])) - video.first for video in chosen}
    fill = BACKBONES[trained.detector.config.backbone].fill
    clips = ChosenClips(
        chosen, own, find_video, trained.geometry, fill, features=features, cache=cache
    )
    trained.detector.eval()
    found, failed = {}, {}
    streams = tqdm(TileLoader(clips, workers), desc="look", unit="video", disable=None)
    for number, (video, chunks) in enumerate(streams):
        progress.tell(number, len(chosen))
        try:
            frames = _frames_of(trained, video, chunks, set(own[video.name].tolist()), kind)
        except Unreadable as error:
            failed[video.name] = str(error)
            continue
        found[video.name] = dict(sorted(frames.items()))
    return found, failed


def _frames_of(trained, video, chunks, wanted, kind):
    """{frame of the file: actors} of one video."""
    found = {}
    for chunk in chunks:
        logits, scores = engine.predict(
            trained.detector, chunk["clips"], trained.pixel_range, amp=trained.amp
        )
        for numbers_T, logits_T, scores_C in zip(
            chunk["frames"], logits, scores.numpy(), strict=True
        ):
            label = int(scores_C.argmax())
            for place, frame in enumerate(numbers_T.tolist()):
                if frame not in wanted:
                    continue
                probs = torch.sigmoid(logits_T[place]).numpy()
                actors = _actors(probs, video, trained.geometry, kind)
                for actor in actors:
                    actor["class"] = trained.classes[label]
                    actor["score"] = round(actor["score"] * float(scores_C[label]), 4)
                found[frame + video.first] = actors
    return found


def _actors(probs_S_S, video, geometry, kind):
    """The actors of one map, by falling score, without class."""
    shown = geometry.shown(video.height, video.width)
    if kind == KINDS[1]:
        found = _masks(probs_S_S, video, geometry, shown)
    else:
        found = _boxes(probs_S_S, video, geometry, shown)
    return sorted(found, key=lambda actor: -actor["score"])


def _boxes(probs_S_S, video, geometry, shown):
    rows, columns = shown
    how = {name: getattr(HOW, name) for name in ("threshold", "min_area", "connectivity")}
    _, boxes_N_4, mean_N = mask_boxes(probs_S_S[None, rows, columns], **how)
    boxes_N_4 = boxes_N_4 + np.array([columns.start, rows.start] * 2)
    boxes_N_4 = to_video_pixels(boxes_N_4, geometry, video.height, video.width)
    boxes_N_4 = np.rint(np.clip(boxes_N_4, 0, [video.width, video.height] * 2)).astype(int)
    found = []
    for box, score in zip(boxes_N_4.tolist(), mean_N.tolist(), strict=True):
        if box[0] < box[2] and box[1] < box[3]:
            found.append({"box": box, "score": score})
    return found


def _masks(probs_S_S, video, geometry, shown):
    """As _boxes, with run lengths: the map interpolated at the pixels of the video."""
    from skimage import measure

    probs_H_W = _at_pixels(probs_S_S, video, geometry, shown)
    region_H_W = measure.label(probs_H_W >= HOW.threshold, connectivity=HOW.connectivity // 4)
    found = []
    for region in measure.regionprops(region_H_W, probs_H_W):
        if region.area < HOW.min_area * probs_H_W.size:
            continue
        y0, x0, y1, x1 = region.bbox
        mask = region_H_W == region.label
        found.append(
            {
                "box": [x0, y0, x1, y1],
                "score": float(region.intensity_mean),
                "rle": encode_rle(mask),
            }
        )
    return found


def _at_pixels(probs_S_S, video, geometry, shown):
    """The map at the centers of the video's pixels, (H,W), interpolated bilinearly; 0 where
    the network saw nothing of them.
    """
    height, width = video.height, video.width
    lines, inside = [], []
    for length, axis in ((height, 1), (width, 0)):
        points = np.zeros((length, 2))
        points[:, axis] = np.arange(length) + 0.5
        place = geometry.to_map(points, height, width)[:, axis]
        part = shown[1 - axis]
        inside.append((place >= part.start) & (place < part.stop))
        lines.append(np.clip(place - 0.5, part.start, part.stop - 1))
    (low_y, high_y, y), (low_x, high_x, x) = map(_neighbors, lines)
    last = probs_S_S.shape[0] - 1
    high_y, high_x = np.minimum(high_y, last), np.minimum(high_x, last)
    top = probs_S_S[low_y] * (1 - y)[:, None] + probs_S_S[high_y] * y[:, None]
    values = top[:, low_x] * (1 - x) + top[:, high_x] * x
    return values * (inside[0][:, None] & inside[1][None])


def _neighbors(places):
    low = np.floor(places).astype(int)
    return low, low + 1, places - low


# ----------------------------------------------------------------------------------- files


def save_predictions(found: Mapping, path: Path) -> None:
    """Write proposals.json: what predict_frames gave, a line for each video."""
    lines = [f" {json.dumps(name)}: {json.dumps(frames)}" for name, frames in found.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def load_predictions(path: Path) -> dict:
    """Read proposals.json, frames as whole numbers; UserError naming the file."""
    if not path.exists():
        raise UserError(f"{path}: is missing; run cluster_extract.py --propose")
    return {
        name: {int(frame): actors for frame, actors in frames.items()}
        for name, frames in read_proposals(path, FIX).items()
    }
