"""The first points of every family: one scrambled Sobol sequence, whose coordinates go by the hyperparameters' names.

So all families begin with the same peak LRs and warmups, each in its own range, and no family or hyperparameter that is
added moves the draws of another.

Source:
    I. M. Sobol, 1967, with the scrambling of J. Matoušek, 1998 (`scipy.stats.qmc.Sobol`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sweeper.types import Floats, seed_of

COUNT = 8
COORDINATES = 256  # drawn at once, because scrambling a coordinate depends on how many there are
PLACES = {"peak_lr": 0, "warmup": 1, "decay": 2, "cycle": 3, "cooldown": 3}
FIRST_OTHER = 4


def coordinates(names: Iterable[str]) -> dict[str, int]:
    """Return the coordinate of each hyperparameter of a family.

    Those of optimizer and model, which all families have and which have a dot in their names, come before the family's
    own, each in alphabetical order.
    """
    names = list(names)
    places = {name: PLACES[name] for name in names if name in PLACES}
    if len(set(places.values())) < len(places):  # cycle and cooldown in one family
        del places["cooldown"]
    others = sorted((name for name in names if name not in places), key=lambda name: ("." not in name, name))
    return {**places, **{name: FIRST_OTHER + place for place, name in enumerate(others)}}


@lru_cache(maxsize=8)
def unit_points(seed: int) -> Floats:
    """Return the points of a sweep in the unit cube, float64 [COUNT, COORDINATES], each coordinate in (0, 1)."""
    import numpy as np
    from scipy.stats import qmc

    points: Floats = qmc.Sobol(COORDINATES, rng=np.random.default_rng(seed_of(seed, "first draws"))).random(COUNT)
    return points.clip(np.finfo(float).tiny, np.nextafter(1.0, 0.0))


def draw(seed: int, number: int, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return one of the first points of a family as Optuna stores it.

    Args:
        seed: `search.seed`.
        number: Which point, from 0.
        distributions: The searched hyperparameters.
    """
    point = unit_points(seed)[number]
    return {name: value_at(distributions[name], float(point[k])) for name, k in coordinates(distributions).items()}


def value_at(distribution: BaseDistribution, share: float) -> Any:
    """Return the value below which `share` of a distribution lies: uniform, in the logarithm if `log`.

    Args:
        distribution: The distribution.
        share: In (0, 1).
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None and not distribution.log:
        value = low + step * int(share * (round((high - low) / step) + 1))
    else:
        half = 0.5 if isinstance(distribution, IntDistribution) else 0.0  # a whole number has a cell around it
        ends = (math.log(low - half), math.log(high + half)) if distribution.log else (low, high)
        value = ends[0] + share * (ends[1] - ends[0])
        value = math.exp(value) if distribution.log else value
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


class PointSampler(BaseSampler):
    """Proposes a given point, as Optuna stores it."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self._point = point

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._point[param_name]
