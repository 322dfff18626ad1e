"""What more labels may bring: an interval from the learning curve so far.

The error 1 - s is taken to fall as a power of the number of labeled frames, e(n) = a n^-b
(Hestness et al., Deep Learning Scaling is Predictable, Empirically, 2017): a straight line
in logarithms, fit by least squares. The interval is the usual prediction interval of such a
line (Student's t, two parameters), for one further point measured as those before were.

Three points leave one degree of freedom, and may lie on a line by luck. So the interval is
never narrower than what the points' own intervals say of their noise (normal distribution).

Letters: P points.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, t

from claus.metrics.agreement import LEVEL

LEAST = 3  # points
SMALLEST = 1e-3  # error; a score of 1 has no logarithm


def predict_score(
    frames_P: Sequence[float],
    scores_P: Sequence[float],
    intervals_P_2: Sequence[tuple[float, float]],
    frames: float,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """(low, high) in [0, 1] between which the score at `frames` labeled frames lies with
    probability `level`, if the curve goes on as it has; None for fewer than three points, or
    for points with the same number of frames.

    scores_P: in [0, 1]. intervals_P_2: of the same level. ValueError for frames below 1.
    """
    n_P, s_P = np.asarray(frames_P, np.float64), np.asarray(scores_P, np.float64)
    if frames < 1 or (n_P < 1).any():
        raise ValueError("a learning curve begins with one labeled frame")
    points = len(n_P)
    if points < LEAST or np.ptp(n_P) == 0:
        return None
    x_P, error_P = np.log(n_P), np.clip(1 - s_P, SMALLEST, 1)
    y_P = np.log(error_P)
    centered_P = x_P - x_P.mean()
    slope = float(centered_P @ y_P / (centered_P @ centered_P))
    residual_P = y_P - y_P.mean() - slope * centered_P
    half_P = np.diff(np.asarray(intervals_P_2, np.float64), axis=1)[:, 0] / 2
    noise_P = half_P / norm.ppf((1 + level) / 2) / error_P  # of the logarithm
    away = np.log(frames) - x_P.mean()
    middle = y_P.mean() + slope * away
    spread = np.sqrt(residual_P @ residual_P / (points - 2))
    from_line = t.ppf((1 + level) / 2, points - 2) * spread
    from_points = norm.ppf((1 + level) / 2) * np.sqrt(np.mean(noise_P**2))
    growth = np.sqrt(1 + 1 / points + away**2 / (centered_P @ centered_P))
    reach = max(from_line, from_points) * growth
    low, high = 1 - np.exp([middle + reach, middle - reach])
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
