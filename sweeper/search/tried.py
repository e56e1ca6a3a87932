"""The points that a study has tried, and others that it has not. No sampled point is trained twice.

A trial's results depend on its hyperparameters alone, so the same point again would give the same results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from sweeper.search.space import Scalar, decimal_sum

LISTED = 100_000  # points of a space that are listed to find those left; in a larger one, random points are tried
DRAWS = 1000  # random points at most, until one is new

Distributions = Mapping[str, BaseDistribution]
Point = Mapping[str, Scalar]


class TriedPoints:
    """The points of a space that were tried.

    Args:
        distributions: The space, as Optuna searches it.
        points: The points tried so far.

    Attributes:
        count: The number of points of the space; None if it has real numbers without a step.
    """

    def __init__(self, distributions: Distributions, points: Iterable[Point] = ()) -> None:
        self._distributions = distributions
        self._tried = {self._key(point) for point in points}
        counts = [_count(distribution) for distribution in distributions.values()]
        self.count = None if None in counts else math.prod(count for count in counts if count is not None)

    def add(self, point: Point) -> None:
        self._tried.add(self._key(point))

    def __contains__(self, point: Point) -> bool:
        return self._key(point) in self._tried

    @property
    def size(self) -> int:
        """The number of points that were tried."""
        return len(self._tried)

    @property
    def left(self) -> int | None:
        """The number of points that were not tried; None if the space has real numbers without a step."""
        return None if self.count is None else self.count - self.size

    def draw_other(self, seed: int) -> dict[str, Scalar]:
        """Return a random point that was not tried. It depends on the seed and the points tried."""
        if self.count is not None and self.count <= LISTED:
            every = product(*(_values(distribution) for distribution in self._distributions.values()))
            points = [dict(zip(self._distributions, values, strict=True)) for values in every]
            others = [point for point in points if point not in self]
            return others[np.random.default_rng(seed).integers(len(others))]
        draws = list(islice(random_points(self._distributions, seed), DRAWS))
        return next((point for point in draws if point not in self), draws[-1])

    def _key(self, point: Point) -> tuple[Scalar, ...]:
        """Return what equal points share. Steps are counted, because their sums depend on how they are rounded."""
        return tuple(
            round((float(point[name]) - one.low) / one.step)  # type: ignore[arg-type]  # it is a number
            if isinstance(one, FloatDistribution) and one.step is not None
            else point[name]
            for name, one in self._distributions.items()
        )


def random_points(distributions: Distributions, seed: int) -> Iterator[dict[str, Scalar]]:
    """Yield random points without end."""
    sampler = RandomSampler(seed=seed)
    while True:
        yield {
            name: sampler.sample_independent(None, None, name, one)  # type: ignore[arg-type]  # it ignores the study
            for name, one in distributions.items()
        }


def _count(distribution: BaseDistribution) -> int | None:
    """Return the number of values; None for real numbers without a step."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _values(distribution: BaseDistribution) -> list[Scalar]:
    """Return all values."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    steps = range(_count(distribution) or 0)
    return [min(distribution.high, decimal_sum(distribution.low, distribution.step or 1, i)) for i in steps]
