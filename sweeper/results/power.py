"""The smallest difference between two schedules that a comparison on fresh seeds can detect.

The comparison: the winner of each family is trained again on the same n fresh seeds. Its differences from the reference
family, seed by seed, go through a two-sided t test with n - 1 degrees of freedom. Holm's correction is applied to the
p values. Its first and strictest step tests at level / comparisons (S. Holm, 1979).

Assumption: the differences are normal. The gap is in units of their standard deviation. If the two trainings of a seed
were independent, it would be sqrt(2) times the spread of one training over seeds. Equal initial weights and equal
batches only reduce it.
"""

from __future__ import annotations

import math
from functools import lru_cache

from sweeper.types import Floats

LEVEL, POWER = 0.05, 0.8
QUANTILES = 400  # nodes of the quadrature


def smallest_gap(seeds: int, comparisons: int = 1, *, level: float = LEVEL, power: float = POWER) -> float:
    """Return the smallest mean difference that the comparison detects with probability `power`.

    The test statistic follows a noncentral t distribution with noncentrality gap * sqrt(seeds), solved for the gap.

    Args:
        seeds: Fresh seeds of each winner.
        comparisons: Families that are compared with the reference.
        level: Significance level of all comparisons together.
        power: Probability of detection.

    Returns:
        The gap in standard deviations of a paired difference. Infinite with fewer than two seeds.

    Source:
        J. Cohen, Statistical Power Analysis, 1988, ch. 2.
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    if seeds < 2:
        return math.inf
    critical = float(t.isf(level / comparisons / 2, seeds - 1))
    reach = 1.0
    while detection_probability(reach, critical, seeds - 1) < power:
        reach *= 2
    noncentrality: float = brentq(lambda nc: detection_probability(nc, critical, seeds - 1) - power, 0.0, reach)
    return noncentrality / math.sqrt(seeds)


def detection_probability(noncentrality: float, critical: float, freedom: int) -> float:
    """Return the probability that |t| exceeds the critical value.

    t = (Z + noncentrality) / s, where Z is standard normal and s^2 is chi-squared / freedom. The integral over Z is
    closed, the one over s is a quadrature over its quantiles. `scipy.stats.nct` is NaN at the large critical values of
    few seeds and many comparisons.

    Args:
        noncentrality: The gap times sqrt(seeds).
        critical: The critical value of t.
        freedom: Degrees of freedom.
    """
    from scipy.special import ndtr

    s_K, weights_K = _scale_quantiles(freedom)
    beyond_K = ndtr(noncentrality - critical * s_K) + ndtr(-noncentrality - critical * s_K)
    return float(weights_K @ beyond_K)


@lru_cache(maxsize=32)
def _scale_quantiles(freedom: int) -> tuple[Floats, Floats]:
    """Return quantiles of s, and weights that sum to 1."""
    import numpy as np
    from scipy.special import gammaincinv

    nodes_K, weights_K = np.polynomial.legendre.leggauss(QUANTILES)
    return np.sqrt(2 * gammaincinv(freedom / 2, (nodes_K + 1) / 2) / freedom), weights_K / 2
