"""The nouns and protocols that the rooms share. Imports no room and no heavy library.

Shape suffixes, one legend for the repository:
    L lanes (trials side by side)   S steps (updates)   B batch   P parameters   M members   K parts of anything else

Words of ours: a *family* is a schedule with its search space; a *trial* is one row of numbers of a family;
a trial has one or more *members* (seeds or folds), each trained by one *job*; a *round* is one turn of
the loop: every open trial advances to its next report, then everything is committed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Number = float | int
Value = float | int | str | bool | None | tuple[Any, ...]
Direction = Literal["minimize", "maximize"]
At = Literal["last", "best", "mean_last_k", "ema"]
AT: tuple[At, ...] = ("last", "best", "mean_last_k", "ema")  # rules of `objective.at`: which of a trial's values
State = Literal["running", "complete", "pruned", "diverged", "failed"]
ENDED: tuple[State, ...] = ("complete", "pruned", "diverged", "failed")


class InputError(ValueError):
    """Something a person typed cannot be used: one sentence naming the key, the value and the way out.

    Every room raises it before anything is trained or written; the command line prints it and exits with 2.
    """

    def __init__(self, key: str, value: object, problem: str, remedy: str) -> None:
        self.key, self.value, self.problem, self.remedy = key, value, problem, remedy
        shown = "" if value is None else f"={value}"
        super().__init__(f"{key}{shown}: {problem}. {remedy}")


def closest(word: object, options: Iterable[object], similarity: float = 0.6) -> str | None:
    """Return the option most like `word`, or None where none is at least that similar (0 to 1)."""
    near = get_close_matches(str(word), _as_typed(options), n=1, cutoff=similarity)
    return near[0] if near else None


def did_you_mean(word: object, options: Iterable[object]) -> str:
    """Return the remedy for a word that is not one of `options`: the closest of them, else all of them."""
    options = _as_typed(options)
    near = closest(word, options)
    if near:
        return f"Did you mean {near}?"
    return f"Choose one of {', '.join(options)}" if options else "Leave it out"


def _as_typed(options: Iterable[object]) -> list[str]:
    """YAML writes False as false."""
    return [str(option).lower() if isinstance(option, bool) else str(option) for option in options]


def seed_of(*parts: object) -> int:
    """A seed in [0, 2^32) that depends on `parts` alone: equal in every process, machine and Python.

    BLAKE2b of the parts' text; Python's own hash() is salted per process and cannot be used.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


