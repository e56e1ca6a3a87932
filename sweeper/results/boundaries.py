"""Significance levels for repeated looks at growing data: how small a p value must be at each look.

After a share t of the seeds, the error probability alpha * t has been spent. The score of a comparison of two equals is
a Brownian motion in t. Its density, as far as no earlier look has stopped it, is carried from look to look by
quadrature.

Source:
    P. Armitage, C. K. McPherson, B. C. Rowe, Repeated significance tests on accumulating data, 1969 (the recursion); K.
    K. G. Lan, D. L. DeMets, Discrete sequential boundaries for clinical trials, 1983 (the spending).
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from sweeper.types import Floats

NODES = 201  # of the quadrature over the score
FAR = 40.0  # standard deviations beyond which no boundary lies


@lru_cache(maxsize=256)
def nominal_levels(alpha: float, looks: tuple[int, ...]) -> tuple[float, ...]:
    """Return the two-sided level at which a p value is significant at each look.

    Args:
        alpha: The error probability of all looks together, in (0, 1).
        looks: Numbers of seeds, increasing. The last one is the most.

    Returns:
        One level for each look.
    """
    import numpy as np
    from scipy.stats import norm

    shares = [look / looks[-1] for look in looks]
    z_L = [float(norm.isf(alpha * shares[0] / 2))]
    going_on = _Score(0.0, np.zeros(1), np.ones(1))
    for now, following in pairwise(shares):
        going_on = _carry(going_on, now, z_L[-1])
        z_L.append(_boundary(going_on, following, alpha * (following - now)))
    return tuple(float(2 * norm.sf(z)) for z in z_L)


class _Score(NamedTuple):
    """The distribution of the score, of what has not been stopped.

    Attributes:
        share: Share of the seeds.
        value_N: Nodes.
        mass_N: Probability at each node. Their sum falls from look to look.
    """

    share: float
    value_N: Floats
    mass_N: Floats


def _carry(score: _Score, share: float, z: float) -> _Score:
    """Return the distribution at a later look, of what lies within +-z there."""
    import numpy as np
    from scipy.stats import norm

    unit_N, weight_N = np.polynomial.legendre.leggauss(NODES)
    edge, step = z * math.sqrt(share), math.sqrt(share - score.share)
    value_N = edge * unit_N
    density_N = norm.pdf(value_N[:, None], loc=score.value_N, scale=step) @ score.mass_N
    return _Score(share, value_N, edge * weight_N * density_N)


def _boundary(score: _Score, share: float, spent: float) -> float:
    """Return the z beyond which the score lies at a later look with probability `spent`."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    step = math.sqrt(share - score.share)

    def excess(z: float) -> float:
        edge = z * math.sqrt(share)
        beyond_N = norm.sf(edge, loc=score.value_N, scale=step) + norm.cdf(-edge, loc=score.value_N, scale=step)
        return float(score.mass_N @ beyond_N) - spent

    return float(brentq(excess, 0.0, FAR, xtol=1e-12))
