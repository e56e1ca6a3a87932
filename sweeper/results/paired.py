"""Paired comparison of two configurations on the same seeds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sweeper.types import Floats

SKEWED, SKEWED_FROM = 1.0, 16  # largest |skewness| at which an interval of t is trusted; differences it needs


class Paired(NamedTuple):
    """A t test of differences on equal seeds, for one pair (scalars) or many (arrays).

    Attributes:
        n: Seeds on which both ended.
        mean: Mean difference; NaN if `n` is 0.
        sd: Standard deviation of the differences; NaN if `n` is below 2.
        t: Statistic on n - 1 degrees of freedom; infinite if all differences are equal.
        p: Two-sided p value.
    """

    n: Floats
    mean: Floats
    sd: Floats
    t: Floats
    p: Floats


def paired(difference_S: Floats) -> Paired:
    """Test whether the mean difference is 0.

    If all differences are equal, p is that of the sign test, 2^(1-n), or 1 if they are 0.

    Args:
        difference_S: Differences, shape (..., S). NaN where one of the two did not end.
    """
    from scipy.special import stdtr

    is_there = ~np.isnan(difference_S)
    n = is_there.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(is_there, difference_S, 0.0).sum(-1) / n
        deviation_S = np.where(is_there, difference_S - mean[..., None], 0.0)
        sd = np.sqrt((deviation_S**2).sum(-1) / np.where(n > 1, n - 1, np.nan))
        t = mean * np.sqrt(n) / sd
        p = np.where(sd > 0, 2 * stdtr(n - 1.0, -np.abs(t)), np.where(mean == 0, 1.0, 2.0 ** (1.0 - n)))
    return Paired(n, mean, sd, t, np.where(n > 1, p, 1.0))


def interval(test: Paired, level: float) -> tuple[float, float]:
    """Return the confidence interval of one mean difference at confidence 1 - level; infinite below two seeds."""
    from scipy.stats import t

    if test.n < 2:
        return -math.inf, math.inf
    half = float(t.isf(level / 2, test.n - 1) * test.sd / math.sqrt(test.n))
    return float(test.mean) - half, float(test.mean) + half


def is_skewed(difference_S: Floats) -> bool:
    """Return whether differences of one pair, shape (S,), are so skewed that the interval may be too short."""
    from scipy.stats import skew

    kept_S = difference_S[~np.isnan(difference_S)]
    return len(kept_S) >= SKEWED_FROM and bool(np.ptp(kept_S) > 0) and abs(float(skew(kept_S))) > SKEWED


def seeds_to_decide(mean: float, sd: float, alpha: float, power: float) -> float:
    """Return how many seeds a single two-sided test at `alpha` needs to detect this mean difference with that power.

    Source:
        J. Cohen, Statistical Power Analysis, 1988, ch. 2, in its normal approximation.
    """
    from scipy.stats import norm

    return math.inf if mean == 0 else float(((norm.isf(alpha / 2) + norm.isf(1 - power)) * sd / mean) ** 2)
