"""Boxes in the frames of videos, and the sparse lists of box pairs on which the `act`
protocol works.

**Corners.** Everywhere in the `act` modules a box is x0, y0, x1, y1 with **inclusive**
corners, as the detection field writes them: the box of one pixel has x1 = x0, and its width
is x1 - x0 + 1. The rest of the project has half-open corners, one larger at the far end;
`inclusive_corners` is the one place where they become inclusive.

A video of 900 frames with 20 boxes in each never needs a table of all against all: only
boxes of the same video, frame and class can meet, so everything is lists of index pairs,
made by `same_key_pairs`, and numbers beside them.

Letters: N boxes (or rows), P pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

BLOCK = 1 << 18  # pairs whose corners are looked up at one time
MAX_PAIRS = 1 << 21  # pairs listed at one time
EMPTY = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes, one a row, in any order; lists will do, arrays are kept as they are.

    video: (N,) whole numbers or names; for millions of boxes number the videos, names cost
    time and memory. frame: (N,) whole numbers, counted from anywhere. label: (N,) class
    indices, from 0. box: (N, 4) x0, y0, x1, y1, inclusive corners, in any unit. score: (N,)
    finite numbers, or None for ground truth. Raises ValueError naming the row for what is
    not finite, negative labels, and columns that do not fit together.
    """

    video: np.ndarray
    frame: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray | None = None

    def __post_init__(self):
        n = len(self.video)
        put = object.__setattr__
        put(self, "video", ids(self.video, "video"))
        put(self, "frame", whole_numbers(self.frame, "frame", n))
        put(self, "label", whole_numbers(self.label, "label", n))
        put(self, "box", finite(self.box, "box", (n, 4), self._where))
        if self.score is not None:
            put(self, "score", finite(self.score, "score", (n,), self._where))
        if n and self.label.min() < 0:
            raise ValueError(
                f"{self._where(self.label.argmin())}: label {self.label.min()}; "
                f"classes count from 0"
            )

    def _where(self, i):
        return f"box {i} (video {self.video[i]}, frame {self.frame[i]}, class {self.label[i]})"

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: slice | np.ndarray) -> "Boxes":
        """The boxes of the given row numbers, slice or mask."""
        return Boxes(*(None if column is None else column[rows] for column in self.columns()))

    def columns(self) -> list[np.ndarray | None]:
        """video, frame, label, box, score: the five arrays."""
        return [getattr(self, field.name) for field in fields(self)]

    @classmethod
    def from_rows(cls, rows: Sequence, scored: bool) -> "Boxes":
        """From a list of rows: video, frame, class, [score if `scored`,] x0, y0, x1, y1
        (inclusive corners).
        """
        width = 8 if scored else 7
        if any(len(row) != width for row in rows):
            raise ValueError(
                f"rows of {'detections' if scored else 'ground truth'} have {width} fields"
            )
        columns = [list(column) for column in zip(*rows, strict=True)]
        if not columns:
            columns = [[] for _ in range(width)]
        box = np.array(columns[-4:], dtype=float).T.reshape(-1, 4)
        return cls(*columns[:3], box, columns[3] if scored else None)

    @classmethod
    def concat(cls, parts: Sequence["Boxes"], scored: bool) -> "Boxes":
        """Join many Boxes into one, in their order; none at all give an empty one. Scores
        are kept if `scored`.
        """
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.from_rows([], scored)
        kept = 5 if scored else 4
        columns = zip(*(part.columns()[:kept] for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


def inclusive_corners(boxes_N_4: np.ndarray) -> np.ndarray:
    """Half-open corners [x0, x1) x [y0, y1) -> inclusive corners, (N, 4) float64: one less
    at the far end.

    With `plus_one` areas and IoU of the result are exactly those of the half-open boxes.
    This is the one place where the project's boxes become those of the `act` protocol.
    """
    return np.asarray(boxes_N_4, dtype=np.float64).reshape(-1, 4) - (0, 0, 1, 1)


def box_iou(a_P_4: np.ndarray, b_P_4: np.ndarray, plus_one: bool = True) -> np.ndarray:
    """IoU of box i of `a` with box i of `b`, (P,) float64 in [0, 1]; either may be one box,
    (4,), for all.

    Inclusive corners. plus_one: width is x1 - x0 + 1; without, it is x1 - x0, what
    half-open corners would ask for. A box without area has IoU 0 with everything.
    """
    a, b = (np.moveaxis(np.asarray(boxes, dtype=np.float64), -1, 0) for boxes in (a_P_4, b_P_4))
    one = float(plus_one)

    def area(x0, y0, x1, y1):
        return np.maximum(x1 - x0 + one, 0) * np.maximum(y1 - y0 + one, 0)

    inter = area(*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:]))
    union = area(*a) + area(*b) - inter
    return inter / np.where(inter > 0, union, 1)


