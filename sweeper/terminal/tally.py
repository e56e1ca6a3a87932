"""The counts that the live view shows: of each study its trials, its best value over time, its open trials."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from sweeper.terminal.pace import Clock, Pace, Survival, expected_reports, late_prior, remaining_times
from sweeper.text.columns import clean
from sweeper.text.sparks import thin
from sweeper.types import Direction, Ending, Floats, Job, JobId, Progress, Report, State, TrialId

NO_LR: Floats = np.empty(0)


@dataclass(frozen=True)
class Past:
    """What earlier commands did in a study.

    Attributes:
        values: The objective of each trial that ended, in that order; None unless it is complete.
        lr_S: The LR of the best trial, float64 [S].
    """

    values: tuple[float | None, ...] = ()
    lr_S: Floats = field(default_factory=lambda: NO_LR)


@dataclass
class _Study:
    """The counts of a study.

    Attributes:
        label: Its name in the table.
        trials: Trials wanted in all.
        counts: Trials that ended, by state.
        best: The best objective.
        best_trial: Its trial.
        peak: Highest LR of the best trial.
        lr_S: LR of the best trial, thinned.
        bests: The best objective after each trial that ended.
        given_up: Failed trials that are not retried.
        open: Reports made by each member of each open trial.
        lrs: LR of each open trial.
        latest: The objective's metric at the latest report of each member of each open trial.
        late: Open trials that were opened after a complete one.
    """

    label: str
    trials: int
    counts: Counter[State]
    best: float | None = None
    best_trial: int | None = None
    peak: float | None = None
    lr_S: Floats = field(default_factory=lambda: NO_LR)
    bests: list[float | None] = field(default_factory=list)
    given_up: int = 0
    open: dict[int, dict[JobId, int]] = field(default_factory=dict)
    lrs: dict[int, Floats] = field(default_factory=dict)
    latest: dict[int, dict[JobId, float]] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)

    @property
    def done(self) -> int:
        """Trials that ended and did not fail."""
        return self.counts["complete"] + self.counts["pruned"] + self.counts["diverged"]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train. What was given up is not done, but it is not trained again either."""
        return self.done + self.given_up >= self.trials and not self.open

    def show_lr(self, lr_S: Floats) -> None:
        """Keep the peak and the thinned LR of the best trial."""
        self.peak, self.lr_S = (float(lr_S.max()) if len(lr_S) else None), thin(lr_S)


@dataclass(frozen=True)
class Row:
    """One row of the live view: a study, or the total. Unknown values are None.

    Attributes:
        name: Its label.
        done: Trials that ended and did not fail.
        trials: Trials wanted in all.
        fraction: Share of its trials that is done. Open trials count in part.
        open: Number of open trials.
        best: The best objective, or if it is better, the latest value of an open trial.
        best_trial: Its trial.
        is_provisional: Whether that trial is still open.
        pruned: Number of pruned trials.
        diverged: Number of diverged trials.
        failed: Number of failed trials.
        given_up: Number of failed trials that are not retried.
        per_minute: Trials per minute.
        left: Remaining seconds.
        open_fraction: Average progress of the open trials.
        bests: The best objective after each trial that ended.
        peak: Highest LR of that trial.
        lr_S: LR of that trial, thinned.
    """

    name: str
    done: int
    trials: int
    fraction: float
    open: int
    best: float | None
    best_trial: int | None
    pruned: int
    diverged: int
    failed: int
    per_minute: float | None
    left: float | None
    open_fraction: float = 0.0
    bests: Sequence[float | None] = ()
    peak: float | None = None
    lr_S: Floats = field(default_factory=lambda: NO_LR, compare=False)
    given_up: int = 0
    is_provisional: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.done + self.given_up >= self.trials and not self.open

    @property
    def is_done(self) -> bool:
        """Whether it has all its trials."""
        return self.done >= self.trials and not self.open


@dataclass(frozen=True)
class Terms:
    """How trials run.

    Attributes:
        reports: Reports of a whole trial.
        direction: Of the objective.
        metric: Of the objective, as reports have it; "" to show no values of open trials.
        prunes: Whether trials may be pruned.
    """

    reports: int
    direction: Direction
    metric: str = ""
    prunes: bool = False


