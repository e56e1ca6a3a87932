"""What one study searches, and what all trials of a sweep have in common. It is checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NotRequired, TypedDict

from sweeper.importing import Target
from sweeper.search.objective import Objective
from sweeper.search.sampling import as_named
from sweeper.search.space import Axes, Scalar, axes, fingerprint, point
from sweeper.search.stopping import EarlyStopping
from sweeper.types import Family, InputError, Space, Value

NO_VALUE = "no_value"  # attribute of a trial that failed because the objective's metric had no value


class StoredPlan(TypedDict):
    """A study's plan as its journal stores it, in JSON, so tuples become lists.

    Attributes:
        family: Name of the family.
        formula: Hash of the code that makes its LRs.
        space: Fingerprint of the space.
        sampler: The sampler's node as JSON text (`sampling.as_named`).
        pruner: The pruner's node as JSON text.
        report_steps: Updates after which trials report.
        epoch: As in Terms.
        fixed: Hyperparameters that are not searched, by name.
        lists: For each choice between lists, its options by label.
        role: "replicate" if its trials repeat those of another study; missing if it searches.
        draws: "shared" if no seed depends on the family (`sampling`); missing in studies of earlier versions.
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
    role: NotRequired[str]
    draws: NotRequired[str]


@dataclass(frozen=True)
class StudyPlan:
    """What one study searches.

    Attributes:
        name: The study's name in the journal. Another space, sampler or pruner needs another name.
        family: The schedule family.
        sampler: Proposes trials.
        pruner: Stops trials; None for no pruning.
        n_trials: How many trials in all. Complete, pruned, diverged and running trials count, and failed ones without
            another retry.
        hparams: Other hyperparameters by config path, searched or fixed.
        start: Points to try first. The sampler chooses hyperparameters that a point leaves out. More points may be
            added at the end later.
        start_seeds: One seed for each start point, instead of the run seed; () for none.
        stop: The study stops asking once so many trials have not beaten its best one; None for never.
        formula: Hash of the code that makes its LRs.
        extends: Whether a new study takes over trials from the family's other studies with the same formula, if its
            space contains them.
        as_written: The space that the configuration spells. Earlier versions searched it unchanged: a real
            hyperparameter in whole numbers if its range is written so, and lengths too short for the shape. {} if it is
            `space`.
        is_as_written: Whether `space` is that one, although this version would search another one.
        retries_only: Whether to train the failed trials again that were given up, and nothing else.
        replicates: Whether its trials repeat trials of another study on given seeds, and nothing is searched.
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
    as_written: Space = field(default_factory=dict)
    is_as_written: bool = False
    retries_only: bool = False
    replicates: bool = False

    @property
    def space(self) -> Space:
        """The hyperparameters of the family and the others."""
        return {**self.family.space, **self.hparams}

    @property
    def axes(self) -> Axes:
        """The space, split into searched and fixed hyperparameters.

        Raises:
            InputError: A range or choice cannot be searched.
        """
        of_family = {name: f"schedule.{self.family.name}.{name}" for name in self.family.space}
        return axes(self.space, {**of_family, **{name: name for name in self.hparams}})

    def resumed_as(self, stored: StoredPlan) -> StudyPlan:
        """Return the plan with the space with which its stored study was started: this one, or the one as written.

        A study keeps its name and its space, so its trials stay comparable and it continues as it would have.
        """
        if not self.as_written or stored["space"] != fingerprint(self.as_written):
            return self
        family = replace(self.family, space={name: self.as_written[name] for name in self.family.space})
        hparams = {name: self.as_written[name] for name in self.hparams}
        return replace(self, family=family, hparams=hparams, is_as_written=self.searches_otherwise)

    @property
    def searches_otherwise(self) -> bool:
        """Whether the space is another one than the one as written."""
        return bool(self.as_written) and fingerprint(self.as_written) != fingerprint(self.space)

    def describe(self, terms: Terms, axes: Axes) -> StoredPlan:
        """Return everything that the study's trials depend on, and what is needed to read them."""
        pruner = None if self.pruner is None else self.pruner.node
        description = {
            "family": self.family.name,
            "formula": self.formula,
            "space": fingerprint(self.space),
            "sampler": json.dumps(as_named(self.sampler).node, sort_keys=True, default=_qualified_name),
            "pruner": json.dumps(pruner, sort_keys=True, default=_qualified_name),
            "report_steps": terms.report_steps,
            "epoch": terms.epoch,
            "fixed": axes.fixed,
            "lists": axes.lists,
            **({"role": "replicate"} if self.replicates else {"draws": "shared"}),
        }
        stored: StoredPlan = json.loads(json.dumps(description))
        return stored


@dataclass(frozen=True)
class Terms:
    """What all trials of a sweep have in common.

    Attributes:
        seed: The run seed.
        report_steps: Updates after which trials report, increasing. The last one is a trial's length.
        concurrent: Open trials of each family.
        objective: How trials are judged.
        untrained_loss: Loss of a model that knows nothing, for the penalty of diverged trials.
        partitions: The split or fold of each member of a trial.
        parts: Parts of the data: jobs train on the first and evaluate the others.
        max_retries: How often a failed trial is retried.
        epoch: Updates of an epoch, if schedules hold each LR through an epoch; None if every update has its own LR.
        early_stopping: The rule that ends single trials; None for none.
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
        """Return the updates of a trial after so many reports."""
        return self.report_steps[reports - 1] if reports else 0


def start_points(plan: StudyPlan, axes: Axes, *, whole: bool) -> list[dict[str, Scalar]]:
    """Return the start points as Optuna stores them.

    Args:
        plan: The study's plan.
        axes: Its space.
        whole: Whether each point must have every searched hyperparameter.

    Raises:
        InputError: A point cannot be tried.
    """
    points = []
    for place, start in enumerate(plan.start):
        key = f"search.start.{plan.family.name}[{place}]"
        if not isinstance(start, Mapping):
            raise InputError(key, start, "not a point", "Write a mapping, such as {peak_lr: 0.1, warmup: 0.05}")
        stored = point(axes, start, key)
        missing = [name for name in axes.searched if name not in stored]
        if whole and missing:
            raise InputError(f"{key}.{missing[0]}", None, "missing, and the grid sampler cannot choose it", "Set it")
        points.append(stored)
    return points


def _qualified_name(option: object) -> Any:
    """Return the name of a function among a sampler's options. Its repr would differ from process to process."""
    if isinstance(option, Mapping):
        return dict(option)
    return f"{getattr(option, '__module__', '')}.{getattr(option, '__qualname__', type(option).__qualname__)}"
