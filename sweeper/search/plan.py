"""What one study searches and what all trials of a sweep share, checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from sweeper.importing import Target
from sweeper.search.objective import Objective
from sweeper.search.space import Axes, Scalar, axes, fingerprint, point
from sweeper.search.stopping import EarlyStopping
from sweeper.types import Family, InputError, Space, Value


class StoredPlan(TypedDict):
    """What a study was begun with, as its journal holds it. A list of values is a tuple of the plan.

    sampler, pruner: their nodes as JSON text. fixed: by name. lists: of each choice between lists, the option by its
    label.
    """

    family: str
    formula: NotRequired[str]
    space: str
    sampler: str
    pruner: str
    report_steps: list[int]
    epoch: NotRequired[float | None]
    fixed: dict[str, Any]
    lists: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class StudyPlan:
    """What one study searches. name: in the journal; another space, sampler or pruner needs another name.

    hparams: other numbers by their config path, searched or fixed. n_trials: in all; complete, pruned, diverged and
    running trials count, and failed ones that are not tried again. start: points to try first; numbers they leave
    out are sampled; more may be added at the end later. start_seeds: one for each start point, in place of the run
    seed; () for none. stop: the study asks for no more once so many trials have not beaten its best; None for never.
    formula: a hash of the code that makes its LRs. extends: when it is begun, it takes over the trials of this family's
    other studies of the same formula, as far as they lie in its space.
    """

    name: str
    family: Family
    sampler: Target
    pruner: Target | None
    n_trials: int
    hparams: Space = field(default_factory=dict)
    start: Sequence[Mapping[str, Value]] = ()
    start_seeds: Sequence[int] = ()
    stop: int | None = None
    formula: str = ""
    extends: bool = False

    @property
    def space(self) -> Space:
        """The family's numbers and the others."""
        return {**self.family.space, **self.hparams}

    @property
    def axes(self) -> Axes:
        """The space, taken apart. Raises InputError for what cannot be searched."""
        of_family = {name: f"schedule.{self.family.name}.{name}" for name in self.family.space}
        return axes(self.space, {**of_family, **{name: name for name in self.hparams}})

    def describe(self, terms: Terms, axes: Axes) -> StoredPlan:
        """What makes the trials of this study what they are, and what reading them takes, as JSON holds it."""
        pruner = None if self.pruner is None else self.pruner.node
        description = {
            "family": self.family.name,
            "formula": self.formula,
            "space": fingerprint(self.space),
            "sampler": json.dumps(self.sampler.node, sort_keys=True, default=_qualified_name),
            "pruner": json.dumps(pruner, sort_keys=True, default=_qualified_name),
            "report_steps": terms.report_steps,
            "epoch": terms.epoch,
            "fixed": axes.fixed,
            "lists": axes.lists,
        }
        stored: StoredPlan = json.loads(json.dumps(description))
        return stored


@dataclass(frozen=True)
class Terms:
    """What all trials of a sweep have in common.

    partitions: one for each member of a trial. report_steps: increasing, the last one is a trial's length in updates.
    concurrent: open trials of each family. max_retries: how often a failed trial is tried again. epoch: updates of an
    epoch through which the schedules hold each LR; None where every update has its own. early_stopping: of single
    trials.
    """

    seed: int
    report_steps: tuple[int, ...]
    concurrent: int
    objective: Objective
    untrained_loss: float
    partitions: tuple[int, ...] = (0,)
    parts: tuple[str, ...] = ("train", "valid")
    max_retries: int = 1
    epoch: float | None = None
    early_stopping: EarlyStopping | None = None

    @property
    def steps(self) -> int:
        return self.report_steps[-1]

    def step_after(self, reports: int) -> int:
        """Updates of a trial that has reported so often."""
        return self.report_steps[reports - 1] if reports else 0


def start_points(plan: StudyPlan, axes: Axes, *, whole: bool) -> list[dict[str, Scalar]]:
    """The start points as Optuna stores them. whole: each must give every searched number.

    Raises InputError for the first that cannot be tried.
    """
    points = []
    for place, given in enumerate(plan.start):
        key = f"search.start.{plan.family.name}[{place}]"
        if not isinstance(given, Mapping):
            raise InputError(key, given, "not a point", "Write the numbers by name: {peak_lr: 0.1, warmup: 0.05}")
        stored = point(axes, given, key)
        missing = [name for name in axes.searched if name not in stored]
        if whole and missing:
            raise InputError(f"{key}.{missing[0]}", None, "missing, and the grid sampler cannot choose it", "Add it")
        points.append(stored)
    return points


def _qualified_name(option: object) -> Any:
    """A function among a sampler's options, by its name: its repr would change from process to process."""
    if isinstance(option, Mapping):
        return dict(option)
    return f"{getattr(option, '__module__', '')}.{getattr(option, '__qualname__', type(option).__qualname__)}"
