"""How well what a detector sees in one frame agrees with what a person has labeled there,
and an interval for the mean of few such numbers.

Letters: L labeled actors, D detected ones, N videos.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

LEVEL = 0.8  # of every interval that people are shown


def box_table(labels_L_4: np.ndarray, found_D_4: np.ndarray) -> np.ndarray:
    """IoU (L, D) of half-open boxes x0, y0, x1, y1; 0 where a box has no area."""
    a = np.asarray(labels_L_4, np.float64).reshape(-1, 1, 4)
    b = np.asarray(found_D_4, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.maximum(sides, 0).prod(axis=-1)
    union = _area(a) + _area(b) - both
    return both / np.where(both > 0, union, 1)


def mask_table(labels_L_H_W: np.ndarray, found_D_H_W: np.ndarray) -> np.ndarray:
    """IoU (L, D) of masks, bool; 0 where both are empty."""
    a, b = np.asarray(labels_L_H_W, bool), np.asarray(found_D_H_W, bool)
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    flat_a = a.reshape(len(a), -1).astype(np.float64)
    flat_b = b.reshape(len(b), -1).astype(np.float64)
    both = flat_a @ flat_b.T
    union = flat_a.sum(1)[:, None] + flat_b.sum(1)[None] - both
    return both / np.where(union > 0, union, 1)


def match(iou_L_D: np.ndarray) -> np.ndarray:
    """Which detection belongs to each labeled actor, (L,) int64, -1 for none: one to one,
    so that the sum of their IoU is largest. Only pairs that overlap are matched.
    """
    iou = np.asarray(iou_L_D, np.float64)
    found_L = np.full(len(iou), -1, np.int64)
    rows, columns = linear_sum_assignment(-iou)
    overlap = iou[rows, columns] > 0
    found_L[rows[overlap]] = columns[overlap]
    return found_L


def frame_agreement(iou_L_D: np.ndarray) -> float:
    """Of one frame, in [0, 1]: the sum of the IoU of matched pairs, divided by the number of
    different actors that person or detector saw. 1 where neither saw any.

    A missed actor and a false one count alike, as 0.
    """
    iou = np.asarray(iou_L_D, np.float64)
    found_L = match(iou)
    matched = np.flatnonzero(found_L >= 0)
    actors = iou.shape[0] + iou.shape[1] - len(matched)
    return float(iou[matched, found_L[matched]].sum() / actors) if actors else 1.0


def mean_interval(mean: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """An interval for the mean of `count` independent numbers in [0, 1], by Wilson's formula
    (Wilson, JASA 1927) for shares.

    Of all variables in [0, 1] of a given mean the share of successes varies most, so for
    other numbers the interval is rather too wide than too narrow; and it has a width where
    all numbers are the same, or where there is one. ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"a mean of {count} numbers has no interval")
    z = float(norm.ppf((1 + level) / 2))
    middle = (mean + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(mean * (1 - mean) / count + z**2 / (4 * count**2))
    return float(max(middle - half, 0)), float(min(middle + half, 1))


def _area(boxes):
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)
