"""A tally of a sweep that another process runs, kept up to date from the sweep's files. Reads only.

The journal has what was committed, one round at a time. The stored configuration, which every command rewrites when it
starts, has the requested studies, and its modification time is the command's start. The lock shows whether a process
runs the sweep.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sweeper.results.stored import StoredSweep
from sweeper.schedules import family, lr_trace
from sweeper.spec.locking import is_running
from sweeper.spec.question import Home, StoredConfig
from sweeper.terminal import Tally, Terms
from sweeper.tracking.spool import published_round
from sweeper.tracking.traces import read_trace
from sweeper.types import Ending, Floats, InputError, Job, JobId, Progress, Record, Report, TrialId

if TYPE_CHECKING:
    from sweeper.search.plan import StoredPlan
    from sweeper.search.records import JournalReader

NO_LR: Floats = np.empty(0)


class Event(NamedTuple):
    """Something that happened to a trial. Events sort by time, then trial, then place.

    Attributes:
        at: Seconds since 1970.
        study: Name of the study.
        trial: Number of the trial.
        place: Its position among the trial's events.
        what: The kind of event.
        step: Of a report, the updates finished.
    """

    at: float
    study: str
    trial: int
    place: int
    what: Literal["opened", "reported", "ended"]
    step: int = 0


class Follower:
    """Follows a sweep. `refresh` reads what changed since the last call.

    Attributes:
        tally: The counts so far.
        is_running: Whether a process runs the sweep.
        is_finished: Whether nothing is left to train.
        started_at: When the current or last command started, in seconds since 1970.
        committed_at: When the last round was committed, in seconds since 1970.
        lock: Hold it to read these while another thread refreshes.
    """

    def __init__(self, home: Home, now: Callable[[], float] = time.time) -> None:
        self.home, self.now = home, now
        self.lock = threading.Lock()
        self.config: StoredConfig = {}
        self.is_running = self.is_finished = False
        self.started_at = self.committed_at = 0.0
        self._confirmation: int | None = None  # that is followed instead of the search
        self._stamp: object = None
        self._reading: JournalReader | None = None
        self._event_time: float | None = None  # of the event that the tally is counting
        self._last_time = 0.0  # of the last event
        self._seen: dict[TrialId, tuple[int, bool]] = {}  # reports of each trial, and whether it ended
        self._lr_trials: dict[str, TrialId] = {}  # the trial of each study whose LR is shown

    @property
    def is_confirmation(self) -> bool:
        """Whether a confirmation is followed, not the search."""
        return self._confirmation is not None

    def refresh(self) -> None:
        """Read what changed."""
        running = is_running(self.home)  # before the journal, so that the last commit of a process that ends is read
        with self.lock:
            self.is_running = running
            if self._is_new_command():
                self._read_all()
            elif not self._read_more():
                return
            self._update_tally()

    # --- from the files -----------------------------------------------------------------------------

    def _is_new_command(self) -> bool:
        """Return whether a command started since the last call, or the journal was replaced."""
        config, journal = self.home.config.stat(), self.home.journal.stat()
        before, self._stamp = self._stamp, (config.st_mtime_ns, config.st_ino, journal.st_ino)
        return before != self._stamp

    def _read_more(self) -> bool:
        """Read the new part of the journal. Returns whether there is one."""
        assert self._reading is not None
        try:
            return self._reading.refresh()
        except OSError:  # the journal was replaced
            self._read_all()
            return True

    def _read_all(self) -> None:
        """Read everything again. A command may have other studies and more trials than the previous one."""
        from sweeper.search.records import JournalReader

        self.config, self.started_at = self.home.read(), min(self.now(), self.home.config.stat().st_mtime)
        self._confirmation = StoredSweep(self.home).open_confirmation
        self._reading = JournalReader(self.home.journal, published_round(self.home.spool), self._confirmation)
        self._seen, self._lr_trials, self._last_time = {}, {}, 0.0
        self.tally = Tally(
            sorted(self._progress(), key=lambda progress: (progress.family, progress.study)),
            self._terms(),
            clock=lambda: self.now() if self._event_time is None else self._event_time,
        )
        self.tally.started_at = self.started_at

    def _terms(self) -> Terms:
        question = self.config["question"]
        objective, reports = question["objective"], question["search"]["reports"]
        prunes = any(study.get("pruner") is not None for study in self.config["studies"].values())
        return Terms(reports, objective["direction"], objective["metric"], prunes and not self.is_confirmation)

    def _progress(self) -> list[Progress]:
        """Return the studies that are followed, none of their trials counted yet."""
        if self._confirmation is None:
            return [Progress(name, one["family"], one["trials"], {}) for name, one in self.config["studies"].items()]
        assert self._reading is not None
        return [Progress(name, plan["family"], 0, {}) for name, plan in self._reading.plans().items()]

    def _update_tally(self) -> None:
        """Count the events that the journal has now and did not have at the last call."""
        assert self._reading is not None
        records, plans, started = self._reading.records(), self._reading.plans(), self._reading.trial_counts()
        self.committed_at = min(self.now(), self.home.journal.stat().st_mtime)
        by_id = {TrialId(record.study, record.number): record for record in records}
        for event in sorted(
            event for id, record in by_id.items() for event in new_events(record, self._seen.get(id), self.committed_at)
        ):
            if self._last_time < self.started_at <= event.at:
                self._event_time = self.started_at
                self.tally.restart_pace()  # the previous command may have been faster or slower
            self._last_time = self._event_time = event.at
            apply_event(self.tally, by_id[TrialId(event.study, event.trial)], event, plans[event.study]["report_steps"])
        self._event_time = None
        given_up = Counter(trial.study for trial in self._reading.given_up())
        for study in self.tally.studies:
            self.tally.give_up(study, given_up[study])
        self._seen = {id: (_report_count(record), record.state != "running") for id, record in by_id.items()}
        for study, shown in self.tally.shown_trials().items():
            if self._lr_trials.get(study) != shown:
                self._lr_trials[study] = shown
                self.tally.show_lr(shown, self._lr(by_id[shown], plans[study]))
        studies, is_open = self.config["studies"], any(record.state == "running" for record in records)
        if self._confirmation is not None:  # how many trainings it takes is known at its end
            self.is_finished = StoredSweep(self.home).open_confirmation is None
        else:
            self.is_finished = not is_open and all(
                started.get(name, 0) >= study["trials"] for name, study in studies.items()
            )

    def _lr(self, record: Record, plan: StoredPlan) -> Floats:
        """Return the LR of each update: as planned, or as trained if reactive. Empty if the family is unknown."""
        from sweeper.search.records import searched_study

        params = {name: value for name, value in record.params.items() if "." not in name}
        try:
            record_family = family(record.family, self.config["studies"][searched_study(record.study)]["schedule"])
            if record_family.controller is None:
                return lr_trace(record_family, params, plan["report_steps"][-1], epoch=plan.get("epoch"))
            trace = read_trace(self.home.path, *record.trained_as)
            return trace["lr/group0"].dropna().to_numpy(np.float64)
        except (InputError, KeyError):
            return NO_LR


# --- from records to events -------------------------------------------------------------------------


def new_events(record: Record, seen: tuple[int, bool] | None, at: float) -> list[Event]:
    """Return what happened to a trial since the last call.

    The journal does not have the times of reports. Those of a trial that was not seen before are spread evenly over its
    duration. Later ones count as just made.

    Args:
        record: The trial now.
        seen: Its number of reports at the last call, and whether it had ended; None if it was not seen before.
        at: When the last round was committed, in seconds since 1970.
    """
    reported, has_ended = seen or (0, False)
    if has_ended:
        return []
    ended = at if record.ended is None else min(at, record.ended.timestamp())
    started = ended if record.started is None else min(ended, record.started.timestamp())
    steps = _report_steps(record)
    events = [] if seen else [Event(started, record.study, record.number, 0, "opened")]
    for place, step in enumerate(steps[reported:], start=reported + 1):
        when = ended if seen else started + (ended - started) * place / len(steps)
        events.append(Event(when, record.study, record.number, place, "reported", step))
    if record.state != "running":
        events.append(Event(ended, record.study, record.number, len(steps) + 1, "ended"))
    return events


def apply_event(tally: Tally, record: Record, event: Event, report_steps: Sequence[int]) -> None:
    """Count an event of a trial, for all its members."""
    ids = [JobId(record.study, record.number, member) for member in range(max(1, len(record.seeds)))]
    match event.what:
        case "opened":
            steps = tuple(report_steps)
            tally.open([Job(id, record.family, record.params, 0, NO_LR, steps) for id in ids])
        case "reported":
            value = dict(record.intermediate).get(event.step)
            reports = [
                Report(id, event.step, {}, {} if value is None else {tally.terms.metric: value}, 0.0) for id in ids
            ]
            for report in reports:
                tally.arrived(report)
            tally.append(reports)
        case "ended":
            tally.close(Ending(ids[0].of, record.state, record.steps_done, record.value))


def _report_steps(record: Record) -> list[int]:
    """Return the updates at each report. A trial that diverged or failed made its last report there."""
    steps = [step for step, _ in record.intermediate]
    return [*steps, record.steps_done] if record.state in ("diverged", "failed") else steps


def _report_count(record: Record) -> int:
    return len(_report_steps(record))
