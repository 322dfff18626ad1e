"""Means over seeds, and paired differences with their confidence intervals."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mean:
    """Mean over n values, their sample standard deviation (NaN for one), and the half-width
    of the 95% interval of the mean by Student's t (NaN for one).
    """

    mean: float
    std: float
    half: float
    n: int


def mean_of(values):
    """Mean of the values that are numbers; None where none is."""
    kept = np.array(
        [value for value in values if value is not None and not math.isnan(value)], float
    )
    if not len(kept):
        return None
    if len(kept) == 1:
        return Mean(float(kept[0]), math.nan, math.nan, 1)
    from scipy.stats import t  # here: scipy.stats takes a second to import

    std = float(kept.std(ddof=1))
    return Mean(
        float(kept.mean()),
        std,
        float(t.ppf(0.975, len(kept) - 1)) * std / math.sqrt(len(kept)),
        len(kept),
    )


def paired_difference(values, others):
    """Mean of values - others over the seeds both have: dicts of seed to number -> Mean, or
    None.
    """
    return mean_of(
        [
            values[seed] - others[seed]
            for seed in sorted(values.keys() & others.keys(), key=str)
            if values[seed] is not None and others[seed] is not None
        ]
    )
