"""Build the sampler that proposes the next point: a new one, with its own seed, for each ask.

A proposal therefore depends only on the study's trials and the seed, not on how often the sweep was interrupted. A
sampler that lived from ask to ask would hold the state of a generator, which no journal stores.

Families share their seeds, and their first draws by the names of hyperparameters (`first_draws`). So families with
equal formula and space get equal trials, similar ones are searched alike, and luck does not set them apart.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from sweeper.search.first_draws import COUNT, PointSampler, Sequence
from sweeper.search.space import Axes, grid
from sweeper.search.target import build, default_of, has_argument, import_class
from sweeper.types import InputError, seed_of

KEY = "search.sampler"
STARTUP = "n_startup_trials"  # a sampler's option: finished trials after which it learns
LARGEST_GRID = 100_000  # points: the sampler lists all of them at each ask


@dataclass(frozen=True)
class Sampling:
    """How the points of one study are proposed.

    Attributes:
        sampler: The sampler class and its options.
        axes: The space.
        run_seed: The seed of the sweep.
        n_trials: Trials of the study.
        concurrent: Open trials of the study.
        family: Name of the family of a study that an earlier version started: its seeds follow from it too, and there
            are no shared draws. None for any other.
    """

    sampler: Target
    axes: Axes
    run_seed: int
    n_trials: int
    concurrent: int
    family: str | None = None

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

    def sampler_for_ask(self, *turn: object) -> BaseSampler:
        """Return the sampler of one ask.

        Args:
            turn: Identifies the ask within the study: the number of points sampled before, or ("queued", number) for a
                queued trial.
        """
        if not self.axes.searched:
            return RandomSampler(seed=0)
        if len(turn) == 1 and isinstance(turn[0], int) and turn[0] < self.shared_draws:
            return PointSampler(self._sequence.draw(turn[0], self.axes.distributions))
        return self._build(*turn)

    @property
    def shared_draws(self) -> float:
        """How many of the first points are those of all families.

        Of samplers that learn it is COUNT, or half of a short search, and of those that do not, all of them. Samplers
        that list their points and those of the user have none.
        """
        if self.family is not None:
            return 0
        if issubclass(self._kind, TPESampler | GPSampler | CmaEsSampler):
            return min(COUNT, max(1, self.n_trials // 2))
        return math.inf if self._kind in (RandomSampler, QMCSampler) else 0

    @property
    def _sequence(self) -> Sequence:
        if self._kind is RandomSampler:
            return Sequence("random", self.run_seed)
        if self._kind is not QMCSampler:
            return Sequence("sobol", self.run_seed)
        options = self.sampler.options
        return Sequence(options.get("qmc_type", "sobol"), self.run_seed, options.get("scramble", False))

    def seed(self, *turn: object) -> int:
        """Return the seed of a turn of this study."""
        return seed_of(self.run_seed, *([] if self.family is None else [self.family]), *turn)

    def sampler_for_tell(self, trial: int) -> BaseSampler:
        """Return the sampler that learns how a trial ended.

        An exhaustive sampler would try to stop Optuna's own loop at its last point, so a random one takes its place.
        """
        return RandomSampler(seed=0) if self.is_exhaustive or not self.axes.searched else self._build("tell", trial)

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
        options = self._with_short_startup(kind, options)
        fresh, constant = self.seed(*turn), self.seed()
        if issubclass(kind, GridSampler):
            return {**options, "search_space": grid(self.axes), "seed": constant}
        if issubclass(kind, QMCSampler):  # with a constant seed its first, independent points would be equal
            return {"independent_sampler": RandomSampler(seed=fresh), **options, "seed": constant}
        return {**options, "seed": fresh} if has_argument(kind, "seed") else options

    def _with_short_startup(self, kind: type, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options with at most as many startup trials as are open at once.

        They are counted when they end. With 8 open and 10 wanted, trials 1 to 16 would be random.
        """
        if self.family is not None or not has_argument(kind, STARTUP):
            return options
        wanted = options.get(STARTUP, default_of(kind, STARTUP))
        return {**options, STARTUP: min(wanted, COUNT, self.concurrent)}