# --- what is searched -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """A searched number, `low` and `high` included; `log`: uniform in its logarithm; `step`: on a grid from low.

    Whole numbers (`low`, `high` and `step` all int) stay int.
    """

    low: Number
    high: Number
    log: bool = False
    step: Number | None = None

    @property
    def is_whole(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def spacing(self) -> Number | None:
        """Between neighboring values: `step`, else 1 for whole numbers; None without a grid."""
        return self.step or (1 if self.is_whole and not self.log else None)

    @property
    def middle(self) -> Number:
        """The value halfway, in the logarithm if `log`; of a grid the nearest point."""
        value = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        if self.spacing is not None:
            value = self.low + self.spacing * round((value - self.low) / self.spacing)
        return round(value) if self.is_whole else value


@dataclass(frozen=True)
class Choice:
    """A searched value out of a list, which has no order."""

    options: tuple[Value, ...]


Dimension = Range | Choice
Space = Mapping[str, Dimension | Value]  # a Dimension is searched, anything else is fixed


def values_of(dimension: Dimension | Value) -> tuple[Value, ...]:
    """Return the values that stand for all: both ends of a range, every option of a choice, a fixed value itself."""
    if isinstance(dimension, Range):
        return dimension.low, dimension.high
    return dimension.options if isinstance(dimension, Choice) else (dimension,)


def first_of(dimension: Dimension | Value) -> Value:
    """Return the first value that a trial could have."""
    return values_of(dimension)[0]


class Factor(Protocol):
    """g of one family: `factor(tau_LS, decay_steps_L, **numbers) -> g_LS`, the LR being `peak_lr * g`.

    tau_LS: int64 updates since the end of the warmup, 0 .. decay_steps - 1 (a factor with a `warmup` parameter
    of its own sees all updates of the run: decay_steps = steps); decay_steps_L: int64 [L, 1], broadcastable
    against tau_LS; every number arrives as a float64 array [L, 1]. Pure, vectorised, float64 out.
    """

    def __call__(self, tau_LS: NDArray[np.int64], decay_steps_L: NDArray[np.int64], /, **numbers: Any) -> Floats: ...


@dataclass(frozen=True)
class Family:
    """A schedule family: its factor and its space (`peak_lr`, `warmup`, `decay`, `cycle`, ... searched or fixed).

    warmup: "prefix", a ramp before the factor, `warmup` being the fraction of the run it takes; "builtin", the
    factor has a parameter `warmup` itself; "none", the family has no number `warmup` at all.
    momentum: a factor whose values are the momentum of each update itself, None where it stays constant.
    controller: name of what changes the LR by what it sees while training (sweeper.training.controllers), its numbers
    being in the space too; None for closed forms.
    """

    name: str
    factor: Factor
    warmup: Literal["prefix", "builtin", "none"]
    space: Space
    momentum: Factor | None = None
    controller: str | None = None


# --- what is trained --------------------------------------------------------------------------------


class TrialId(NamedTuple):
    """A trial: the study's name and the trial's number in it."""

    study: str
    trial: int


class JobId(NamedTuple):
    """One member of a trial."""

    study: str
    trial: int
    member: int

    @property
    def of(self) -> TrialId:
        return TrialId(self.study, self.trial)


@dataclass(frozen=True)
class Job:
    """One training, its numbers known beforehand; with Report all that crosses the training boundary.

    lr_S: float64 [S], the LR of each update; momentum_S likewise, or None for the optimizer's constant one.
    params: the schedule's numbers by name (for tracking; the trainer reads lr_S and controller alone).
    controller: of a reactive schedule, {"name": ..., number: ...}: what it sees at a report multiplies lr_S from there
    on (sweeper.training.controllers). The LR as used is in the reports; it may be given as lr_S of another job.
    hparams: this trial's other numbers by their config path: "optimizer.<name>" (a constructor argument of the
    optimizer), "model.<name>" (of the model). parts: ("train", "valid"): trained on the first, evaluated on
    the others. partition: which split or fold of the data. report_steps: increasing, the last one is S.
    """

    id: JobId
    family: str
    params: Mapping[str, Value]
    seed: int
    lr_S: Floats
    report_steps: tuple[int, ...]
    momentum_S: Floats | None = None
    hparams: Mapping[str, Value] = field(default_factory=dict)
    partition: int = 0
    parts: tuple[str, ...] = ("train", "valid")
    controller: Mapping[str, Value] | None = None

    @property
    def steps(self) -> int:
        return len(self.lr_S)


@dataclass(frozen=True)
class Report:
    """What one job did since its last report.

    step: updates finished in all. traces: by tracking name ("train/loss", "lr/group0", ...), one float64 value
    for each update since the last report, the last one being update step - 1; "grad_norm" and "update_to_weight" are
    measured at some updates only and NaN at the others. metrics: of the evaluated parts
    at this step ("valid/loss", "valid/accuracy", ...). seconds: spent on it. state: "running" before the last
    report, then "complete"; "diverged" and "failed" end the job at once, with the reason; a diverged report's
    `step` is the first update whose loss was not finite or beyond the bound, counted from 1. sums: what adds up over
    the updates since the last report, by name ("lr_wd": see sweeper.training.optimizers.groups).
    """

    id: JobId
    step: int
    traces: Mapping[str, Floats]
    metrics: Mapping[str, float]
    seconds: float
    state: State = "running"
    reason: str = ""
    sums: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How a trial ended: `value` is its objective (None where there is none), `step` the updates it finished.

    A diverged trial's step is the update that diverged, counted from 1. measures: of a complete trial, by their
    tracking names: the objective by every rule of AT ("objective/last", "objective/best", ...) and, of several
    members, the standard deviation of theirs by the rule that counts ("objective/spread"). given_up: of a failed
    trial, that it is not tried again.
    """

    trial: TrialId
    state: State
    step: int
    value: float | None = None
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    given_up: bool = False


