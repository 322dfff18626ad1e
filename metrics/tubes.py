"""Tubes: one actor's boxes through the frames of a video. Their overlap, and the
suppression of doubles.

The overlap of two tubes is the mean IoU of their boxes over the frames they share, times
the temporal IoU, which is (shared frames) / (frames of either). The count of shared frames
cancels: it is the sum of the frames' IoUs divided by the number of frames of either tube.
Frames are sets, so a tube may have gaps.

Corners are inclusive, as everywhere in the `act` modules (see metrics.boxes). Letters: F frames
of a tube, T tubes, N rows (boxes of all tubes), P pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array

from claus.metrics.boxes import (
    EMPTY,
    common_keys,
    finite,
    ids,
    pair_blocks,
    pair_iou,
    whole_numbers,
)
from claus.metrics.greedy import NOBODY, suppress_in_turn

# of a tube IoU: a mean over frames that is a threshold exactly must not miss it by rounding
DECIMALS = 12


class Tube(NamedTuple):
    """One tube; a plain tuple or list of these fields in this order will do wherever tubes
    are asked for.

    video: whole number or name, of one kind in a list of tubes. label: class index. frames:
    (F,) whole numbers, strictly increasing, F >= 1. boxes: (F, 4) inclusive corners. score:
    finite, or None for ground truth.
    """

    video: object
    label: int
    frames: np.ndarray
    boxes: np.ndarray
    score: float | None = None


class TubeRows(NamedTuple):
    """Checked tubes laid out flat. Of each of T tubes: video, label, score (None without),
    length.

    Of each of N rows: tube (ascending), frame and box.
    """

    video_T: np.ndarray
    label_T: np.ndarray
    score_T: np.ndarray | None
    length_T: np.ndarray
    tube_N: np.ndarray
    frame_N: np.ndarray
    box_N_4: np.ndarray


def tube_rows(tubes: "Sequence[Tube] | TubeRows", scored: bool) -> TubeRows:
    """Check a list of tubes and lay it out flat -> TubeRows. scored: whether scores are
    needed. Raises ValueError.
    """
    if isinstance(tubes, TubeRows):
        return tubes
    tubes = [Tube(*tube) for tube in tubes]
    video_T = ids([tube.video for tube in tubes], "video")

    def where(i):
        return f"tube {i} (video {tubes[i].video}, class {tubes[i].label})"

    label_T = whole_numbers([tube.label for tube in tubes], "label", len(tubes))
    if len(tubes) and label_T.min() < 0:
        raise ValueError(
            f"{where(label_T.argmin())}: label {label_T.min()}; classes count from 0"
        )
    score_T = None
    if scored:
        missing = [i for i, tube in enumerate(tubes) if tube.score is None]
        if missing:
            raise ValueError(f"{where(missing[0])} has no score")
        score_T = finite([tube.score for tube in tubes], "score", (len(tubes),), where)
    frames, boxes = [], []
    for i, tube in enumerate(tubes):
        frames.append(np.asarray(tube.frames))
        boxes.append(np.asarray(tube.boxes, dtype=np.float64))
        n = frames[i].size
        if n == 0 or boxes[i].shape != (n, 4):
            raise ValueError(
                f"{where(i)}: give at least one frame, and a box (x0, y0, x1, y1) for each; "
                f"got frames {frames[i].shape} and boxes {boxes[i].shape}"
            )
    length_T = np.array([len(part) for part in frames], dtype=np.int64)
    tube_N = np.repeat(np.arange(len(tubes)), length_T)
    frame_N = whole_numbers(
        np.concatenate(frames) if frames else [], "frames of the tubes", len(tube_N)
    )
    box_N_4 = finite(
        np.concatenate(boxes) if boxes else [],
        "box",
        (len(tube_N), 4),
        lambda row: f"{where(tube_N[row])}, frame {frame_N[row]}",
    )
    step = (np.diff(frame_N) <= 0) & (np.diff(tube_N) == 0)
    if step.any():
        raise ValueError(f"{where(tube_N[step.argmax()])}: frames are not strictly increasing")
    return TubeRows(video_T, label_T, score_T, length_T, tube_N, frame_N, box_N_4)


def tube_iou(a: Tube, b: Tube, plus_one: bool = True) -> float:
    """IoU of two tubes, as float: mean box IoU over shared frames x temporal IoU; 0 without
    a shared frame.

    Video and class are not looked at. plus_one: see boxes.box_iou.
    """
    pair = [Tube(0, 0, *Tube(*tube)[2:4]) for tube in (a, b)]
    _, _, iou_P = tube_overlaps(
        tube_rows(pair[:1], False), tube_rows(pair[1:], False), plus_one
    )
    return float(iou_P.sum())


def tube_overlaps(
    a: TubeRows, b: TubeRows, plus_one: bool = True, later_only: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of tubes of one video and class with IoU > 0: tube of `a` (P,), tube of `b`
    (P,), their IoU (P,).

    a, b: TubeRows. Sorted by the tube of `a`, then that of `b`. later_only (with b = a):
    each pair once, the first tube before the second. The IoU is rounded to 12 decimals.
    """
    key_a, key_b = common_keys(
        *([t.video_T[t.tube_N], t.label_T[t.tube_N], t.frame_N] for t in (a, b))
    )
    found = [(EMPTY, EMPTY, np.zeros(0))]
    whole_tubes = np.concatenate([[0], np.cumsum(a.length_T)])
    for row_a, row_b in pair_blocks(key_a, key_b, whole_tubes):
        if later_only:
            later = a.tube_N[row_a] < b.tube_N[row_b]
            row_a, row_b = row_a[later], row_b[later]
        iou = pair_iou(a.box_N_4, b.box_N_4, row_a, row_b, plus_one)
        if len(iou):
            found.append(_summed(a, b, a.tube_N[row_a], b.tube_N[row_b], iou))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def _summed(a, b, tube_a, tube_b, iou):
    """Box IoUs of pairs of tubes -> (tube of a, tube of b, tube IoU) where IoU > 0, sorted."""
    start = tube_a[0]
    shape, where = (tube_a[-1] - start + 1, len(b.length_T)), (tube_a - start, tube_b)
    total, shared = (
        coo_array((values, where), shape).tocsr() for values in (iou, np.ones(len(iou)))
    )
    for matrix in (total, shared):
        matrix.sum_duplicates()  # sorts as well: both hold the same pairs in the same order
    i = np.repeat(np.arange(start, start + shape[0]), np.diff(total.indptr))
    j = total.indices.astype(np.int64)
    value = np.round(total.data / (a.length_T[i] + b.length_T[j] - shared.data), DECIMALS)
    return i[value > 0], j[value > 0], value[value > 0]


def tube_nms(
    tubes: Sequence[Tube] | TubeRows, threshold: float = 0.3, plus_one: bool = True
) -> np.ndarray:
    """Suppress doubles, per video and class: the numbers of the tubes that are kept,
    ascending.

    By descending score (ties: the earlier in the list), a tube is kept unless its IoU with
    a kept one is > threshold. tubes: list of Tube, with scores; or TubeRows.
    """
    rows = tube_rows(tubes, scored=True)
    order = np.argsort(-rows.score_T, kind="stable")
    rank_T = np.empty_like(order)
    rank_T[order] = np.arange(len(order))
    i, j, iou = tube_overlaps(rows, rows, plus_one, later_only=True)
    rivals = iou > threshold
    rank_i, rank_j = rank_T[i[rivals]], rank_T[j[rivals]]
    by = suppress_in_turn(np.minimum(rank_i, rank_j), np.maximum(rank_i, rank_j), len(order))
    return np.sort(order[by == NOBODY])
