"""Points that all families share: coordinates of one point of the unit cube, which go by the hyperparameters' names.

Families then try the same peak LRs and warmups, each in its own range, so that less of the difference between their
results is luck. No family or hyperparameter that is added moves the draws of another family.

The points are those of one scrambled Sobol sequence (the first draws of a model-based sampler, and every draw of
`qmc`), or independent of each other (every draw of `random`).

Source:
    I. M. Sobol, 1967, with the scrambling of J. Matoušek, 1998 (`scipy.stats.qmc.Sobol`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sweeper.types import Floats, seed_of

COUNT = 8
COORDINATES = 256  # drawn at once, because scrambling a coordinate depends on how many there are
PLACES = {"peak_lr": 0, "warmup": 1, "decay": 2, "cycle": 3, "cooldown": 3}
FIRST_OTHER = 4
PRECISION = 2.0**-53  # smallest coordinate, so that none is 0


def count(n_trials: int) -> int:
    """Return how many of the first draws of a family are shared: eight, or half of a small search."""
    return min(COUNT, max(1, n_trials // 2))


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


@lru_cache(maxsize=64)
def unit_point(
    seed: int, number: int, sequence: Literal["sobol", "halton"] = "sobol", *, scramble: bool = True
) -> Floats:
    """Return a point of a quasi-random sequence, float64 [COORDINATES], each coordinate in (0, 1).

    Args:
        seed: `search.seed`.
        number: Which point, from 0.
        sequence: The sequence.
        scramble: Whether it depends on the seed.
    """
    import numpy as np
    from scipy.stats import qmc

    kind = qmc.Sobol if sequence == "sobol" else qmc.Halton
    points = kind(COORDINATES, scramble=scramble, rng=np.random.default_rng(seed_of(seed, "first draws")))
    if number:
        points.fast_forward(number)
    point: Floats = points.random(1)[0]
    return point.clip(PRECISION, 1 - PRECISION)


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


class SharedSampler(BaseSampler):
    """Proposes the point whose coordinate of each hyperparameter is given by its name."""

    def __init__(self, coordinate: Callable[[str], float]) -> None:
        self._coordinate = coordinate

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return value_at(param_distribution, self._coordinate(param_name))


def random_sampler(seed: int, *turn: object) -> SharedSampler:
    """Return the sampler of one random point: each coordinate is drawn for itself, by its name.

    Args:
        seed: `search.seed`.
        turn: Identifies the ask within the study.
    """
    import numpy as np

    def coordinate(name: str) -> float:
        drawn = np.random.default_rng(seed_of(seed, "random", *turn, name)).random()
        return max(float(drawn), PRECISION)

    return SharedSampler(coordinate)


def sequence_sampler(unit_point: Floats, names: Iterable[str]) -> SharedSampler:
    """Return the sampler of one point of a sequence.

    Args:
        unit_point: The point, float64 [COORDINATES].
        names: The searched hyperparameters.
    """
    places = coordinates(names)
    return SharedSampler(lambda name: float(unit_point[places[name] % COORDINATES]))
