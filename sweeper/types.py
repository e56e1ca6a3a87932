"""The nouns and protocols that the rooms share. Imports no room and no heavy library.

Shape suffixes, one legend for the repository:
    L lanes (trials side by side)   S steps (updates)   B batch   P parameters   M members   K parts of anything else

Terms: a *family* is a schedule with its search space. A *trial* is one set of hyperparameters of a family. A trial has
one or more *members* (seeds or folds), and one *job* trains each. In a *round* of the loop, every open trial advances
to its next report, then everything is committed.
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
StudyRole = Literal["trial", "replicate"]
ReplicateStage = Literal["choose", "judge", "vary", "final"]
At = Literal["last", "best", "mean_last_k", "ema"]
AT: tuple[At, ...] = ("last", "best", "mean_last_k", "ema")  # rules of `objective.at`: which of a trial's values
State = Literal["running", "complete", "pruned", "diverged", "failed"]
ENDED: tuple[State, ...] = ("complete", "pruned", "diverged", "failed")


class InputError(ValueError):
    """Something the user gave cannot be used: `key=value: problem. Remedy`.

    It is raised before anything is trained or written. The command line prints it and exits with code 2.

    Attributes:
        key: What the user set, by its path in the configuration.
        value: What it was set to; None if the message shows no value.
        problem: What is wrong with it.
        remedy: What to do instead.
    """

    def __init__(self, key: str, value: object, problem: str, remedy: str) -> None:
        self.key, self.value, self.problem, self.remedy = key, value, problem, remedy
        shown = "" if value is None else f"={shorten(as_typed(value))}"
        super().__init__(" ".join(f"{key}{shown}: {problem}. {remedy}".split()))


def as_typed(value: object) -> str:
    """Return a value as the user would type it: true instead of True, [a, 1] instead of ['a', 1]."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_typed(key)}: {as_typed(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_typed, value)) + "]"
    return "null" if value is None else str(value)


def shorten(text: str, longest: int = 200) -> str:
    """Return a text with its middle left out if it is longer than that."""
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def closest(word: object, options: Iterable[object], similarity: float = 0.6) -> str | None:
    """Return the option most similar to `word`, or None if none reaches `similarity` (0 to 1)."""
    near = get_close_matches(str(word), map(as_typed, options), n=1, cutoff=similarity)
    return near[0] if near else None


def did_you_mean(word: object, options: Iterable[object]) -> str:
    """Return the remedy for a word that is not one of `options`: the closest option, or all of them."""
    typed = [as_typed(option) for option in options]
    near = closest(word, typed)
    if near:
        return f"Did you mean {near}?"
    return f"Choose one of {', '.join(typed)}" if typed else "Leave it out"


def extreme(direction: Direction) -> str:
    """Return the word for the value that `direction` looks for. Of a search it says no more: "best" is a verdict."""
    return "lowest" if direction == "minimize" else "highest"


