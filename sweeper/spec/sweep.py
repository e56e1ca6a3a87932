"""The typed, checked configuration of a sweep. `spec.parse` makes it; everything that trains or shows reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweeper.importing import parse_target
from sweeper.schedules import controller_of, lr_trace, momentum_trace, watched_metrics
from sweeper.spec.constructors import model_hyperparameters
from sweeper.spec.keys import check_keys
from sweeper.spec.question import digest
from sweeper.types import ConfiguredTracker, Family, Job, JobId, Task, Value, first_of

if TYPE_CHECKING:
    from sweeper.search.objective import Objective
    from sweeper.search.plan import StudyPlan, Terms
    from sweeper.search.stopping import EarlyStopping
    from sweeper.training.recipe import Recipe

Node = Mapping[str, Any]
AUTO = "sweeper.training.auto.choose"  # of conf/trainer/auto.yaml: the fastest trainer on this machine


@dataclass(frozen=True)
class Subject:
    """What is trained, and how it identifies a sweep.

    Attributes:
        task: The data, the model and the loss.
        label: "<data>-<model>-<optimizer>", the first part of a sweep's name.
        described: Plain data that identify the task.
        numbers: Searched hyperparameters of the model by path, {"model.dropout": {low, high}}.
    """

    task: Task
    label: str
    described: Node
    numbers: Node = field(default_factory=dict)

    @property
    def first_numbers(self) -> dict[str, Value]:
        """First value of each searched hyperparameter of the model by name, to build the model with."""
        searched = model_hyperparameters(self.task, self.numbers)
        return {key.removeprefix("model."): first_of(one) for key, one in searched.items()}


@dataclass(frozen=True)
class TrainSpec:
    """How each trial trains, and when it reports.

    Attributes:
        recipe: How an update is made; its optimizer has only the fixed options.
        report_steps: Updates after which a trial reports, increasing; the last one is the length of a trial.
        epoch: Updates of an epoch, if schedules hold each LR through an epoch; else None.
    """

    recipe: Recipe
    report_steps: tuple[int, ...]
    epoch: float | None = None

    @property
    def steps(self) -> int:
        return self.report_steps[-1]


@dataclass(frozen=True)
class SearchSpec:
    """Search settings that all studies share. Each `StudyPlan` has its own space, sampler, pruner and limits.

    Attributes:
        concurrent_trials: Open trials of each family.
        seed: Of the search, and of the first member of each trial.
        seeds: Seeds of a trial, on each fold.
        timeout: Seconds after which the sweep ends; None for never.
        early_stopping: How single trials end early; None if they do not.
    """

    concurrent_trials: int
    seed: int
    seeds: int
    timeout: float | None = None
    early_stopping: EarlyStopping | None = None


@dataclass(frozen=True)
class TrainerSpec:
    """A trainer: its import path, its arguments, and its worker processes ("auto" for one per GPU or core)."""

    target: str
    options: Node = field(default_factory=dict)
    workers: int | str = 1


@dataclass(frozen=True)
class KeepSpec:
    """Which final weights to keep: those of the `best` trials of each study, within `quota_gb` for the whole sweep."""

    best: int = 0
    quota_gb: float = 1


@dataclass(frozen=True)
class SweepSpec:
    """A checked sweep, ready to be trained.

    Attributes:
        task: What is trained.
        question: What identifies the sweep, plain data.
        label: "<data>-<model>-<optimizer>".
        schedules: Nodes of the families as they were written, by name.
        studies: One for each family, in alphabetical order.
        train: How trials train.
        objective: How trials are judged.
        target: Target value of the metric; None to take what the tuned constant reached.
        search: Settings that the studies share.
        folds: Folds of the data; 1 if they are split once.
        trainer: What trains.
        tracker: Where the sweep is tracked, next to the spool; None for nowhere.
        keep: Which weights to keep.
        device: auto, cpu, cuda:1, ...
        given_name: The user's name for it; None for one made of label and question.
        fresh: Whether to start over, next to the stored sweep.
    """

    task: Task
    question: Node
    label: str
    schedules: Mapping[str, Node]
    studies: tuple[StudyPlan, ...]
    train: TrainSpec
    objective: Objective
    target: float | None
    search: SearchSpec
    folds: int
    trainer: TrainerSpec
    tracker: ConfiguredTracker | None = None
    keep: KeepSpec = KeepSpec()
    device: str = "auto"
    given_name: str | None = None
    fresh: bool = False

    @property
    def name(self) -> str:
        return self.given_name or f"{self.label}-{digest(self.question)}"

    @property
    def summary(self) -> str:
        """What the data say was understood and done, in one line; "" if they say nothing."""
        return str(getattr(getattr(self.task, "data", self.task), "summary", ""))

    @property
    def partitions(self) -> tuple[int, ...]:
        """Fold of each member of a trial: all folds with the first seed, then all with the second, ..."""
        return tuple(range(self.folds)) * self.search.seeds

    @property
    def metrics(self) -> list[tuple[str, str]]:
        """The metrics that decide something, each after the config path that names it."""
        return deciding_metrics(self.objective, (study.family for study in self.studies))

    @property
    def terms(self) -> Terms:
        """What all trials share, for the studies."""
        from sweeper.search.plan import Terms

        return Terms(
            seed=self.search.seed,
            report_steps=self.train.report_steps,
            concurrent=self.search.concurrent_trials,
            objective=self.objective,
            untrained_loss=self.task.untrained_loss,
            partitions=self.partitions,
            epoch=self.train.epoch,
            early_stopping=self.search.early_stopping,
        )


def parse_trainer(node: Mapping[str, object]) -> TrainerSpec:
    """Return the trainer of a node of conf/trainer. Its options are checked when it is built; `auto` has none."""
    target = parse_target(node)
    if target.path == AUTO:
        check_keys("trainer", node, ("_target_", "workers"))
    options = {key: value for key, value in target.options.items() if key != "workers"}
    return TrainerSpec(str(target.path), options, target.options.get("workers", 1))


def deciding_metrics(objective: Objective, families: Iterable[Family]) -> list[tuple[str, str]]:
    """Return the metrics that trials are judged by and that schedules watch, each after the config path of its name."""
    watched = [pair for family in families for pair in watched_metrics(family)]
    return [("objective.metric", objective.metric), *watched]


def example(spec: SweepSpec) -> Job:
    """Return a trial of the first family, with the first value of each hyperparameter, for timing and trying."""
    study, train = spec.studies[0], spec.train
    params = {name: first_of(dimension) for name, dimension in study.family.space.items()}
    return Job(
        id=JobId(study.name, 0, 0),
        family=study.family.name,
        params=params,
        seed=0,
        lr_S=lr_trace(study.family, params, train.steps, epoch=train.epoch),
        report_steps=train.report_steps,
        momentum_S=momentum_trace(study.family, params, train.steps, epoch=train.epoch),
        hparams={name: first_of(dimension) for name, dimension in study.hparams.items()},
        controller=controller_of(study.family, params),
    )