class Tally:
    """Counts the trials of every study from the calls of a View. `rows` returns the current state.

    Args:
        progress: The studies as of the start of this command.
        terms: How their trials run.
        past: What earlier commands did, by study.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        progress: Sequence[Progress],
        terms: Terms,
        *,
        past: Mapping[str, Past] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.terms, self.clock = terms, clock
        self.reports, self.members = terms.reports, 1
        self.studies = {study.study: _initial_study(study, progress) for study in progress}
        for name, before in (past or {}).items():
            self._add_past(name, before)
        self.steps: dict[JobId, tuple[int, ...]] = {}
        self.early, self.late = Survival(), Survival()
        self.started_at = clock()
        self.restart_pace()

    def open(self, jobs: Sequence[Job]) -> None:
        id = jobs[0].id
        self.members, self.reports = len(jobs), len(jobs[0].report_steps)
        if id.study not in self.studies:
            self.studies[id.study] = _Study(jobs[0].family, 0, Counter())
        study = self.studies[id.study]
        study.open[id.trial] = {job.id: 0 for job in jobs}
        study.lrs[id.trial] = jobs[0].lr_S
        if study.counts["complete"]:
            study.late.add(id.trial)
        study.trials = max(study.trials, study.done + len(study.open))
        self.steps.update({job.id: job.report_steps for job in jobs})

    def arrived(self, report: Report) -> None:
        steps = self.steps.get(report.id)
        if steps is None:
            return
        made = min(bisect_left(steps, report.step) + 1, len(steps))
        study = self.studies[report.id.study]
        members = study.open[report.id.trial]
        members[report.id] = made
        if (value := report.metrics.get(self.terms.metric)) is not None:
            study.latest.setdefault(report.id.trial, {})[report.id] = value
        if report.id == next(iter(members)):
            study.lrs[report.id.trial] = _with_used_lr(study.lrs[report.id.trial], report)
        self.pace.tick(report.id.study, report.id)

    def append(self, reports: Sequence[Report]) -> None:
        for trial in {report.id.of for report in reports}:
            study = self.studies.get(trial.study)
            members = study.open.get(trial.trial) if study else None
            if study and members:
                self._survival(study, trial.trial).passed[max(members.values())] += 1

    def close(self, ending: Ending) -> None:
        study = self.studies.get(ending.trial.study)
        members = study.open.pop(ending.trial.trial, None) if study else None
        if study is None or members is None:
            return
        study.counts[ending.state] += 1
        study.given_up += ending.given_up
        lr_S = study.lrs.pop(ending.trial.trial)
        if ending.state != "complete":
            self._survival(study, ending.trial.trial).stopped[max(members.values())] += 1
        elif self._is_better(ending.value, study.best):
            study.best, study.best_trial = ending.value, ending.trial.trial
            study.show_lr(lr_S)
        study.bests.append(study.best)
        study.late.discard(ending.trial.trial)
        study.latest.pop(ending.trial.trial, None)
        for id in members:
            self.steps.pop(id, None)

    def restart_pace(self) -> None:
        """Measure the pace from now on."""
        self.pace = Pace(self.clock)

    def elapsed_seconds(self) -> float:
        """Return the seconds since this command started."""
        return self.clock() - self.started_at

    def shown_trials(self) -> dict[str, TrialId]:
        """Return the trial that is shown of each study that has one."""
        shown = zip(self.studies, self.rows(), strict=False)  # the total has no study
        return {study: TrialId(study, row.best_trial) for study, row in shown if row.best_trial is not None}

    def show_lr(self, trial: TrialId, lr_S: Floats) -> None:
        """Set the LR of a trial that is shown, if it was opened without one."""
        study = self.studies[trial.study]
        if trial.trial in study.open:
            study.lrs[trial.trial] = lr_S
        else:
            study.show_lr(lr_S)

    def give_up(self, study: str, trials: int) -> None:
        """Set how many failed trials of a study are not retried. A later command may retry them after all."""
        self.studies[study].given_up = trials

    def rows(self) -> list[Row]:
        """Return one row per study, and last the total."""
        studies = list(self.studies.items())
        early = self.early.hazards(self.reports)
        late = self.late.hazards(self.reports, late_prior(early, self.terms.prunes))
        more = expected_reports(early), expected_reports(late)
        left = self._remaining_seconds([study for _, study in studies], more)
        a_trial = more[1][0] * self.members
        rows = [
            self._with_provisional(
                study, _row(study, self.reports, _positive_or_none(self.pace.rate(name) * 60 / a_trial), seconds)
            )
            for (name, study), seconds in zip(studies, left, strict=True)
        ]
        return [*rows, self._total_row(rows)]

    def _with_provisional(self, study: _Study, row: Row) -> Row:
        """Return the row with the best open trial instead, if its latest value is better. It may still get worse."""
        best, trial = row.best, None
        for number, values in study.latest.items():
            are_there = len(values) == len(study.open[number]) and all(map(math.isfinite, values.values()))
            value = median(values.values())  # of the members, as at its end
            if are_there and self._is_better(value, best):
                best, trial = value, number
        if trial is None:
            return row
        lr_S = study.lrs[trial]
        peak = float(lr_S.max()) if len(lr_S) else None
        return replace(row, best=best, best_trial=trial, is_provisional=True, peak=peak, lr_S=thin(lr_S))

    def _add_past(self, name: str, past: Past) -> None:
        """Add the best values of earlier commands, and the LR of the best trial."""
        study = self.studies[name]
        best: float | None = None
        for value in past.values:
            best = value if self._is_better(value, best) else best
            study.bests.append(best)
        study.show_lr(past.lr_S)

    def _survival(self, study: _Study, trial: int) -> Survival:
        return self.late if trial in study.late else self.early

    def _remaining_seconds(
        self, studies: Sequence[_Study], more: tuple[Sequence[float], Sequence[float]]
    ) -> list[float | None]:
        """Return the seconds until each study is finished; None while the pace is not known.

        Args:
            studies: The studies.
            more: Expected further reports of the first trials of a study, and of later ones, by the reports made.
        """
        rate = self.pace.rate()
        if not rate:
            return [0.0 if study.is_over else None for study in studies]
        work_K = []
        for study in studies:
            open_work = sum(
                more[trial in study.late][min(made, self.reports)]
                for trial, members in study.open.items()
                for made in members.values()
            )
            pending = max(0, study.trials - study.done - study.given_up - len(study.open))
            work_K.append(open_work + pending * more[1][0] * self.members)
        share_K = [max(1, len(study.open)) for study in studies]
        waiting = self.pace.seconds_since_report()
        return [max(0.0, seconds - waiting) for seconds in remaining_times(work_K, share_K, rate)]

    def _total_row(self, rows: Sequence[Row]) -> Row:
        trials, open = sum(row.trials for row in rows), sum(row.open for row in rows)
        first: Row | None = None
        for row in rows:
            if self._is_better(row.best, None if first is None else first.best):
                first = row
        speeds = [row.per_minute for row in rows if row.per_minute is not None]
        times = [row.left for row in rows if row.left is not None]
        return Row(
            name="all",
            done=sum(row.done for row in rows),
            trials=trials,
            fraction=sum(row.fraction * row.trials for row in rows) / trials if trials else 0.0,
            open=open,
            open_fraction=sum(row.open_fraction * row.open for row in rows) / open if open else 0.0,
            best=None if first is None else first.best,
            best_trial=None,
            is_provisional=first is not None and first.is_provisional,
            pruned=sum(row.pruned for row in rows),
            diverged=sum(row.diverged for row in rows),
            failed=sum(row.failed for row in rows),
            given_up=sum(row.given_up for row in rows),
            per_minute=sum(speeds) if speeds else None,
            left=max(times) if times and len(times) == len(rows) else None,
        )

    def _is_better(self, value: float | None, than: float | None) -> bool:
        if value is None or not math.isfinite(value):
            return False
        return than is None or (value < than if self.terms.direction == "minimize" else value > than)


def _with_used_lr(lr_S: Floats, report: Report) -> Floats:
    """Return the LR of a trial, updated with the used LR of a report. The same array if nothing changed."""
    used_S = report.traces.get("lr/group0", NO_LR)
    first = report.step - len(used_S)
    if np.array_equal(lr_S[first : report.step], used_S) or len(lr_S) < report.step:
        return lr_S
    return np.concatenate([lr_S[:first], used_S, lr_S[report.step :]])


def _initial_study(study: Progress, all_studies: Sequence[Progress]) -> _Study:
    """Return a study as of the start of this command. It is labeled by its family if that has only one study."""
    is_only_one = sum(other.family == study.family for other in all_studies) == 1
    best = study.best if study.best is not None and math.isfinite(study.best) else None
    return _Study(
        label=clean(study.family if is_only_one else study.study),
        trials=study.trials,
        counts=Counter(study.counts),
        best=best,
        best_trial=None if best is None else study.best_trial,
        given_up=study.given_up,
    )


def _row(study: _Study, reports: int, per_minute: float | None, left: float | None) -> Row:
    open_parts = sum(sum(made.values()) / (len(made) * max(reports, 1)) for made in study.open.values())
    return Row(
        name=study.label,
        done=study.done,
        trials=study.trials,
        fraction=min(1.0, (study.done + open_parts) / study.trials) if study.trials else 1.0,
        open=len(study.open),
        open_fraction=open_parts / len(study.open) if study.open else 0.0,
        best=study.best,
        best_trial=study.best_trial,
        bests=tuple(study.bests),
        peak=study.peak,
        lr_S=study.lr_S,
        pruned=study.counts["pruned"],
        diverged=study.counts["diverged"],
        failed=study.counts["failed"],
        given_up=study.given_up,
        per_minute=None if study.is_over else per_minute,
        left=0.0 if study.is_over else left,
    )


def _positive_or_none(rate: float) -> float | None:
    return rate if rate > 0 else None
