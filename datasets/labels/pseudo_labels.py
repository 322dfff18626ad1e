"""Few labeled frames -> dense pseudo-label masks for a clip. What each pixel of them weighs
is in losses/stew.py.

Only what the annotation file holds is used: labeled frames and the boxes or masks on them.
A track's true start and end are not known to it. Where a track has masks, its boxes are not
looked at.
"""

import numpy as np

from claus.datasets.labels.mask_interp import METHODS, interpolate
from claus.losses.stew import clip_weight

INTERPOLATION = METHODS[0]


def neighbors(tube, labeled, frames):
    """Which labels of a track speak for each of `frames` (T,): (index0, index1, share,
    present), each (T,).

    Between two labeled frames that both show the actor, they are number index0 and index1
    of the track's own, and share in (0,1) is the way from one to the other. Where only one
    neighboring labeled frame shows it, that label is held (index0 = index1), up to the
    frame beside the one that shows it absent; before the first and after the last labeled
    frame likewise. Not `present`: the labels say that the actor is not there. `labeled`:
    all labeled frames of the video, sorted.
    """
    right = np.searchsorted(labeled, frames)  # first labeled frame >= f
    left = np.searchsorted(labeled, frames, side="right") - 1  # last labeled frame <= f
    if len(tube.frames) == len(labeled):  # a tube's frames are all labeled
        index0, index1 = np.maximum(left, 0), np.minimum(right, len(labeled) - 1)
        index0, index1 = np.minimum(index0, index1), np.maximum(index0, index1)
        f0 = labeled[index0]
        share = (frames - f0) / np.maximum(labeled[index1] - f0, 1)
        share[(left < 0) | (right == len(labeled))] = 0
        return index0, index1, share, np.ones(len(frames), bool)
    place = np.minimum(np.searchsorted(tube.frames, labeled), len(tube.frames) - 1)
    shown = tube.frames[place] == labeled
    on_left = (left >= 0) & shown[np.maximum(left, 0)]
    on_right = (right < len(labeled)) & shown[np.minimum(right, len(labeled) - 1)]
    f0 = np.where(
        on_left, labeled[np.maximum(left, 0)], labeled[np.minimum(right, len(labeled) - 1)]
    )
    f1 = np.where(on_right, labeled[np.minimum(right, len(labeled) - 1)], f0)
    share = (frames - f0) / np.maximum(f1 - f0, 1)
    index0 = np.minimum(np.searchsorted(tube.frames, f0), len(tube.frames) - 1)
    index1 = np.minimum(np.searchsorted(tube.frames, f1), len(tube.frames) - 1)
    return index0, index1, np.where(on_left & on_right, share, 0), on_left | on_right


def dense_boxes(tube, labeled, frames):
    """Boxes of one track at `frames` (T,): (boxes (T,4) float64 half-open corners, present
    (T,) bool).

    Linear in the four corners between two labels, held elsewhere, see neighbors().
    """
    index0, index1, share, present = neighbors(tube, labeled, np.asarray(frames))
    boxes, share = tube.boxes.astype(np.float64), share[:, None]
    return boxes[index0] * (1 - share) + boxes[index1] * share, present


def dense_masks(tube, labeled, frames, interpolation=INTERPOLATION, pictures=None):
    """Masks of one track at `frames` (T,): (masks (T,H,W) bool, present (T,) bool).

    The rules are those of the boxes; what lies between two labels is one of mask_interp's
    METHODS. It looks at all labels of the track that no labeled frame without the actor
    separates. `pictures`: a function that returns all frames of the video, uint8 (F,H,W,3),
    which only `flow` calls; it warps a label on where the others hold it.
    """
    frames = np.asarray(frames)
    index0, index1, _, present = neighbors(tube, labeled, frames)
    masks = np.zeros((len(frames), *tube.masks.shape[1:]), bool)
    ready = present & (
        (index0 == index1) if interpolation != "flow" else np.isin(frames, tube.frames)
    )
    masks[ready] = tube.masks[index0[ready]]
    runs = np.searchsorted(
        np.setdiff1d(labeled, tube.frames), tube.frames
    )  # of labels without an absence between
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


def first_inside(corners):
    """Of any corner coordinates, the number of the first pixel whose center is not before
    it, int.
    """
    return np.ceil(corners - 0.5).astype(int)


def tube_masks(video, tube, frames, interpolation=INTERPOLATION, pictures=None):
    """(Pseudo-)label of one track at `frames` (T,): uint8 {0,1} (T,H,W). In a box is a
    pixel whose center is.
    """
    if tube.masks is not None:
        return dense_masks(tube, video.labeled_frames, frames, interpolation, pictures)[0].view(
            np.uint8
        )
    masks = np.zeros((len(frames), video.height, video.width), np.uint8)
    boxes, present = dense_boxes(tube, video.labeled_frames, frames)
    corners = first_inside(boxes)
    for t in np.flatnonzero(present):
        x0, y0, x1, y1 = corners[t]
        masks[t, max(y0, 0) : y1, max(x0, 0) : x1] = 1
    return masks


def pseudo_masks(video, frames, interpolation=INTERPOLATION, pictures=None):
    """Union of all actors' (pseudo-)labels, boxes or masks, at `frames` (T,): uint8 {0,1}
    (T,H,W).

    interpolation, pictures: for masks, see dense_masks; boxes are always linear.
    """
    masks = np.zeros((len(frames), video.height, video.width), np.uint8)
    for tube in video.tubes:
        masks |= tube_masks(video, tube, frames, interpolation, pictures)
    return masks


def clip_labels(video, frames, rows, columns, loss="stew", rule="paper", masks=None):
    """Pseudo-labels of a finished clip, and their weights: (target uint8 {0,1} (T,S,S),
    weight float32 (T,S,S)).

    frames (T,): frame numbers. rows, columns (S,): the pixel of the video that each pixel
    of the clip shows (see clips.sources). loss, rule: see clip_weight. masks: pseudo_masks
    at these frames, where the labels are masks.

    Between two neighboring edges of all boxes of the clip every pixel has one label and
    one weight, so these are made once for each such cell, a few hundred, and then spread
    over the pixels.
    """
    if masks is not None:
        target = masks.take(columns, 2).take(rows, 1)
        return target, clip_weight(target, video.labeled_frames, frames, loss, rule)
    cells, row_edges, column_edges = box_cells(video, frames)
    weights = clip_weight(cells, video.labeled_frames, frames, loss, rule)
    row_cells = np.searchsorted(row_edges, rows, side="right") - 1
    column_cells = np.searchsorted(column_edges, columns, side="right") - 1
    return tuple(values.take(column_cells, 2).take(row_cells, 1) for values in (cells, weights))


def box_cells(video, frames):
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
