"""What is asked of a sweep, typed and checked: `spec.parse` makes it, everything that trains or shows reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweeper.importing import parse_target
from sweeper.schedules import controller_of, lr_trace, momentum_trace
from sweeper.spec.question import digest
from sweeper.spec.values import check_keys
from sweeper.types import ConfiguredTracker, Job, JobId, Task, first_of

if TYPE_CHECKING:
    from sweeper.search.objective import Objective
    from sweeper.search.plan import StudyPlan, Terms
    from sweeper.search.stopping import EarlyStopping
    from sweeper.training.recipe import Recipe

Node = Mapping[str, Any]
AUTO = "sweeper.training.auto.choose"  # of conf/trainer/auto.yaml: the fastest trainer on this machine


@dataclass(frozen=True)
class Subject:
    """What is trained, and what a sweep's question says of it.

    Attributes:
        task: The data, the model and the loss.
        label: "<data>-<model>-<optimizer>", with which a sweep's name begins.
        described: What the task is made of, plain data, part of the sweep's identity.
        numbers: The model's searched hyperparameters by path, {"model.dropout": {low, high}}.
    """

    task: Task
    label: str
    described: Node
    numbers: Node = field(default_factory=dict)


@dataclass(frozen=True)
class TrainSpec:
    """How each trial trains, and when it reports.

    Attributes:
        recipe: Its optimizer has the fixed options alone.
        report_steps: Increasing; the last one is the length of a trial in updates.
        epoch: Updates of an epoch through which the schedules hold each LR; None where every update has its own.
    """

    recipe: Recipe
    report_steps: tuple[int, ...]
    epoch: float | None = None

    @property
    def steps(self) -> int:
        return self.report_steps[-1]


@dataclass(frozen=True)
class SearchSpec:
    """What the studies of a sweep share; each `StudyPlan` has its own space, sampler, pruner and limits.

    Attributes:
        concurrent_trials: Open at once, of each family.
        seed: Of the search and of the first member of each trial.
        seeds: Members of a trial, on each fold.
        timeout: Seconds after which the sweep ends; None for never.
        early_stopping: How single trials end early; None where they do not.
    """

    concurrent_trials: int
    seed: int
    seeds: int
    timeout: float | None = None
    early_stopping: EarlyStopping | None = None


@dataclass(frozen=True)
class TrainerSpec:
    """What trains: `target` is an import path, `options` are its arguments, `workers` the processes ("auto": all)."""

    target: str
    options: Node = field(default_factory=dict)
    workers: int | str = 1


@dataclass(frozen=True)
class KeepSpec:
    """Of how many trials of each study the final weights are kept, and in how many gigabytes of the whole sweep."""

    best: int = 0
    quota_gb: float = 1


@dataclass(frozen=True)
class SweepSpec:
    """A sweep that was checked and can be trained.

    Attributes:
        task: What is trained.
        question: What identifies the sweep, plain data.
        label: "<data>-<model>-<optimizer>".
        schedules: The families' nodes as they were written, by name.
        studies: One a family, in alphabetical order.
        train: How trials train.
        objective: What they are judged by.
        target: Of the objective's metric; None where the sweep finds it by itself.
        search: What the studies share.
        folds: Of the data; 1 where they are split once.
        trainer: What trains.
        tracker: What is tracked to beside the spool; None for nothing.
        keep: Which weights are kept.
        device: auto, cpu, cuda:1, ...
        given_name: The name that the user gave; None for the one made of label and question.
        fresh: Whether a sweep that is there is kept and another one begun.
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
    def partitions(self) -> tuple[int, ...]:
        """The split or fold of each member of a trial: all folds with the first seed, with the second, ..."""
        return tuple(range(self.folds)) * self.search.seeds

    @property
    def terms(self) -> Terms:
        """What all trials have in common, for the studies."""
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
    """Return what a node of conf/trainer names. Its options are checked where it is built; `auto` has none."""
    target = parse_target(node)
    if target.path == AUTO:
        check_keys("trainer", node, ("_target_", "workers"))
    options = {key: value for key, value in target.options.items() if key != "workers"}
    return TrainerSpec(str(target.path), options, target.options.get("workers", 1))


def example(spec: SweepSpec) -> Job:
    """Return a trial of the first family, with the first of each hyperparameter's values, to time or to try."""
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