def seed_of(*parts: object) -> int:
    """Return a seed in [0, 2^32) that depends on `parts` alone, in every process, on every machine.

    It is BLAKE2b of the parts' text. Python's own hash() is salted per process.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


# --- what is searched -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """A searched hyperparameter.

    Attributes:
        low: Smallest value, included.
        high: Largest value, included.
        log: Whether it is uniform in its logarithm.
        step: Distance of the values from `low` on; None for any value.
        whole: Whether its values are whole numbers. None if nothing tells what the hyperparameter is: they are if
            `low`, `high` and `step` are written as whole numbers.
    """

    low: Number
    high: Number
    log: bool = False
    step: Number | None = None
    whole: bool | None = None

    @property
    def is_whole(self) -> bool:
        if self.whole is not None:
            return self.whole
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def spacing(self) -> Number | None:
        """Distance between neighboring values: `step`, or 1 for whole numbers; None without a grid."""
        return self.step or (1 if self.is_whole and not self.log else None)

    @property
    def middle(self) -> Number:
        """The value halfway, in the logarithm if `log`; on a grid, the nearest point."""
        value = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        if self.spacing is not None:
            value = self.low + self.spacing * round((value - self.low) / self.spacing)
        return round(value) if self.is_whole else value


@dataclass(frozen=True)
class Choice:
    """A searched value from a list without an order."""

    options: tuple[Value, ...]


Dimension = Range | Choice
Space = Mapping[str, Dimension | Value]  # a Dimension is searched, anything else is fixed


def values_of(dimension: Dimension | Value) -> tuple[Value, ...]:
    """Return the values to check: both ends of a range, every option of a choice, or the fixed value."""
    if isinstance(dimension, Range):
        return dimension.low, dimension.high
    return dimension.options if isinstance(dimension, Choice) else (dimension,)


def first_of(dimension: Dimension | Value) -> Value:
    """Return the first possible value."""
    return values_of(dimension)[0]


def points(space: Space) -> Iterator[dict[str, Value]]:
    """Yield points to check a space: each value to check of each hyperparameter, and all last values together.

    In the first point all have their first value, and then one has another, so that a value that is refused is known.
    """
    first = {name: first_of(dimension) for name, dimension in space.items()}
    yield first
    for name, dimension in space.items():
        yield from ({**first, name: value} for value in values_of(dimension)[1:])
    if len(space) > 1:
        yield {name: values_of(dimension)[-1] for name, dimension in space.items()}


class Factor(Protocol):
    """The formula of a family: `factor(tau_LS, decay_steps_L, **hyperparameters) -> g_LS`; the LR is `peak_lr * g`.

    It is a pure function and vectorized over trials.

    Args:
        tau_LS: Updates since the end of the warmup, 0 to decay_steps - 1, int64. A factor with its own parameter
            `warmup` sees all updates of the run, and decay_steps is their number.
        decay_steps_L: Updates after the warmup, int64 [L, 1].
        numbers: Hyperparameters, each a float64 array [L, 1].

    Returns:
        The LR of every update relative to the peak, float64 [L, S].
    """

    def __call__(self, tau_LS: NDArray[np.int64], decay_steps_L: NDArray[np.int64], /, **numbers: Any) -> Floats: ...


@dataclass(frozen=True)
class Family:
    """A schedule family: a factor and the space of its hyperparameters.

    Attributes:
        name: As in `schedule=<name>`.
        factor: The formula.
        warmup: "prefix": a ramp before the factor, over the fraction `warmup` of the run. "builtin": the factor has its
            own parameter `warmup`. "none": the family has no hyperparameter `warmup`.
        space: Searched (a Range or Choice) and fixed hyperparameters: peak_lr, warmup, decay, cycle, ...
        momentum: A factor that returns the momentum of every update; None if momentum is constant.
        controller: Of a reactive family, the name of the rule that changes the LR while training
            (`sweeper.training.controllers`); its hyperparameters are in the space. None for a closed form.
    """

    name: str
    factor: Factor
    warmup: Literal["prefix", "builtin", "none"]
    space: Space
    momentum: Factor | None = None
    controller: str | None = None


# --- what is trained --------------------------------------------------------------------------------


class TrialId(NamedTuple):
    """A trial: the name of its study and its number there."""

    study: str
    trial: int


class Replicate(NamedTuple):
    """A training of a confirmation: which trial of the search it repeats, why, and on which seed."""

    trial: int
    stage: ReplicateStage
    seed: int


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
    """One training, fully specified. Jobs and reports are all that trainers exchange with the rest.

    Attributes:
        id: Study, trial and member.
        family: Name of the schedule family.
        params: Hyperparameters of the schedule, for tracking. A trainer reads `lr_S` and `controller` alone.
        seed: Of the initial weights, the batch order, dropout and augmentation.
        lr_S: LR of each update, float64 [S].
        report_steps: Updates after which the job reports, increasing; the last one is S.
        momentum_S: Momentum of each update, float64 [S]; None for the optimizer's constant one.
        hparams: Other hyperparameters of the trial by config path: "optimizer.<argument>", "model.<argument>".
        partition: Split or fold of the data.
        parts: Parts of the data: the job trains on the first and evaluates the others.
        controller: Of a reactive schedule, {"name": ..., hyperparameter: ...}: what it sees at a report multiplies the
            rest of `lr_S`. The reports hold the LR that was used, which another job may take as its `lr_S`.
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
    """What one job did since its previous report.

    Attributes:
        id: The job.
        step: Updates finished in all. Of a diverged job, the first update whose loss was not finite or above the bound,
            counted from 1.
        traces: Values of the updates since the previous report by tracking name ("train/loss", "lr/group0"), float64.
            "grad_norm" and "update_to_weight" are NaN at updates that are not measured.
        metrics: Of the evaluated parts at this step ("valid/loss", "valid/accuracy").
        seconds: Training and evaluation time since the previous report.
        state: "running", then "complete" at the last report; "diverged" and "failed" end the job at once.
        reason: Why it diverged or failed.
        sums: Totals over the updates since the previous report by name ("lr_wd": `sweeper.training.optimizers.groups`).
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
    """How a trial ended.

    Attributes:
        trial: The trial.
        state: One of ENDED.
        step: Updates finished; of a diverged trial, the update that diverged, counted from 1.
        value: The objective; None if it has none.
        reason: Why it diverged or failed.
        measures: Of a complete trial by tracking name: the objective by every rule of AT ("objective/last",
            "objective/best", ...), and with several members the standard deviation over them ("objective/spread").
        given_up: Whether a failed trial is not retried.
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

    Attributes:
        study: Name of its study.
        family: Name of its family.
        number: Its number in the study.
        state: How it ended, or "running".
        params: All hyperparameters, searched and fixed.
        searched: Names of the searched ones.
        value: The objective; None unless it is complete.
        intermediate: (updates, objective) of each report.
        steps_done: Updates finished; of a diverged trial, the update that diverged.
        diverged_step: The update that diverged, counted from 1; None in other states.
        reason: Why it diverged or failed.
        seconds: Time of all members together.
        clock: Time until each report in seconds, the last one of a diverged or failed trial included.
        seeds: Of the members.
        retry_of: The failed trial that this one repeats.
        started: When it started.
        ended: When it ended.
        measures: As in Ending.
        truncated: Whether it counts as complete although its schedule did not end (`search.early_stopping`).
        has_no_value: Whether it failed because the objective's metric had no value, although its loss had not diverged.
        origin: Of a trial that a wider study took over, the trial that was trained.
        prior_of: The wider study whose space does not contain it, or "".
        replicate: Of a training of a confirmation, what it repeats.
        member_values: Of a training of a confirmation with several folds, the objective of each.
        tested: Of a training of a confirmation that was judged, the metrics of the test part by name.
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
    has_no_value: bool = False
    origin: TrialId | None = None
    prior_of: str = ""
    replicate: Replicate | None = None
    member_values: tuple[float, ...] = ()
    tested: Mapping[str, float] = field(default_factory=dict)

    @property
    def trained_as(self) -> TrialId:
        """The trial under which its traces, weights and MLflow run are stored."""
        return self.origin or TrialId(self.study, self.number)


