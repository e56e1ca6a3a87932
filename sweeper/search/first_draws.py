"""Points that all families share: of one sequence in the unit cube, whose coordinates go by the hyperparameters' names.

So all families try the same peak LRs and warmups, each in its own range, and no family or hyperparameter that is added
moves the draws of another.

Source:
    I. M. Sobol, 1967, with the scrambling of J. Matoušek, 1998 (`scipy.stats.qmc.Sobol`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sweeper.search.space import Scalar
from sweeper.types import Floats, seed_of

COUNT = 8  # of the first draws of a sampler that learns
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


@dataclass(frozen=True)
class Sequence:
    """A sequence of points in the unit cube of COORDINATES dimensions.

    Attributes:
        kind: "random", or the quasi-random "sobol" or "halton".
        seed: `search.seed`.
        scramble: Whether a quasi-random one is scrambled.
    """

    kind: str
    seed: int
    scramble: bool = True

    def point(self, number: int) -> Floats:
        """Return a point, float64 [COORDINATES], each coordinate in (0, 1).

        Args:
            number: Which one, from 0. No point depends on how many are drawn.
        """
        if self.kind == "random":
            point = np.random.default_rng(seed_of(self.seed, "random", number)).random(COORDINATES)
        else:
            point = _quasi_random(self, 1 << max(COUNT - 1, number).bit_length())[number]
        return point.clip(np.finfo(float).tiny, np.nextafter(1.0, 0.0))

    def draw(self, number: int, distributions: Mapping[str, BaseDistribution]) -> dict[str, Scalar]:
        """Return a point of a family as Optuna stores it.

        Args:
            number: Which one, from 0.
            distributions: The searched hyperparameters.
        """
        point = self.point(number)
        return {name: value_at(distributions[name], float(point[k])) for name, k in coordinates(distributions).items()}


@lru_cache(maxsize=8)
def _quasi_random(sequence: Sequence, count: int) -> Floats:
    """Return the first points of a quasi-random sequence, float64 [count, COORDINATES]."""
    from scipy.stats import qmc

    engine = qmc.Halton if sequence.kind == "halton" else qmc.Sobol
    rng = np.random.default_rng(seed_of(sequence.seed, "first draws"))
    points: Floats = engine(COORDINATES, scramble=sequence.scramble, rng=rng).random(count)
    return points


def value_at(distribution: BaseDistribution, share: float) -> Scalar:
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

    def __init__(self, point: Mapping[str, Scalar]) -> None:
        self._point = point

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Scalar]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._point[param_name]
