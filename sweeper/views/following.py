"""A tally of a sweep that another process runs, kept up to date from the sweep's files. Reads only.

The journal tells what was committed, a round at a time; the stored configuration, which every command writes anew
when it begins, tells what was asked for and since when; the lock tells whether a process is at it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sweeper.schedules import family, lr_trace
from sweeper.spec.question import Home, StoredConfig, is_running
from sweeper.terminal import Tally
from sweeper.tracking.traces import read_trace
from sweeper.types import Ending, Floats, InputError, Job, JobId, Progress, Record, Report, TrialId

if TYPE_CHECKING:
    from sweeper.search.plan import StoredPlan
    from sweeper.search.records import JournalReader

NO_LR: Floats = np.empty(0)


class Event(NamedTuple):
    """Something that happened to a trial, in the order in which such things are told: a time, whose, its how manieth.

    step: updates of a report.
    """

    at: float
    study: str
    trial: int
    place: int
    what: Literal["opened", "reported", "ended"]
    step: int = 0


class Following:
    """A sweep's tally. `look` takes in what changed; `tally`, `running`, `finished` are what is known then.

    began: when the command that runs it, or ran it last, began; at: when its last round was committed. All times
    are seconds since 1970. Who reads while another thread looks holds `lock`.
    """

    def __init__(self, home: Home, now: Callable[[], float] = time.time) -> None:
        self.home, self.now = home, now
        self.lock = threading.Lock()
        self.config: StoredConfig = {}
        self.running = self.finished = False
        self.began = self.at = 0.0
        self._stamp: object = None
        self._reading: JournalReader | None = None
        self._then: float | None = None  # the time of what is being told
        self._told = 0.0  # and of what was told last
        self._seen: dict[TrialId, tuple[int, bool]] = {}  # reports of each trial, and whether it ended
        self._drawn: dict[str, TrialId] = {}  # whose LR is shown

    def look(self) -> None:
        """Take in what changed. Who runs it is asked first: what such a process committed last is read after that."""
        running = is_running(self.home)
        with self.lock:
            self.running = running
            if self._is_another():
                self._begin()
            elif not self._grown():
                return
            self._take_in()

    # --- from the files -----------------------------------------------------------------------------

    def _is_another(self) -> bool:
        """Whether a command began since the last look, or the journal is another file."""
        config, journal = self.home.config.stat(), self.home.journal.stat()
        before, self._stamp = self._stamp, (config.st_mtime_ns, config.st_ino, journal.st_ino)
        return before != self._stamp

    def _grown(self) -> bool:
        assert self._reading is not None
        try:
            return self._reading.refresh()
        except OSError:  # another journal in the place of the one that was read
            self._begin()
            return True

    def _begin(self) -> None:
        """Read everything: a command may ask for other studies and more trials than the one before."""
        from sweeper.search.records import JournalReader

        self.config, self.began = self.home.read(), self.home.config.stat().st_mtime
        self._reading = JournalReader(self.home.journal)
        self._seen, self._drawn, self._told = {}, {}, 0.0
        studies = sorted(self.config["studies"].items(), key=lambda item: (item[1]["family"], item[0]))
        self.tally = Tally(
            [Progress(name, study["family"], study["trials"], {}) for name, study in studies],
            reports=self.config["question"]["search"]["reports"],
            direction=self.config["question"]["objective"]["direction"],
            clock=lambda: self.now() if self._then is None else self._then,
        )
        self.tally.began = self.began

    def _take_in(self) -> None:
        """Tell the tally what the journal has now and did not have at the last look."""
        assert self._reading is not None
        records, plans, begun = self._reading.records(), self._reading.plans(), self._reading.trial_counts()
        self.at = min(self.now(), self.home.journal.stat().st_mtime)
        of = {TrialId(record.study, record.number): record for record in records}
        for event in sorted(event for id, record in of.items() for event in news(record, self._seen.get(id), self.at)):
            if self._told < self.began <= event.at:
                self._then = self.began
                self.tally.measure_anew()  # what another command did says nothing of this one's pace
            self._told = self._then = event.at
            tell(self.tally, of[TrialId(event.study, event.trial)], event, plans[event.study]["report_steps"])
        self._then = None
        self._seen = {id: (_reports(record), record.state != "running") for id, record in of.items()}
        for study, best in self.tally.best_trials().items():
            if self._drawn.get(study) != best:
                self._drawn[study] = best
                self.tally.show_lr(study, self._lr(of[best], plans[study]))
        asked, is_open = self.config["studies"], any(record.state == "running" for record in records)
        self.finished = not is_open and all(begun.get(name, 0) >= study["trials"] for name, study in asked.items())

    def _lr(self, record: Record, plan: StoredPlan) -> Floats:
        """The LR of each update of a trial; none if its family is no longer there. What reacts is asked what it did."""
        own = {name: value for name, value in record.params.items() if "." not in name}
        try:
            built = family(record.family, self.config["studies"][record.study]["schedule"])
            if built.controller is None:
                return lr_trace(built, own, plan["report_steps"][-1], epoch=plan.get("epoch"))
            trace = read_trace(self.home.path, *record.trained_as)
            return trace["lr/group0"].to_numpy(np.float64)
        except (InputError, KeyError):
            return NO_LR


# --- from a record to what happened -----------------------------------------------------------------


def news(record: Record, seen: tuple[int, bool] | None, at: float) -> list[Event]:
    """What happened to a trial up to the round committed at `at`, beyond the reports and the end that were `seen`.

    When it reported is not in the journal: of a trial not seen before the reports are spread over its time, later
    ones were just made.
    """
    made, over = seen or (0, False)
    if over:
        return []
    ended = at if record.ended is None else min(at, record.ended.timestamp())
    started = ended if record.started is None else min(ended, record.started.timestamp())
    steps = _report_steps(record)
    events = [] if seen else [Event(started, record.study, record.number, 0, "opened")]
    for place, step in enumerate(steps[made:], start=made + 1):
        when = ended if seen else started + (ended - started) * place / len(steps)
        events.append(Event(when, record.study, record.number, place, "reported", step))
    if record.state != "running":
        events.append(Event(ended, record.study, record.number, len(steps) + 1, "ended"))
    return events


def tell(tally: Tally, record: Record, event: Event, report_steps: Sequence[int]) -> None:
    """Tell a tally what happened, of all members of the trial."""
    ids = [JobId(record.study, record.number, member) for member in range(max(1, len(record.seeds)))]
    match event.what:
        case "opened":
            steps = tuple(report_steps)
            tally.open([Job(id, record.family, record.params, 0, NO_LR, steps) for id in ids])
        case "reported":
            reports = [Report(id, event.step, {}, {}, 0.0) for id in ids]
            for report in reports:
                tally.arrived(report)
            tally.append(reports)
        case "ended":
            given_up = record.state == "failed" and record.retry_of is not None  # they are tried again once
            tally.close(Ending(ids[0].of, record.state, record.steps_done, record.value, given_up=given_up))


def _report_steps(record: Record) -> list[int]:
    """The updates at each report; a trial that diverged or failed made a last one where it did."""
    steps = [step for step, _ in record.intermediate]
    return [*steps, record.steps_done] if record.state in ("diverged", "failed") else steps


def _reports(record: Record) -> int:
    return len(_report_steps(record))
