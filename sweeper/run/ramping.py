"""Train the ramps of an LR range test, by the loop and with the trainers of every sweep. Only the search is another."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sweeper import terminal
from sweeper.results.lr_range import Ramp, RangeTest, Reading, has_diverged
from sweeper.run import loop, untrained
from sweeper.run.trainers import LANES, make
from sweeper.schedules import family, lr_trace
from sweeper.spec.composing import Composed
from sweeper.spec.parse import parse
from sweeper.spec.ramp_spec import REPORTS, RampSpec, ramp_config, ramp_family
from sweeper.spec.sweep import AUTO, Subject, SweepSpec, TrainerSpec, example
from sweeper.text.columns import value_text
from sweeper.text.numbers import lr_text
from sweeper.types import (
    Choice,
    Dimension,
    Ending,
    Floats,
    InputError,
    Job,
    JobId,
    Progress,
    Range,
    Report,
    State,
    TrialId,
    Value,
    seed_of,
)

WARMUP = 1 / 4  # of the updates of a ramp without warmup: the length of the warmup before the others
SECONDS = 10.0  # from one line about the progress to the next
STUDIES = ("range-test", "range-test-warmup")  # in the order in which they train


def find_lr(composed: Composed, subject: Subject, ramp: RampSpec) -> RangeTest:
    """Train the ramps: first from the untrained model, then after a warmup to the LR that the first ones suggest.

    Args:
        composed: The configuration. Its schedules do not matter.
        subject: What its data, model and task make.
        ramp: The range test.

    Raises:
        InputError: If a ramp fails, or every training would.
    """
    spec = parse(ramp_config(composed, ramp).nodes, subject)
    ramps = _Ramps(spec, ramp)
    with closing(make(spec, _trainer(spec.trainer, ramp.seeds))) as trainer:
        untrained.try_update(spec, trainer)
        rooms = loop.Rooms(ramps, trainer, _NoTracker(), _Progress())
        loop.run(rooms, checkpoint=Path(), stop=lambda: False, due=lambda: False)
    return RangeTest(spec.label, tuple(one.ramp for one in ramps.trained.values()))


def _trainer(asked: TrainerSpec, seeds: int) -> TrainerSpec:
    """Return the trainer of the ramps, in this process: the one that was asked for, with a lane for each seed."""
    if asked.target not in (AUTO, LANES):
        return replace(asked, workers=1)
    return TrainerSpec(LANES, {**asked.options, "width": seeds, "compiled": False})


@dataclass(frozen=True)
class _Trained:
    """A ramp as far as it is trained: its job, the updates of its warmup, and the losses of each report."""

    job: Job
    warmup: int
    losses: list[Floats] = field(default_factory=list)

    @property
    def ramp(self) -> Ramp:
        return Ramp(self.job.seed, self.warmup, self.job.lr_S, np.concatenate(self.losses))


class _Ramps:
    """The search of a range test: it proposes ramps alone, and stops those that have diverged.

    See `sweeper.types.Search`. Nothing is stored: a range test takes seconds, and starts over.

    Attributes:
        trained: The ramps by trial, in the order in which they started.
    """

    def __init__(self, spec: SweepSpec, ramp: RampSpec) -> None:
        self.trained: dict[TrialId, _Trained] = {}
        self._spec, self._ramp, self._round = spec, ramp, 0
        self._open: set[TrialId] = set()
        self._waiting = self._prepare(STUDIES[0], ramp.low, warmup=0)

    @property
    def round(self) -> int:
        return self._round

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        return []

    def ask(self) -> tuple[Job, ...] | None:
        if not self._waiting and not self._open and all(id.study == STUDIES[0] for id in self.trained):
            self._waiting = self._warmed_up()
        if not self._waiting:
            return None
        one = self._waiting.pop(0)
        self.trained[one.job.id.of] = one
        self._open.add(one.job.id.of)
        return (one.job,)

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        for report in reports:
            self.trained[report.id.of].losses.append(report.traces["train/loss"].copy())
        running = [report.id.of for report in reports if report.state == "running"]
        return {trial for trial in running if has_diverged(self.trained[trial].ramp)}

    def tell(self, trial: TrialId, state: State, reason: str = "") -> Ending:
        if state == "failed":
            problem = f"a ramp of the range test fails ({reason})"
            raise InputError("model", None, problem, "Fix this first; every trial would fail the same way")
        self._open.remove(trial)
        return Ending(trial, state, len(self.trained[trial].ramp.loss_S), reason=reason)

    def commit(self, round: int) -> None:
        self._round = round

    def progress(self) -> list[Progress]:
        return []

    def _warmed_up(self) -> list[_Trained]:
        """Return the ramps after a warmup: to the LR that those without one suggest, from where they go on as these.

        There are none if the loss never fell.
        """
        lr = Reading.of([one.ramp for one in self.trained.values()]).typical
        if lr is None:
            return []
        warmup = round(WARMUP * self._ramp.updates)
        return self._prepare(STUDIES[1], lr / self._ramp.growth**warmup, warmup)

    def _prepare(self, study: str, low: float, warmup: int) -> list[_Trained]:
        """Return a ramp for each seed, from `low` to the highest LR with the growth of all ramps."""
        ramp, base = self._ramp, example(self._spec)
        steps = max(1 + round(math.log(ramp.high / low) / math.log(ramp.growth)), warmup + 1)
        node = ramp_family(low, ramp.high, warmup=warmup / steps)
        params = {name: value for name, value in node.items() if name != "factor"}
        every = max(1, ramp.updates // REPORTS)
        jobs = [
            replace(
                base,
                id=JobId(study, place, 0),
                params=params,
                seed=seed_of(self._spec.search.seed, "range", place),
                lr_S=lr_trace(family("range_test", node), params, steps),
                report_steps=(*range(every, steps, every), steps),
                hparams={name: _middle(one) for name, one in self._spec.studies[0].hparams.items()},
                parts=("train",),
            )
            for place in range(ramp.seeds)
        ]
        return [_Trained(job, warmup) for job in jobs]


def _middle(one: Dimension | Value) -> Value:
    """Return the value of a hyperparameter of optimizer or model in the middle of what is searched."""
    if isinstance(one, Range):
        return one.middle
    return one.options[0] if isinstance(one, Choice) else one


class _NoTracker:
    """Records nothing."""

    def _do_nothing(self, *given: object, **named: object) -> None: ...

    introduce = open = append = close = tag = describe = artifact = commit = publish = _do_nothing

    def finish(self) -> int:
        return 0


class _Progress:
    """Says from time to time how far the ramps are."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def _do_nothing(self, *given: object, **named: object) -> None: ...

    open = append = close = commit = _do_nothing

    def arrived(self, report: Report) -> None:
        now, loss_S = time.monotonic(), report.traces.get("train/loss", np.empty(0))
        if now < self._said + SECONDS or not len(loss_S):
            return
        self._said = now
        kind = "without warmup" if report.id.study == STUDIES[0] else "with warmup"
        lr = lr_text(float(report.traces["lr/group0"][-1]))
        terminal.announce(f"LR range test {kind}: update {report.step}, LR {lr}, loss {value_text(float(loss_S[-1]))}")
