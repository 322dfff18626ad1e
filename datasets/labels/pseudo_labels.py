"""Few labeled frames -> dense pseudo-label masks for a clip. What each pixel of them weighs
is in losses/stew.py.

Only what the annotation file holds is used: labeled frames and the boxes or masks on them.
A track's true start and end are not known to it. Where a track has masks, its boxes are not
looked at.
"""

from collections.abc import Callable

import numpy as np

from claus.datasets.labels.annotations import Tube, Video
from claus.datasets.labels.mask_interp import INTERPOLATIONS, interpolate
from claus.datasets.labels.masks import look_up
from claus.losses.stew import clip_weight

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
    of the clip shows, -1 for a bar, which is background (see clips.geometry.sources). loss,
    rule: see clip_weight. masks: pseudo_masks at these frames, where the labels are masks.

    Between two neighboring edges of all boxes of the clip every pixel has the same label
    and weight, so both are computed once for each such cell, a few hundred, and then
    expanded to pixels.
    """
    if masks is not None:
        target = look_up(masks, rows, columns)
        return target, clip_weight(target, video.labeled_frames, frames, loss, rule)
    cells, row_edges, column_edges = box_cells(video, frames)
    cells = np.pad(cells, ((0, 0), (1, 0), (1, 0)))  # cell 0 is that of bars
    weights = clip_weight(cells, video.labeled_frames, frames, loss, rule)
    row_cells = np.searchsorted(row_edges, rows, side="right")
    column_cells = np.searchsorted(column_edges, columns, side="right")
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