@dataclass(frozen=True)
class Progress:
    """Progress of a study.

    Attributes:
        study: Its name.
        family: Its family.
        trials: Trials wanted in all.
        counts: Trials that ended, by state.
        best: The best objective so far.
        best_trial: Its trial.
        given_up: Failed trials that are not retried and so count towards `trials`.
    """

    study: str
    family: str
    trials: int
    counts: Mapping[State, int]
    best: float | None = None
    best_trial: int | None = None
    given_up: int = 0


class Task(Protocol):
    """What is trained: one model, one data set, one loss. It knows neither LR nor optimizer.

    It must be picklable before `to`. `sweeper.tasks.Supervised` is one.

    Two more members are optional, absent or None (docs/decisions/0005-training-batches.md):

    - `augment(inputs_LB, target_LB, draw) -> (inputs_LB, target_LB)` changes training batches [L, B, ...];
      `draw(number, count)` returns counted uniform numbers, float32 [L, B, count].
    - `stream(part, partition, index_SB)` iterates over batches on the device, for data that stay on the host;
      index_SB is int64 on the host.

    Attributes:
        fingerprint: Changes when the data change.
        untrained_loss: Loss of a model that knows nothing, such as the log of the number of classes.
        loss_bound: A larger loss counts as divergence.
    """

    fingerprint: str
    untrained_loss: float
    loss_bound: float

    def to(self, device: torch.device) -> Task:
        """Return the same task with its data on `device`."""
        ...

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples of "train", "valid" or "test" in that split or fold."""
        ...

    def fetch(self, part: str, partition: int, index_B: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Return inputs and targets [B, ...] of the examples index_B (int64), on its device, without a host read."""
        ...

    def build(self, seed: int, **numbers: Value) -> torch.nn.Module:
        """Return a fresh float32 model on the CPU. It depends on the arguments alone, and no global generator changes.

        Args:
            seed: Of the initial weights.
            numbers: Searched hyperparameters of the model by constructor argument (a dropout rate, never a shape).
        """
        ...

    def forward(self, model: torch.nn.Module, inputs_B: Any) -> Any: ...

    def loss(self, output_B: Any, target_B: torch.Tensor) -> torch.Tensor:
        """Return the loss of each example, [B]."""
        ...

    def metrics(self, output: Any, target: torch.Tensor) -> dict[str, float]:
        """Return metrics of a whole part beside its mean loss, such as {"accuracy": 0.9}.

        A task whose outputs are too large to keep may have a method `kept(output_B, target_B)`. What it returns for
        each batch is joined and passed here instead of the outputs.

        Args:
            output: Outputs of all batches, joined.
            target: Targets of all batches, joined.
        """
        ...