def pair_iou(
    a_N_4: np.ndarray,
    b_M_4: np.ndarray,
    a_P: np.ndarray,
    b_P: np.ndarray,
    plus_one: bool = True,
) -> np.ndarray:
    """IoU of the pairs (a_P[i], b_P[i]) of two lists of boxes, (P,) float64, with little
    memory beside the result.
    """
    iou_P = np.empty(len(a_P))
    for start in range(0, len(a_P), BLOCK):
        part = slice(start, start + BLOCK)
        iou_P[part] = box_iou(a_N_4[a_P[part]], b_M_4[b_P[part]], plus_one)
    return iou_P


def same_key_pairs(key_N: np.ndarray, key_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with key_N[i] == key_M[j]: two (P,) arrays, sorted by i, then j."""
    blocks = list(pair_blocks(key_N, key_M))
    if not blocks:
        return EMPTY, EMPTY
    return tuple(np.concatenate(part) for part in zip(*blocks, strict=True))


def pair_blocks(
    key_N: np.ndarray, key_M: np.ndarray, edges: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs of `same_key_pairs` in consecutive blocks of at most MAX_PAIRS, if the
    edges allow it.

    edges: the rows i at which a new block may begin, ascending from 0 to N; every row by
    default.
    """
    edges = np.arange(len(key_N) + 1) if edges is None else edges
    order_M = np.argsort(key_M, kind="stable")
    sorted_M = key_M[order_M]
    low_N = np.searchsorted(sorted_M, key_N, "left")
    count_N = np.searchsorted(sorted_M, key_N, "right") - low_N
    before_N = np.concatenate([[0], np.cumsum(count_N)])  # pairs before each row
    before = before_N[edges]
    start = 0
    while start < len(edges) - 1:
        stop = max(start + 1, np.searchsorted(before, before[start] + MAX_PAIRS, "right") - 1)
        rows = slice(edges[start], edges[stop])
        i_P = np.repeat(np.arange(rows.start, rows.stop), count_N[rows])
        place_P = np.arange(before[start], before[stop]) + (low_N - before_N[:-1])[i_P]
        yield i_P, order_M[place_P]
        start = stop


def common_keys(*tables: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One int64 key a row for tables of columns: rows are equal, in whichever table,
    exactly if their keys are.

    tables: lists of columns, as many in each table, (N,) arrays; N differs between tables.
    Keys sort as the rows do.
    """
    lengths = [len(table[0]) for table in tables]
    key = np.zeros(sum(lengths), dtype=np.int64)
    for columns in zip(*tables, strict=True):
        column = np.concatenate(columns)
        whole = column.dtype.kind in "iu" and len(column)
        if whole and int(column.max()) - int(column.min()) < 1 << 20:
            # numbers that lie close need no sorting
            code = (column - column.min()).astype(np.int64)
        else:
            code = np.unique(column, return_inverse=True)[1]
        key = key * (int(code.max(initial=0)) + 1) + code
    return np.split(key, np.cumsum(lengths)[:-1])


# ----------------------------------------------------------------------------------- checks


def ids(values: Sequence, what: str) -> np.ndarray:
    """Video names or numbers as an array (N,); ValueError for anything else."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.reshape(-1).astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise ValueError(
            f"{what}: give one whole number or one name a row, not {array.dtype} {array.shape}"
        )
    return array


def whole_numbers(values: Sequence, what: str, n: int) -> np.ndarray:
    """Whole numbers as a signed array (n,); ValueError for other kinds and lengths."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.reshape(-1).astype(np.int64)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise ValueError(f"{what}: give {n} whole numbers, not {array.dtype} {array.shape}")
    return array.astype(np.int64) if array.dtype.kind == "u" else array


def finite(
    values: Sequence, what: str, shape: tuple[int, ...], where: Callable[[int], str]
) -> np.ndarray:
    """Finite floats of the given shape; ValueError for others. where: function of the row
    number, names the row.
    """
    array = np.asarray(values)
    if array.size == 0 and 0 in shape:
        array = np.zeros(shape)
    if array.shape != shape or array.dtype.kind not in "iuf":
        raise ValueError(
            f"{what}: give numbers of shape {shape}, not {array.dtype} {array.shape}"
        )
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    good = np.isfinite(array)
    if not good.all():
        i = int(good.reshape(len(array), -1).all(axis=1).argmin())
        raise ValueError(f"{where(i)}: {what} {array[i].tolist()} is not finite")
    return array