@dataclass(frozen=True)
class Record:
    """One trial as of the last committed round.

    params: all its numbers, searched and fixed; searched: the names of the former. value: its objective, None
    unless it is complete. intermediate: (updates, objective) at each report. steps_done: updates finished; of a
    diverged trial the one that diverged, like diverged_step, which is None in other states. seconds: of all members
    together; clock: those until each report, the last one of a diverged or failed trial too. seeds: one a member.
    retry_of: the failed trial whose numbers these are. measures: as in Ending.
    truncated: complete, though it ended before its schedule did (`search.early_stopping`). origin: of a trial that a
    wider study took over, as what it was trained. prior_of: the wider study in whose space it does not lie, or "".
    """

    study: str
    family: str
    number: int
    state: State
    params: Mapping[str, Value]
    searched: tuple[str, ...]
    value: float | None
    intermediate: tuple[tuple[int, float], ...]
    steps_done: int
    diverged_step: int | None
    reason: str
    seconds: float
    clock: tuple[float, ...]
    seeds: tuple[int, ...]
    retry_of: int | None
    started: datetime | None
    ended: datetime | None
    measures: Mapping[str, float] = field(default_factory=dict)
    truncated: bool = False
    origin: TrialId | None = None
    prior_of: str = ""

    @property
    def trained_as(self) -> TrialId:
        """What its traces, its weights and its run in MLflow are filed under."""
        return self.origin or TrialId(self.study, self.number)


@dataclass(frozen=True)
class Progress:
    """How far a study is: `trials` asked for in all, and the counts of those that ended, by state.

    given_up: failed trials that are not tried again, and so count towards `trials`.
    """

    study: str
    family: str
    trials: int
    counts: Mapping[State, int]
    best: float | None = None
    best_trial: int | None = None
    given_up: int = 0


