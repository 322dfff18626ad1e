"""Means over seeds, paired differences with their confidence intervals, tests and Holm."""

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


@dataclass(frozen=True)
class Test:
    """A mean of n paired differences against 0, by Student's t.

    half: half-width of its 95% interval · p: two-sided, not adjusted · margin: the smallest
    margin of equivalence that was reached: two one-sided tests at 5% put the difference
    within ± margin (Schuirmann 1987). NaN for one pair; p and margin also where all
    differences are equal, for scores are rounded.
    """

    mean: float
    half: float
    p: float
    margin: float
    n: int


def paired_test(differences):
    """Test of differences, one a seed; None where there is none."""
    mean = mean_of(differences)
    if mean is None:
        return None
    if mean.n == 1 or mean.std < 1e-9:
        return Test(mean.mean, mean.half, math.nan, math.nan, mean.n)
    from scipy.stats import t  # here: scipy.stats takes a second to import

    error, freedom = mean.std / math.sqrt(mean.n), mean.n - 1
    p = 2 * float(t.sf(abs(mean.mean) / error, freedom))
    margin = abs(mean.mean) + float(t.ppf(0.95, freedom)) * error
    return Test(mean.mean, mean.half, p, margin, mean.n)


def holm(p_values, comparisons=None):
    """p-values adjusted for the number of comparisons (Holm 1979), in the given order; NaN
    stays NaN.

    comparisons: of the whole family, where some have no p-value yet (default: those given).
    The smallest is multiplied by their number, the next by one less, ..., none below the one
    before, none above 1.
    """
    p_values = np.asarray(p_values, float)
    count = len(p_values) if comparisons is None else comparisons
    if count < len(p_values):
        raise ValueError(f"{len(p_values)} p-values are more than {count} comparisons")
    adjusted, least = np.full(len(p_values), np.nan), 0.0
    known = np.flatnonzero(~np.isnan(p_values))
    for rank, place in enumerate(known[np.argsort(p_values[known], kind="stable")]):
        least = max(least, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted
