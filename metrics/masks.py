"""From a network's foreground maps to scored boxes in video pixels, and ground truth in the
same form.

A map is cut at a threshold; each connected region of enough pixels becomes its bounding
box. The score of the box for class c is (mean foreground probability of the region's
pixels) x (score of class c): one row for every class. The network sees a crop of the
resized video, resized again; `to_video_pixels` goes the way back.

Boxes are half-open pixel corners x0, y0, x1, y1 up to here; `scored_boxes` and `truth`
return inclusive corners, by way of boxes.inclusive_corners. Letters: T maps, H and W
pixels, N regions, C classes.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from claus.metrics.boxes import Boxes, inclusive_corners
from claus.metrics.tubes import Tube, tube_rows

# of the map: 50 of 224 x 224 pixels; the smallest box of the UCF-101-24 test set covers
# .002
MIN_AREA = 0.001
BLOCK = 64  # masks looked at at once


def mask_boxes(
    probs_T_H_W: np.ndarray,
    *,
    threshold: float = 0.5,
    min_area: float = MIN_AREA,
    connectivity: int = 8,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regions of foreground: (map of each (N,) int, box (N, 4) int half-open in map pixels,
    mean probability (N,)).

    probs_T_H_W: foreground probabilities in [0, 1]. threshold: foreground is where
    probability >= threshold. min_area: regions with fewer pixels than this share of the map
    are dropped. connectivity: pixels touch by sides and corners (8), or by sides alone (4).
    Sorted by map, then by first pixel. Raises ValueError for NaN and what is not a
    probability. Needs scikit-image.
    """
    map_N, boxes_N_4, means_N = [], [], []
    for t, _, _, box, mean in _regions(probs_T_H_W, threshold, min_area, connectivity):
        map_N.append(t)
        boxes_N_4.append(box)
        means_N.append(mean)
    return (
        np.array(map_N, dtype=np.int64),
        np.array(boxes_N_4, dtype=np.int64).reshape(-1, 4),
        np.array(means_N, dtype=np.float64),
    )


def region_maps(
    probs_T_H_W: np.ndarray,
    *,
    threshold: float = 0.5,
    min_area: float = MIN_AREA,
    connectivity: int = 8,
) -> Iterator[np.ndarray]:
    """The foreground probabilities (H, W) around each region of mask_boxes, in its order:
    the map with all other regions set to 0. Arguments and errors as there.
    """
    probs = np.asarray(probs_T_H_W)
    for t, region_H_W, number, _, _ in _regions(probs, threshold, min_area, connectivity):
        others_H_W = (region_H_W > 0) & (region_H_W != number)
        yield np.where(others_H_W, 0, probs[t])


def _regions(probs_T_H_W, threshold, min_area, connectivity):
    """(map, numbers of all regions of the map (H,W), number of this one, box, mean) of each
    region of mask_boxes.
    """
    from scipy import ndimage
    from skimage import measure

    probs = np.asarray(probs_T_H_W)
    if probs.ndim != 3:
        raise ValueError(f"give maps (T, H, W), not {probs.shape}")
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity {connectivity}, must be 4 or 8")
    bad = ~((probs >= 0) & (probs <= 1))
    if bad.any():
        t, y, x = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"map {t}, pixel x {x} y {y}: {probs[t, y, x]} is not a probability")
    for t, probs_H_W in enumerate(probs):
        region_H_W = measure.label(
            probs_H_W >= threshold, connectivity=2 if connectivity == 8 else 1
        )
        area = np.bincount(region_H_W.ravel())
        total = np.bincount(region_H_W.ravel(), probs_H_W.ravel())
        for number, (rows, columns) in enumerate(ndimage.find_objects(region_H_W), start=1):
            if area[number] < min_area * probs_H_W.size:
                continue
            box = columns.start, rows.start, columns.stop, rows.stop
            yield t, region_H_W, number, box, total[number] / area[number]


def to_video_pixels(
    boxes_N_4: np.ndarray,
    geometry: object,
    height: int,
    width: int,
    corner: tuple[int, int] | None = None,
) -> np.ndarray:
    """Boxes in the pixels of the network's square maps -> the pixels of the video:
    half-open before and after.

    geometry: anything with to_video, such as a ClipGeometry of datasets.clips.geometry.
    corner: (top, left) of the crop in the resized frame, the center crop by default.
    Returns (N, 4) float64, not rounded.
    """
    # the two corners' (x, y)
    boxes_N_2_2 = np.asarray(boxes_N_4, dtype=np.float64).reshape(-1, 2, 2)
    return geometry.to_video(boxes_N_2_2, height, width, corner).reshape(-1, 4)


