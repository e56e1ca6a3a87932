"""Which point next: a sampler made anew, and seeded, for each ask.

What a sampler then proposes depends on the study's trials and the seed alone, and not on how often the sweep was
interrupted: a sampler kept from ask to ask holds the state of its generator, which no journal has.
"""

from __future__ import annotations

import importlib.util
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
from sweeper.search.space import Axes, grid
from sweeper.search.target import build, has_argument, import_class
from sweeper.types import InputError, seed_of

KEY = "search.sampler"
LARGEST_GRID = 100_000  # points; the sampler lists them all at each ask


@dataclass(frozen=True)
class Sampling:
    """How the points of one study are proposed.

    sampler: the class and its options. run_seed and family determine all seeds, so a family's points are the same
    beside others and alone.
    """

    sampler: Target
    axes: Axes
    run_seed: int
    family: str

    def check(self) -> None:
        """Raises InputError for a sampler that cannot be made, and for a space that it cannot search."""
        kind = self._kind
        if issubclass(kind, CmaEsSampler) and importlib.util.find_spec("cmaes") is None:
            raise InputError(KEY, kind.__name__, "needs the package cmaes", "Install it: pip install cmaes")
        if self.point_count is not None and self.point_count > LARGEST_GRID:
            raise InputError(
                KEY,
                kind.__name__,
                f"the grid has {self.point_count:,} points",
                f"Keep it to {LARGEST_GRID:,}: larger steps",
            )
        self._build("check")

    def sampler_for_ask(self, *turn: object) -> BaseSampler:
        """The sampler of one ask. turn: what tells it from every other ask of the study."""
        return self._build(*turn) if self.axes.searched else RandomSampler(seed=0)

    def sampler_for_tell(self, trial: int) -> BaseSampler:
        """The sampler that learns of a trial's end. One that goes through a list wants to stop Optuna's own loop."""
        return RandomSampler(seed=0) if self.is_exhaustive or not self.axes.searched else self._build("tell", trial)

    @property
    def is_exhaustive(self) -> bool:
        """Whether it goes through a list of points, each once."""
        return issubclass(self._kind, GridSampler | BruteForceSampler)

    @property
    def is_grid(self) -> bool:
        """Whether a start point must give every number: the grid has no way to sample the others."""
        return issubclass(self._kind, GridSampler)

    @property
    def can_use_pruned_trials(self) -> bool:
        """Whether a diverged trial must be told as complete, with its penalty, to be learnt from."""
        return not issubclass(self._kind, GPSampler | CmaEsSampler)

    @property
    def can_use_constraints(self) -> bool:
        """Whether trials may carry constraints: CMA-ES warns of each that does."""
        return not issubclass(self._kind, CmaEsSampler)

    @property
    def has_constraint_on_every_trial(self) -> bool:
        """Whether healthy trials must carry one too: the Gaussian process wants as many of each trial."""
        return issubclass(self._kind, GPSampler)

    def without_repeats(self) -> Sampling:
        """The sampler of a study that has taken over trials: it must not go through their points again.

        Optuna's grid numbers its points by the study's trials, so it would; brute force knows them by their values.
        """
        return replace(self, sampler=Target("optuna.samplers.BruteForceSampler")) if self.is_grid else self

    @cached_property
    def point_count(self) -> int | None:
        """How many points there are to go through; None if without end. InputError for a number without a grid."""
        return math.prod(len(values) for values in grid(self.axes).values()) if self.is_exhaustive else None

    @cached_property
    def _kind(self) -> type:
        return import_class(KEY, self.sampler, BaseSampler)

    def _build(self, *turn: object) -> BaseSampler:
        sampler: BaseSampler = build(
            KEY, self.sampler, BaseSampler, lambda *arguments: self._complete(turn, *arguments)
        )
        if isinstance(sampler, TPESampler):  # it would go through all trials anew, and find what the last one found
            sampler._search_space = self._search_space
        return sampler

    @cached_property
    def _search_space(self) -> IntersectionSearchSpace:
        """What all trials of the study were searched in; it looks at new ones alone."""
        return IntersectionSearchSpace(include_pruned=True)

    def _complete(self, turn: tuple[object, ...], key: str, kind: type, target: Target) -> Mapping[str, Any]:
        """The options of a sampler, with seed and grid."""
        options = target.options
        for name, source in (("seed", "search.seed"), ("search_space", "the family's numbers")):
            if name in options:
                raise InputError(f"{key}.{name}", options[name], f"follows from {source}", "Drop it")
        fresh, constant = seed_of(self.run_seed, self.family, *turn), seed_of(self.run_seed, self.family)
        if issubclass(kind, GridSampler):
            return {**options, "search_space": grid(self.axes), "seed": constant}
        if issubclass(kind, QMCSampler):  # its first points are independent draws: with a constant seed all the same
            return {"independent_sampler": RandomSampler(seed=fresh), **options, "seed": constant}
        return {**options, "seed": fresh} if has_argument(kind, "seed") else options
