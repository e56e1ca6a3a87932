"""Build the sampler that proposes the next point: a new one, with its own seed, for each ask.

A proposal therefore depends only on the study's trials and the seed, not on how often the sweep was interrupted. A
sampler that lived from ask to ask would hold the state of a generator, which no journal stores.

No seed depends on the family. What families have in common, they try in common:

- A model (TPE, a Gaussian process, CMA-ES) begins with points that all families share (`first_draws`). Later, each
  family's own results decide, and the generator's seed follows from the number of the ask alone.
- `random` and `qmc` share every point: equal names have equal coordinates, whatever else a family has.
- A sampler of another kind gets such a seed if it takes one. It proposes all its points itself: it may rely on having
  proposed them, as a genetic algorithm does.
- A grid lists its points in an order of its own.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.search_space import IntersectionSearchSpace

from sweeper.importing import Target
from sweeper.search import first_draws
from sweeper.search.space import Axes, grid
from sweeper.search.target import build, has_argument, import_class
from sweeper.types import InputError, seed_of

KEY = "search.sampler"
LARGEST_GRID = 100_000  # points: the sampler lists all of them at each ask


STARTUP = "n_startup_trials"  # option: how many trials must have ended before a model decides
MODELS: tuple[type, ...] = (TPESampler, GPSampler, CmaEsSampler)  # not their subclasses, which may do anything
EARLIER_STARTUP = 10  # the default of the samplers whose default is `first_draws.COUNT` now
NEW_DEFAULT = ("sweeper.search.tpe.TPE", "optuna.samplers.TPESampler", "optuna.samplers.GPSampler")


def as_named(sampler: Target) -> Target:
    """Return a sampler as the name of its study has it: with the earlier default instead of the new one.

    A stored sweep is so resumed by the command that began it. The two defaults mean the same (`Sampling.n_random`).
    """
    if sampler.path in NEW_DEFAULT and sampler.options.get(STARTUP) == first_draws.COUNT:
        return replace(sampler, options={**sampler.options, STARTUP: EARLIER_STARTUP})
    return sampler


@dataclass(frozen=True)
class Sampling:
    """How the points of one study are proposed.

    Attributes:
        sampler: The sampler class and its options.
        axes: The space.
        run_seed: The seed of the sweep.
        n_shared: How many of a model's first points all families share.
        n_random: How many trials must have ended at most before a model decides. More than are open at once would leave
            it idle while they train, although the shared points are enough to start from.
        earlier_family: Of a study that an earlier version started, the name of its family. Its seeds follow from the
            name too, and nothing is shared. Otherwise "".
    """

    sampler: Target
    axes: Axes
    run_seed: int
    n_shared: int = first_draws.COUNT
    n_random: int = first_draws.COUNT
    earlier_family: str = ""

    def as_earlier(self, family: str) -> Sampling:
        """Return the sampling of a study that an earlier version started."""
        return replace(self, sampler=as_named(self.sampler), earlier_family=family)

    def seed(self, *turn: object) -> int:
        """Return the seed of what a turn of the study decides at random."""
        return seed_of(self.run_seed, self.earlier_family or "sampler", *turn)

    def check(self) -> None:
        """Check the sampler.

        Raises:
            InputError: It cannot be built, or it cannot search the space.
        """
        kind = self._kind
        if issubclass(kind, CmaEsSampler) and importlib.util.find_spec("cmaes") is None:
            raise InputError(KEY, kind.__name__, "needs the package cmaes", "Install it: pip install cmaes")
        if self.point_count is not None and self.point_count > LARGEST_GRID:
            raise InputError(
                KEY,
                kind.__name__,
                f"the grid has {self.point_count:,} points",
                f"Use at most {LARGEST_GRID:,}, with larger steps",
            )
        self._build("check")

    def sampler_for_ask(self, number: int) -> BaseSampler:
        """Return the sampler of one ask.

        Args:
            number: How many points were sampled before.
        """
        if not self.axes.searched:
            return RandomSampler(seed=0)
        return self._shared_sampler(number) or self._build(number)

    def sampler_for_queued(self, trial: int) -> BaseSampler:
        """Return the sampler of what a queued point leaves out."""
        if not self.axes.searched:
            return RandomSampler(seed=0)
        if self._shares_all:
            return first_draws.random_sampler(self.run_seed, "queued", trial)
        return self._build("queued", trial)

    def sampler_for_tell(self, trial: int) -> BaseSampler:
        """Return the sampler that learns how a trial ended.

        An exhaustive sampler would try to stop Optuna's own loop at its last point, so a random one takes its place.
        """
        return RandomSampler(seed=0) if self.is_exhaustive or not self.axes.searched else self._build("tell", trial)

    @property
    def n_unguided(self) -> int:
        """How many points are proposed without results, if each trial ends before the next ask."""
        if self._kind in MODELS:
            return max(self.n_shared, self._startup(self._kind, self.sampler))
        given = self.sampler.options.get(STARTUP, 1)
        return given if isinstance(given, int) else 1

    @property
    def is_exhaustive(self) -> bool:
        """Whether the sampler tries each point of a list once."""
        return issubclass(self._kind, GridSampler | BruteForceSampler)

    @property
    def is_grid(self) -> bool:
        """Whether it is the grid sampler, which needs start points with every searched hyperparameter."""
        return issubclass(self._kind, GridSampler)

    @property
    def can_use_pruned_trials(self) -> bool:
        """Whether the sampler learns from pruned trials.

        If not, it must see a diverged trial as complete, with its penalty as its value.
        """
        return not issubclass(self._kind, GPSampler | CmaEsSampler)

    @property
    def can_use_constraints(self) -> bool:
        """Whether trials may have constraints. CMA-ES warns about each one that has."""
        return not issubclass(self._kind, CmaEsSampler)

    @property
    def has_constraint_on_every_trial(self) -> bool:
        """Whether good trials need a constraint too. The Gaussian process requires one on every trial."""
        return issubclass(self._kind, GPSampler)

    @cached_property
    def point_count(self) -> int | None:
        """The number of points of an exhaustive sampler, None for any other.

        Raises:
            InputError: A searched hyperparameter has no grid.
        """
        return math.prod(len(values) for values in grid(self.axes).values()) if self.is_exhaustive else None

    @cached_property
    def _kind(self) -> type:
        return import_class(KEY, self.sampler, BaseSampler)

    @property
    def _shares_all(self) -> bool:
        """Whether all families share every point."""
        return self._kind in (RandomSampler, QMCSampler) and not self.earlier_family

    def _shared_sampler(self, number: int) -> BaseSampler | None:
        """Return the sampler of a point that all families share; None if the study has a point of its own."""
        if self._shares_all and self._kind is RandomSampler:
            return first_draws.random_sampler(self.run_seed, number)
        if self._shares_all:
            options = self.sampler.options
            sequence, scramble = options.get("qmc_type", "sobol"), options.get("scramble", False)
            point = first_draws.unit_point(self.run_seed, number, sequence, scramble=scramble)
        elif self._kind in MODELS and number < self.n_shared and not self.earlier_family:
            point = first_draws.unit_point(self.run_seed, number)
        else:
            return None
        return first_draws.sequence_sampler(point, self.axes.searched)

    def _startup(self, kind: type, target: Target) -> int:
        """Return how many trials must have ended before a model decides."""
        given: int = target.options.get(STARTUP, inspect.signature(kind).parameters[STARTUP].default)
        return given if self.earlier_family else min(given, self.n_random)

    def _build(self, *turn: object) -> BaseSampler:
        sampler: BaseSampler = build(
            KEY, self.sampler, BaseSampler, lambda *arguments: self._complete(turn, *arguments)
        )
        if isinstance(sampler, TPESampler):
            # Private, and kept: else each new sampler reads all trials once more (docs/decisions/0017-optuna.md).
            sampler._search_space = self._search_space
        return sampler

    @cached_property
    def _search_space(self) -> IntersectionSearchSpace:
        """The space that all trials of the study have in common. It reads only new trials."""
        return IntersectionSearchSpace(include_pruned=True)

    def _complete(self, turn: tuple[object, ...], key: str, kind: type, target: Target) -> Mapping[str, Any]:
        """Return the options of a sampler, with seed and grid."""
        options = target.options
        for name, source in (("seed", "search.seed"), ("search_space", "the family's hyperparameters")):
            if name in options:
                raise InputError(f"{key}.{name}", options[name], f"follows from {source}", "Drop it")
        fresh, constant = self.seed(*turn), self.seed()
        if kind in MODELS:
            options = {**options, STARTUP: self._startup(kind, target)}
        if issubclass(kind, GridSampler):
            return {**options, "search_space": grid(self.axes), "seed": constant}
        if issubclass(kind, QMCSampler):  # with a constant seed its first, independent points would be equal
            return {"independent_sampler": RandomSampler(seed=fresh), **options, "seed": constant}
        return {**options, "seed": fresh} if has_argument(kind, "seed") else options
