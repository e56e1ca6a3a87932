"""The round: every family asks until it has its open trials, all of them advance, everything is committed.

Protocols alone: no Optuna, MLflow, Hydra or torch. What holds:

- The loop is the only caller of Search and Tracker, so there is one writer and no lock.
- Within a round reports are handled in the order of (study, trial, member), whatever order they arrive in.
- The spool is durable before the journal, the journal before the checkpoint. The journal's last round is the
  truth: later spool lines are cut when it is opened, a later checkpoint cannot exist, and only what the
  journal holds is published.
- Nothing of a round is visible after a crash in it: it is asked, trained and told again, with equal numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sweeper.types import (
    AtEnd,
    Job,
    JobId,
    Report,
    Search,
    State,
    Tracker,
    Trainer,
    TrialId,
    View,
)

OpenTrials = dict[TrialId, tuple[Job, ...]]


class Rooms(NamedTuple):
    """Who takes part in a round."""

    search: Search
    trainer: Trainer
    tracker: Tracker
    view: View


def run(
    rooms: Rooms,
    *,
    checkpoint: Path,
    stop: Callable[[], bool],
    due: Callable[[], bool],
    at_end: AtEnd | None = None,
) -> bool:
    """Run rounds until nothing is left to ask for (True), or `stop()` is true between two rounds (False).

    due: asked after each round, whether to write a checkpoint now; one is written too when the loop is stopped.
    at_end: called for each trial that completed, before its trainer lets its jobs go.
    """
    search, trainer, tracker, view = rooms
    opened = _take_up(search, trainer, view, checkpoint)
    while not stop():
        while jobs := search.ask():
            trainer.start(jobs)
            tracker.open(jobs)
            view.open(jobs)
            opened[jobs[0].id.of] = jobs
        if not opened:
            return True
        reports = _advance(trainer, view, opened)
        tracker.append(reports)
        view.append(reports)
        pruned = search.report(reports)
        for trial, (state, reason) in _endings(reports, pruned).items():
            ending = search.tell(trial, state, reason)
            tracker.close(ending)
            view.close(ending)
            jobs = opened.pop(trial)
            if at_end is not None and ending.state == "complete":
                at_end(ending, jobs, trainer)
            for job in jobs:
                trainer.stop(job.id)
        _commit(rooms)
        if due():
            trainer.save(checkpoint, search.round)
    if opened:
        trainer.save(checkpoint, search.round)
    return False


def _advance(trainer: Trainer, view: View, opened: OpenTrials) -> list[Report]:
    """Every open job to its next report, in the order in which reports are handled."""
    reports = []
    for report in trainer.advance([job.id for jobs in opened.values() for job in jobs]):
        view.arrived(report)
        reports.append(report)
    return sorted(reports, key=lambda report: report.id)


def _endings(reports: Iterable[Report], pruned: set[TrialId]) -> dict[TrialId, tuple[State, str]]:
    """Trials that end with this round, with state and reason: one bad member ends the trial."""
    members: dict[TrialId, list[Report]] = {}
    for report in reports:
        members.setdefault(report.id.of, []).append(report)
    endings: dict[TrialId, tuple[State, str]] = {}
    for trial, of_trial in members.items():
        for state in ("failed", "diverged", "complete"):
            reason = next((report.reason for report in of_trial if report.state == state), None)
            if reason is not None:
                endings[trial] = (state, reason)
                break
        else:
            if trial in pruned:
                endings[trial] = ("pruned", "")
    return endings


def _commit(rooms: Rooms) -> None:
    """Spool, then journal; only then may it be sent."""
    round = rooms.search.round + 1
    rooms.tracker.commit(round)
    rooms.search.commit(round)
    rooms.tracker.publish(round)
    rooms.view.commit(round)


def _take_up(search: Search, trainer: Trainer, view: View, checkpoint: Path) -> OpenTrials:
    """The trials that were running when the last command stopped, at their last committed report again.

    From the checkpoint where it holds all members of a trial, else trained again in silence: equal numbers,
    so nothing of it is reported a second time.
    """
    trials = search.resume()
    stands = trainer.restore(checkpoint, [job for jobs, _ in trials for job in jobs], search.round)
    opened: OpenTrials = {}
    behind: dict[JobId, int] = {}
    for jobs, last_step in trials:
        view.open(jobs)
        opened[jobs[0].id.of] = jobs
        if not all(job.id in stands for job in jobs):
            for job in jobs:
                if stands.pop(job.id, None) is not None:
                    trainer.stop(job.id)
            trainer.start(jobs)
        behind.update({job.id: last_step for job in jobs if stands.get(job.id, 0) < last_step})
    while behind:
        for report in list(trainer.advance(list(behind))):
            view.arrived(report)
            if report.state not in ("running", "complete") and report.step < behind[report.id]:
                raise RuntimeError(
                    f"{report.id.study} trial {report.id.trial} could not be trained again to update "
                    f"{behind[report.id]}, where it stood: {report.state} at {report.step} ({report.reason}). "
                    "Nothing is lost. Was the machine, the code or the data changed since? "
                    "Go on where the sweep began, or start over with fresh=true."
                )
            if report.step >= behind[report.id]:
                del behind[report.id]
    return opened
