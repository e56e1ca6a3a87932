"""How small a difference of two schedules a comparison on fresh seeds could find.

The comparison: the winners of the families are trained again on n fresh seeds, the same for all. The differences to the
one they are compared with, seed by seed, go through a two-sided t test on n - 1 degrees of freedom, and the p values
through Holm's correction, whose first step, the hardest, tests at level / comparisons (S. Holm, 1979).

Assumed: the differences are normal, with a standard deviation that is the unit of the gap. Where the two trainings of
a seed have nothing in common, it is sqrt(2) times the spread of one training over seeds; equal initialisation and
equal batches only make it smaller.
"""

from __future__ import annotations

import math
from functools import lru_cache

from sweeper.types import Floats

LEVEL, POWER = 0.05, 0.8
QUANTILES = 400  # nodes of a quadrature


def smallest_gap(seeds: int, comparisons: int = 1, *, level: float = LEVEL, power: float = POWER) -> float:
    """The mean difference, in standard deviations of a paired difference, that is found with that power.

    Its test statistic follows a noncentral t distribution with noncentrality gap * sqrt(seeds) (J. Cohen, Statistical
    Power Analysis, 1988, ch. 2); solved for the gap. Infinite with fewer than two seeds.
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
    """The chance that |t| exceeds the critical value.

    t = (Z + noncentrality) / s, Z standard normal, s^2 chi-squared / freedom: Z integrated by hand, s by quadrature
    over its quantiles (scipy.stats.nct is NaN far out, where few seeds and many comparisons lead).
    """
    from scipy.special import ndtr

    s_K, weights_K = _scale_quantiles(freedom)
    beyond_K = ndtr(noncentrality - critical * s_K) + ndtr(-noncentrality - critical * s_K)
    return float(weights_K @ beyond_K)


@lru_cache(maxsize=32)
def _scale_quantiles(freedom: int) -> tuple[Floats, Floats]:
    """Quantiles of s and their weights, which sum to 1."""
    import numpy as np
    from scipy.special import gammaincinv

    nodes_K, weights_K = np.polynomial.legendre.leggauss(QUANTILES)
    return np.sqrt(2 * gammaincinv(freedom / 2, (nodes_K + 1) / 2) / freedom), weights_K / 2