class Task(Protocol):
    """What is trained: one model, one data set, one loss. Knows no lanes, no LR and no optimizer.

    Picklable before `to`. fingerprint: changes when the data do. untrained_loss: of a model that knows nothing
    (log of the number of classes, ...); loss_bound: a loss beyond it has diverged.

    Two more members are optional, absent or None where there is no such thing
    (docs/decisions/0005-training-batches.md): augment(inputs_LB, target_LB, draw) -> (inputs_LB, target_LB), what
    training alone does to the batches [L, B, ...] of L lanes, draw(number, count) being counted uniform numbers,
    float32 [L, B, count]; stream(part, partition, index_SB) -> iterator of batches on the device, for data that stay
    on the host: index_SB is int64 on the host.
    """

    fingerprint: str
    untrained_loss: float
    loss_bound: float

    def to(self, device: torch.device) -> Task:
        """The same task with its data on `device`."""
        ...

    def size(self, part: str, partition: int) -> int:
        """Number of examples of "train", "valid" or "test" in that split or fold."""
        ...

    def fetch(self, part: str, partition: int, index_B: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Inputs and targets [B, ...] of those examples, on the device of index_B (int64), without a host read."""
        ...

    def build(self, seed: int, **numbers: Value) -> torch.nn.Module:
        """A fresh model on the CPU, float32, a function of the arguments alone; touches no global generator.

        numbers: the model's searched numbers, by constructor argument (a dropout rate, never a shape).
        """
        ...

    def forward(self, model: torch.nn.Module, inputs_B: Any) -> Any: ...

    def loss(self, output_B: Any, target_B: torch.Tensor) -> torch.Tensor:
        """Loss of each example, [B]."""
        ...

    def metrics(self, output: Any, target: torch.Tensor) -> dict[str, float]:
        """Metrics of a whole part beside its mean loss (an AUROC is no mean of batches): {"accuracy": ...}.

        output: of all batches together. A task whose outputs are too large for that may have a further method
        kept(output_B, target_B): what it gives of each batch is put together in place of the outputs.
        """
        ...


# --- who does it ------------------------------------------------------------------------------------


class Trainer(Protocol):
    """Trains jobs. A job's numbers depend on the job alone: not on its neighbours, its place or when it started.

    Order of calls for a job: start, advance until its report's state is not "running", evaluate/weights, stop.
    """

    def start(self, jobs: Sequence[Job]) -> None:
        """Accept all members of one trial. Every open job is accepted: what does not fit waits in host memory."""
        ...

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        """Each of those jobs to its next report, yielded as they arrive, in any order, exactly one for each."""
        ...

    def stop(self, id: JobId) -> None:
        """Release the job, ended or not."""
        ...

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        """Metrics of a part ("test/loss", ...) with the weights the job has now."""
        ...

    def weights(self, id: JobId) -> dict[str, torch.Tensor]:
        """A copy of the job's model state, on the CPU."""
        ...

    def save(self, folder: Path, round: int) -> None:
        """Write the state of every open job, whole or not at all; the last complete one is what restore sees."""
        ...

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        """Take up those of `jobs` that a checkpoint of a round <= last_round holds; the step each then stands at.

        The others are not started. An unreadable or missing checkpoint restores nothing.
        """
        ...

    def capacity(self) -> int:
        """How many jobs train at once without waiting."""
        ...

    def close(self) -> None: ...


class Search(Protocol):
    """The studies of one sweep: which trial next, which to stop. The only writer of the journal."""

    @property
    def round(self) -> int:
        """The last committed one, 0 before the first."""
        ...

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        """Trials that were running at the last commit, in family order, with the step of their last report (or 0)."""
        ...

    def ask(self) -> tuple[Job, ...] | None:
        """The jobs of the next trial; None when every family has its open trials or has asked for its last."""
        ...

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        """Take in reports, all members of a trial together, and say which running trials to stop (prune)."""
        ...

    def tell(self, trial: TrialId, state: State, reason: str = "") -> Ending:
        """End a trial. The Ending's state may differ: a trial whose objective is not finite has diverged."""
        ...

    def commit(self, round: int) -> None:
        """Make all that happened durable: one write, one fsync."""
        ...

    def progress(self) -> list[Progress]: ...


class View(Protocol):
    """Shows a person what happens: what the tracker sees, and each report as it arrives within a round."""

    def open(self, jobs: Sequence[Job]) -> None: ...

    def arrived(self, report: Report) -> None:
        """A job reached its next report; the round is not over."""
        ...

    def append(self, reports: Sequence[Report]) -> None: ...

    def close(self, ending: Ending) -> None: ...

    def commit(self, round: int) -> None: ...


@dataclass(frozen=True)
class TrackedSweep:
    """The sweep that a tracker remembers.

    folder: the sweep's own. id: unique, and the same in every command. round: the last committed one. A command that
    was killed may have noted down later rounds; they are trained again, so a tracker drops what it has of them.
    """

    folder: Path
    name: str
    id: str
    round: int

    @property
    def spool(self) -> Path:
        """The folder of the spool, which a tracker may read instead of being told."""
        return self.folder / "spool"


@dataclass(frozen=True)
class TrackedStudy:
    """A study as a tracker shows it: which metric ranks its trials, and which parameters are searched."""

    name: str
    family: str
    metric: str
    direction: Direction
    searched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What is to be said of a study; later summaries add to it and overwrite. note: markdown."""

    params: Mapping[str, Value] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class Tracker(Protocol):
    """Remembers a sweep. The other calls only note down; commit makes them durable, publish lets them leave.

    Order of calls: introduce every study (each command does so again); open, append and close as trials train, then
    commit and publish once a round; at the end describe, artifact, commit and publish once more, then finish. Trials
    that were running when the previous command stopped are not opened again. A killed command calls nothing more.
    """

    def introduce(self, study: TrackedStudy) -> None: ...

    def open(self, jobs: Sequence[Job]) -> None:
        """A trial begins: all its members."""
        ...

    def append(self, reports: Sequence[Report]) -> None:
        """What the jobs did in this round. Copy the arrays: trainers use their memory again."""
        ...

    def close(self, ending: Ending) -> None: ...

    def tag(self, trial: TrialId, tags: Mapping[str, str]) -> None: ...

    def describe(self, study: str, summary: Summary) -> None: ...

    def artifact(self, study: str, path: Path, *, table: bool = False) -> None:
        """A file or folder that belongs to the study; it may be given again, changed.

        table: JSON, {"columns": [name, ...], "data": [[cell, ...], ...]}.
        """
        ...

    def commit(self, round: int) -> None:
        """May be called again for the same round (what is noted after the last round, when a sweep ends)."""
        ...

    def publish(self, round: int) -> None:
        """Rounds up to this one are in the journal: they may be sent."""
        ...

    def finish(self) -> int:
        """Release everything; the number of events that have not arrived where they are sent."""
        return 0


class ConfiguredTracker(Tracker, Protocol):
    """A tracker that `tracking._target_` names; the constructor takes the other keys of `tracking`.

    The constructor checks them (InputError) and writes nothing. A class that inherits from this protocol does nothing
    in the calls that it leaves out.
    """

    def start(self, sweep: TrackedSweep) -> None:
        """Called once, before every other call. The spool is open."""
        ...


AtEnd = Callable[[Ending, Sequence[Job], Trainer], None]