def scored_boxes(
    video: int | str,
    frames_T: np.ndarray,
    probs_T_H_W: np.ndarray,
    class_scores: np.ndarray,
    geometry: object,
    height: int,
    width: int,
    corner: tuple[int, int] | None = None,
    **how: float,
) -> Boxes:
    """Boxes (inclusive corners, video pixels) of T maps of a video, every region once for
    every class.

    video: its number or name. frames_T: frame number of each map, -1 = padding, left out.
    class_scores: (C,), or (T, C) where they differ from map to map; finite. geometry: with
    to_video and shown (see ClipGeometry); what is found in bars is left out. The rest: see
    `to_video_pixels` and, for `how`, `mask_boxes`.
    """
    real_T = np.asarray(frames_T) >= 0
    frames_T, probs_T_H_W = np.asarray(frames_T)[real_T], np.asarray(probs_T_H_W)[real_T]
    n_classes = np.shape(class_scores)[-1]
    scores_T_C = np.broadcast_to(np.asarray(class_scores), (len(real_T), n_classes))[real_T]
    rows, columns = geometry.shown(height, width, corner)
    try:
        map_N, boxes_N_4, mean_N = mask_boxes(probs_T_H_W[:, rows, columns], **how)
    except ValueError as error:
        raise ValueError(f"video {video}: {error}") from error
    boxes_N_4 = boxes_N_4 + np.array([columns.start, rows.start] * 2)
    boxes_N_4 = to_video_pixels(boxes_N_4, geometry, height, width, corner)
    boxes_N_4 = inclusive_corners(np.clip(boxes_N_4, 0, [width, height] * 2))
    return Boxes(
        np.full(len(map_N) * n_classes, video),
        np.repeat(frames_T[map_N], n_classes),
        np.tile(np.arange(n_classes), len(map_N)),
        np.repeat(boxes_N_4, n_classes, axis=0),
        (mean_N[:, None] * scores_T_C[map_N]).ravel(),
    )


def truth(videos: Sequence) -> tuple[Boxes, list[Tube]]:
    """Ground truth of annotated videos, numbered 0, 1, ... in their order: (Boxes, list of
    Tube), inclusive corners.

    videos: objects with .tubes of .label, .frames and .boxes (F, 4) half-open, or .masks
    (F, H, W) bool, which count by their bounding boxes. Pictures are taken whole: what a
    crop does not show is missed.
    """
    tubes = []
    for i, video in enumerate(videos):
        for tube in video.tubes:
            boxes_F_4 = _bounding_boxes(tube.masks) if tube.boxes is None else tube.boxes
            frames_F = np.asarray(tube.frames, dtype=np.int64)
            tubes.append(Tube(i, tube.label, frames_F, inclusive_corners(boxes_F_4)))
    rows = tube_rows(tubes, scored=False)
    video_N, label_N = rows.video_T[rows.tube_N], rows.label_T[rows.tube_N]
    return Boxes(video_N, rows.frame_N, label_N, rows.box_N_4), tubes


def _bounding_boxes(masks_F_H_W):
    """Tight half-open boxes (F, 4) of masks (F, H, W), none of them empty, which are looked
    at in blocks, as they may be held compressed.
    """
    boxes = [np.zeros((0, 4), np.int64)]
    for start in range(0, len(masks_F_H_W), BLOCK):
        masks = np.asarray(masks_F_H_W[start : start + BLOCK], dtype=bool)
        rows_n_H, columns_n_W = masks.any(axis=2), masks.any(axis=1)
        (y0, y1), (x0, x1) = _ends(rows_n_H), _ends(columns_n_W)
        boxes.append(np.stack([x0, y0, x1, y1], axis=1))
    return np.concatenate(boxes)


def _ends(line_F_L):
    """First true place, and one past the last, of each row."""
    return line_F_L.argmax(axis=1), line_F_L.shape[1] - line_F_L[:, ::-1].argmax(axis=1)
