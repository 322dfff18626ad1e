"""Few labeled frames -> dense pseudo-label masks for a clip, and the weight STeW gives
each pixel of them.

Only what the annotation file holds is used: labeled frames and the boxes or masks on them.
A track's true start and end are not known to it. Where a track has masks, its boxes are not
looked at.
"""

import functools
from collections.abc import Callable

import numpy as np

from claus.datasets.labels.annotations import Tube, Video
from claus.datasets.labels.mask_interp import INTERPOLATIONS, interpolate

SIGMA = 8 / 3  # of the temporal weight, video frames (paper Eq. 4)
REACH = 8  # beyond so many video frames the temporal weight is 0
FAR = 2**31  # distance to a label that there is not
WINDOW = 2  # consistency looks at this many sampled frames to each side
P_LOW, P_HIGH = 0.1, 0.9


INTERPOLATION = INTERPOLATIONS[0]


def neighbors(
    tube: Tube, labeled: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which labels of a track define each of `frames` (T,): (index0, index1, share,
    present), each (T,).

    Between two labeled frames that both show the actor, index0 and index1 are the numbers
    of these among the track's own, and share in (0,1) is the position between them. Where
    only one neighboring labeled frame shows the actor, its label is repeated (index0 =
    index1) up to the frame beside the other one; likewise before the first and after the
    last labeled frame. Where not `present`, the labels say that the actor is absent.
    `labeled`: all labeled frames of the video, sorted.
    """
    final = len(labeled) - 1
    right = np.searchsorted(labeled, frames)  # first labeled frame >= f
    left = np.searchsorted(labeled, frames, side="right") - 1  # last labeled frame <= f
    before, after = np.maximum(left, 0), np.minimum(right, final)
    if len(tube.frames) == len(labeled):  # a tube's frames are all labeled
        index0, index1 = np.minimum(before, after), np.maximum(before, after)
        f0 = labeled[index0]
        share = (frames - f0) / np.maximum(labeled[index1] - f0, 1)
        share[(left < 0) | (right == len(labeled))] = 0
        return index0, index1, share, np.ones(len(frames), bool)
    place = np.minimum(np.searchsorted(tube.frames, labeled), len(tube.frames) - 1)
    shown = tube.frames[place] == labeled
    on_left = (left >= 0) & shown[before]
    on_right = (right < len(labeled)) & shown[after]
    f0 = np.where(on_left, labeled[before], labeled[after])
    f1 = np.where(on_right, labeled[after], f0)
    share = (frames - f0) / np.maximum(f1 - f0, 1)
    share = np.where(on_left & on_right, share, 0)
    index0 = np.minimum(np.searchsorted(tube.frames, f0), len(tube.frames) - 1)
    index1 = np.minimum(np.searchsorted(tube.frames, f1), len(tube.frames) - 1)
    return index0, index1, share, on_left | on_right


def dense_boxes(
    tube: Tube, labeled: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of one track at `frames` (T,): (boxes (T,4) float64 half-open corners, present
    (T,) bool).

    Linear in the four corners between two labels, repeated elsewhere, see neighbors().
    """
    index0, index1, share, present = neighbors(tube, labeled, np.asarray(frames))
    boxes, share = tube.boxes.astype(np.float64), share[:, None]
    return boxes[index0] * (1 - share) + boxes[index1] * share, present


def dense_masks(
    tube: Tube,
    labeled: np.ndarray,
    frames: np.ndarray,
    interpolation: str = INTERPOLATION,
    pictures: Callable[[], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks of one track at `frames` (T,): (masks (T,H,W) bool, present (T,) bool).

    The rules are those of the boxes; between two labels, one of mask_interp's
    INTERPOLATIONS is used. It sees all labels of the track up to a labeled frame without
    the actor. `pictures`: a function that returns all frames of the video, uint8
    (F,H,W,3), called by `flow` only, which keeps warping a label where the others repeat
    it.
    """
    frames = np.asarray(frames)
    index0, index1, _, present = neighbors(tube, labeled, frames)
    masks = np.zeros((len(frames), *tube.masks.shape[1:]), bool)
    known = index0 == index1
    if interpolation == "flow":
        known = np.isin(frames, tube.frames)
    ready = present & known
    masks[ready] = tube.masks[index0[ready]]
    # runs of labels without an absence between them
    absent = np.setdiff1d(labeled, tube.frames)
    runs = np.searchsorted(absent, tube.frames)
    rest = present & ~ready
    for run in np.unique(runs[index0[rest]]):
        wanted, own = rest & (runs[index0] == run), np.flatnonzero(runs == run)
        masks[wanted] = interpolate(
            tube.masks[own],
            tube.frames[own],
            frames[wanted],
            interpolation,
            pictures() if interpolation == "flow" else None,
        )
    return masks, present


def first_inside(corners: np.ndarray) -> np.ndarray:
    """Of any corner coordinates, the number of the first pixel whose center is not before
    it, int.
    """
    return np.ceil(corners - 0.5).astype(int)


def tube_masks(
    video: Video,
    tube: Tube,
    frames: np.ndarray,
    interpolation: str = INTERPOLATION,
    pictures: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """(Pseudo-)label of one track at `frames` (T,): uint8 {0,1} (T,H,W). A pixel is in a
    box if its center is.
    """
    labeled = video.labeled_frames
    if tube.masks is not None:
        masks, _ = dense_masks(tube, labeled, frames, interpolation, pictures)
        return masks.view(np.uint8)
    masks = np.zeros((len(frames), video.height, video.width), np.uint8)
    boxes, present = dense_boxes(tube, labeled, frames)
    corners = first_inside(boxes)
    for t in np.flatnonzero(present):
        x0, y0, x1, y1 = corners[t]
        masks[t, max(y0, 0) : y1, max(x0, 0) : x1] = 1
    return masks


def pseudo_masks(
    video: Video,
    frames: np.ndarray,
    interpolation: str = INTERPOLATION,
    pictures: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """Union of all actors' (pseudo-)labels, boxes or masks, at `frames` (T,): uint8 {0,1}
    (T,H,W).

    interpolation, pictures: for masks, see dense_masks; boxes are always linear.
    """
    masks = np.zeros((len(frames), video.height, video.width), np.uint8)
    for tube in video.tubes:
        masks |= tube_masks(video, tube, frames, interpolation, pictures)
    return masks


def clip_labels(
    video: Video,
    frames: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    loss: str = "stew",
    rule: str = "paper",
    masks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-labels of a finished clip, and their weights: (target uint8 {0,1} (T,S,S),
    weight float32 (T,S,S)).

    frames (T,): frame numbers. rows, columns (S,): the pixel of the video that each pixel
    of the clip shows (see clips.geometry.sources). loss, rule: see clip_weight. masks:
    pseudo_masks at these frames, where the labels are masks.

    Between two neighboring edges of all boxes of the clip every pixel has the same label
    and weight, so both are computed once for each such cell, a few hundred, and then
    expanded to pixels.
    """
    if masks is not None:
        target = masks.take(columns, 2).take(rows, 1)
        return target, clip_weight(target, video.labeled_frames, frames, loss, rule)
    cells, row_edges, column_edges = box_cells(video, frames)
    weights = clip_weight(cells, video.labeled_frames, frames, loss, rule)
    row_cells = np.searchsorted(row_edges, rows, side="right") - 1
    column_cells = np.searchsorted(column_edges, columns, side="right") - 1
    return tuple(values.take(column_cells, 2).take(row_cells, 1) for values in (cells, weights))


def box_cells(video: Video, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Union of all actors' boxes at `frames` (T,) on the grid of their edges.

    Returns cells uint8 {0,1} (T,n,m), row edges (n,), column edges (m,): cell i, j holds
    the pixels from row edge i and column edge j on, up to the next edge; the first edges
    are 0.
    """
    present = np.zeros((len(video.tubes), len(frames)), bool)
    corners = np.zeros((*present.shape, 4), int)
    for a, tube in enumerate(video.tubes):
        boxes, present[a] = dense_boxes(tube, video.labeled_frames, frames)
        corners[a] = first_inside(boxes)
    x0, y0, x1, y1 = np.moveaxis(np.maximum(corners, 0), 2, 0)
    rows, columns = (
        np.unique(np.concatenate([[0], low[present], high[present]]))
        for low, high in ((y0, y1), (x0, x1))
    )
    in_rows = (y0[..., None] <= rows) & (rows < y1[..., None]) & present[..., None]  # (A,T,n)
    in_columns = (x0[..., None] <= columns) & (columns < x1[..., None])  # (A,T,m)
    return (in_rows[..., None] & in_columns[..., None, :]).any(0).view(np.uint8), rows, columns


def label_distance(labeled, frames):
    """Distance of each frame (T,) to the nearest labeled frame, in video frames, int; FAR
    where none is labeled.
    """
    frames = np.asarray(frames)
    if not len(labeled):
        return np.full(len(frames), FAR)
    at = np.searchsorted(labeled, frames)
    before = labeled[np.maximum(at - 1, 0)]
    after = labeled[np.minimum(at, len(labeled) - 1)]
    return np.minimum(np.abs(frames - before), np.abs(after - frames))


def temporal_weight(distance, sigma=SIGMA, reach=REACH):
    """τ (T,) in [0,1]: exp(-d²/2σ²), 0 beyond `reach` video frames (paper Eq. 4)."""
    distance = np.asarray(distance, np.float64)
    return np.where(distance <= reach, np.exp(-(distance**2) / (2 * sigma**2)), 0.0)


def consistency(masks_T_H_W, on_label_T, rule="paper", window=WINDOW):
    """s (T,H,W) float32 in [0,1] (paper Eq. 5): how steadily the pseudo-label {0,1} says
    the same of a pixel.

    m is the mean label over the clip's frames t-window … t+window that exist. `paper`: s =
    m, but 1 where m ≤ 0.1 or m ≥ 0.9. `authors`: s = 1 only where m = 0, and the window is
    the whole clip for t ≥ 2, the last two frames for t = 0, the last for t = 1. A labeled
    frame has s = 1 everywhere.
    """
    return _weigh(masks_T_H_W, np.ones(len(on_label_T)), on_label_T, rule, window)


def _weigh(masks_T_H_W, tau_T, on_label_T, rule, window=WINDOW):
    """φ = τ·s (T,H,W) float32: looked up by how many frames of its window say 1 of a pixel,
    T numbers at most.
    """
    masks, length = np.asarray(masks_T_H_W), len(masks_T_H_W)
    low, high, steady = _windows(length, rule, window)
    count = np.uint8 if length < 256 else np.int64
    total = np.zeros((length + 1, *masks.shape[1:]), count)  # of the frames before t
    for t in range(length):
        np.add(
            total[t], masks[t], out=total[t + 1], casting="unsafe"
        )  # much faster than cumsum along time
    ones = total[high] - total[low]
    table = (
        np.asarray(tau_T)[:, None] * np.where(np.asarray(on_label_T)[:, None], 1, steady)
    ).astype(np.float32)
    weight = np.empty(masks.shape, np.float32)
    for t in range(length):
        table[t].take(ones[t], out=weight[t], mode="clip")
    return weight


@functools.lru_cache(maxsize=16)
def _windows(length, rule, window):
    """Windows of a clip's frames, [low, high), and s of a pixel of which n frames of the
    window say 1: (T, length+1).
    """
    times = np.arange(length)
    if rule == "paper":
        low, high = np.maximum(times - window, 0), np.minimum(times + window + 1, length)
    elif rule == "authors":
        low, high = (
            np.where(times < window, length - window + times, 0),
            np.full(length, length),
        )
    else:
        raise ValueError(f"rule must be 'paper' or 'authors', not {rule!r}")
    mean = np.arange(length + 1) / (high - low)[:, None]
    certain = (mean <= P_LOW) | (mean >= P_HIGH) if rule == "paper" else mean == 0
    return low, high, np.where(certain, 1, mean)


def clip_weight(masks_T_H_W, labeled, frames, loss="stew", rule="paper"):
    """φ (T,H,W) float32 in [0,1] for a clip's pseudo-label masks {0,1} at video frames
    `frames` (T,).

    loss: `stew` τ·s; `interp` 1 everywhere; `frame` 1 on labeled frames, 0 elsewhere. All
    0 without any label.
    """
    distance = label_distance(labeled, frames)
    shape = np.shape(masks_T_H_W)
    if loss == "interp":
        return np.full(shape, len(labeled) > 0, np.float32)
    if loss == "frame":
        return np.broadcast_to((distance == 0)[:, None, None], shape).astype(np.float32)
    if loss != "stew":
        raise ValueError(f"loss must be 'stew', 'interp' or 'frame', not {loss!r}")
    return _weigh(masks_T_H_W, temporal_weight(distance), distance == 0, rule)
