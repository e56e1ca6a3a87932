"""The round: every family proposes trials up to its limit, all of them advance, everything is committed.

It knows protocols alone: no Optuna, MLflow, Hydra or torch. Invariants:

- The loop is the only caller of Search and Tracker, so there is one writer and no lock.
- Within a round, reports are handled in the order of (study, trial, member), whatever order they arrive in.
- The spool is durable before the journal, and the journal before the checkpoint. The journal's last round counts: later
  spool lines are cut when it is opened, a later checkpoint cannot exist, and only what the journal holds is published.
- After a crash nothing of the unfinished round is visible. It is repeated with the same results.
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
    """The rooms that take part in a round."""

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
    """Run rounds until no trial is left to train.

    Args:
        rooms: Search, trainer, tracker and view.
        checkpoint: Folder of the checkpoint.
        stop: Called between two rounds; True stops the loop.
        due: Called after each round; True writes a checkpoint. One is also written when the loop is stopped.
        at_end: Called for each complete trial, before its jobs are released.

    Returns:
        Whether everything is trained; False if `stop` ended the loop.
    """
    search, trainer, tracker, view = rooms
    opened = _resume(search, trainer, view, checkpoint)
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
    """Advance every open job to its next report. Returns the reports in the order in which they are handled."""
    reports = []
    for report in trainer.advance([job.id for jobs in opened.values() for job in jobs]):
        view.arrived(report)
        reports.append(report)
    return sorted(reports, key=lambda report: report.id)


def _endings(reports: Iterable[Report], pruned: set[TrialId]) -> dict[TrialId, tuple[State, str]]:
    """Return the trials that end with this round, with state and reason. One bad member ends the trial."""
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
    """Commit the round to the spool, then to the journal; only then may it be sent."""
    round = rooms.search.round + 1
    rooms.tracker.commit(round)
    rooms.search.commit(round)
    rooms.tracker.publish(round)
    rooms.view.commit(round)


def _resume(search: Search, trainer: Trainer, view: View, checkpoint: Path) -> OpenTrials:
    """Resume trials that were running when the previous command stopped, from their last committed report.

    A trial is restored from the checkpoint if that holds all its members. Otherwise it is trained again, with the same
    results, and nothing of it is reported a second time.
    """
    trials = search.resume()
    restored = trainer.restore(checkpoint, [job for jobs, _ in trials for job in jobs], search.round)
    opened: OpenTrials = {}
    behind: dict[JobId, int] = {}
    for jobs, last_step in trials:
        view.open(jobs)
        opened[jobs[0].id.of] = jobs
        if not all(job.id in restored for job in jobs):
            for job in jobs:
                if restored.pop(job.id, None) is not None:
                    trainer.stop(job.id)
            trainer.start(jobs)
        behind.update({job.id: last_step for job in jobs if restored.get(job.id, 0) < last_step})
    while behind:
        for report in list(trainer.advance(list(behind))):
            view.arrived(report)
            if report.state not in ("running", "complete") and report.step < behind[report.id]:
                raise RuntimeError(
                    f"{report.id.study} trial {report.id.trial} could not be resumed: it reached update "
                    f"{behind[report.id]} before, and now it is {report.state} at {report.step} ({report.reason}). "
                    "Nothing is lost. Did the machine, the code or the data change? "
                    "Resume on the first machine, or start over with fresh=true."
                )
            if report.step >= behind[report.id]:
                del behind[report.id]
    return opened