# --- who does it ------------------------------------------------------------------------------------


class Trainer(Protocol):
    """Trains jobs. Results depend on the job alone: not on other jobs, its place or when it started.

    Order of calls for a job: start, advance until its report's state is not "running", evaluate or weights, stop.
    """

    def start(self, jobs: Sequence[Job]) -> None:
        """Accept all members of one trial. A job that does not fit waits in host memory."""
        ...

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        """Train each job to its next report. Yields one report for each, in any order, as they arrive."""
        ...

    def stop(self, id: JobId) -> None:
        """Release a job, whether it ended or not."""
        ...

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        """Return metrics of a part ("test/loss", ...) with the job's current weights."""
        ...

    def weights(self, id: JobId) -> dict[str, torch.Tensor]:
        """Return a copy of the job's model state, on the CPU."""
        ...

    def save(self, folder: Path, round: int) -> None:
        """Write a checkpoint of every open job, atomically. `restore` reads the newest complete one."""
        ...

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        """Restore jobs from the newest checkpoint of a round <= last_round, and return the step of each.

        Jobs that are not in it are not started. An unreadable or missing checkpoint restores nothing.
        """
        ...

    def capacity(self) -> int:
        """Return how many jobs can train at once."""
        ...

    def close(self) -> None: ...


class Search(Protocol):
    """The studies of one sweep: proposes trials and prunes them. The only writer of the journal."""

    @property
    def round(self) -> int:
        """The last committed round; 0 before the first."""
        ...

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        """Return the trials running at the last commit, in family order, with the step of their last report (or 0)."""
        ...

    def ask(self) -> tuple[Job, ...] | None:
        """Return the jobs of the next trial; None if every family has its open trials, or all its trials."""
        ...

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        """Record reports, all members of a trial together, and return the running trials to prune."""
        ...

    def tell(self, trial: TrialId, state: State, reason: str = "") -> Ending:
        """End a trial. If its objective is not finite, the state becomes "diverged" (a loss) or "failed"."""
        ...

    def commit(self, round: int) -> None:
        """Make everything since the last commit durable, with one write and one fsync."""
        ...

    def progress(self) -> list[Progress]: ...


class View(Protocol):
    """Shows progress to the user: what the tracker sees, and each report as it arrives within a round."""

    def open(self, jobs: Sequence[Job]) -> None: ...

    def arrived(self, report: Report) -> None:
        """Show a report as soon as its job reached it, before the round ends."""
        ...

    def append(self, reports: Sequence[Report]) -> None: ...

    def close(self, ending: Ending) -> None: ...

    def commit(self, round: int) -> None: ...


@dataclass(frozen=True)
class TrackedSweep:
    """The sweep that a tracker records.

    Attributes:
        folder: The sweep's folder.
        name: The sweep's name.
        id: Unique, and the same in every command that resumes the sweep.
        round: The last committed round. A command that was killed may have recorded later rounds. They are trained
            again, so a tracker drops what it has of them.
    """

    folder: Path
    name: str
    id: str
    round: int

    @property
    def spool(self) -> Path:
        """Folder of the spool, which a tracker may read instead of implementing the calls."""
        return self.folder / "spool"


@dataclass(frozen=True)
class TrackedStudy:
    """A study as a tracker shows it: the metric that ranks its trials, and the searched hyperparameters.

    Its trials search, or they repeat trials of another study on fresh seeds.
    """

    name: str
    family: str
    metric: str
    direction: Direction
    searched: tuple[str, ...] = ()
    role: StudyRole = "trial"


@dataclass(frozen=True)
class Summary:
    """What a tracker shows of a study. Later summaries are merged into it. The note is Markdown."""

    params: Mapping[str, Value] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class Tracker(Protocol):
    """Records a sweep. `commit` makes the calls before it durable, and `publish` allows them to be sent.

    Order of calls: `introduce` every study (in each command), with a first `describe` (what it is made of) and
    `artifact` (its configuration); `open`, `append` and `close` as trials train, then
    `commit` and `publish` once a round; at the end `describe`, `artifact`, `commit` and `publish` once more, then
    `finish`. A trial that was running when the previous command stopped is not opened again. A killed command makes no
    more calls.
    """

    def introduce(self, study: TrackedStudy) -> None: ...

    def open(self, jobs: Sequence[Job]) -> None:
        """Record that a trial starts, with all its members."""
        ...

    def append(self, reports: Sequence[Report]) -> None:
        """Record what jobs did in this round. Copy the arrays: trainers reuse their memory."""
        ...

    def close(self, ending: Ending) -> None: ...

    def tag(self, trial: TrialId, tags: Mapping[str, str]) -> None: ...

    def describe(self, study: str, summary: Summary) -> None: ...

    def artifact(self, study: str, path: Path, *, table: bool = False) -> None:
        """Record a file or folder of a study. It may change and be recorded again.

        Args:
            study: Name of the study.
            path: The file or folder.
            table: Whether it is a table in JSON, {"columns": [name, ...], "data": [[cell, ...], ...]}.
        """
        ...

    def commit(self, round: int) -> None:
        """Make what was recorded durable. May be called again for the same round, when a sweep ends."""
        ...

    def publish(self, round: int) -> None:
        """Allow rounds up to this one to be sent: they are in the journal."""
        ...

    def finish(self) -> int:
        """Release everything. Returns the number of events that were not delivered."""
        return 0


class ConfiguredTracker(Tracker, Protocol):
    """A tracker that `tracking._target_` names.

    The constructor takes the other keys of `tracking`, raises InputError if one cannot be used, and writes nothing.
    Calls that a subclass does not define do nothing.
    """

    def start(self, sweep: TrackedSweep) -> None:
        """Start recording. Called once, before every other call, with the spool open."""
        ...


AtEnd = Callable[[Ending, Sequence[Job], Trainer], None]
