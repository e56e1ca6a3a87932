"""A checked sweep in, finished studies out: the only file that opens every room."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sweeper import __version__, terminal
from sweeper.run import loop, machine
from sweeper.run.trainers import Chosen, begun_with, choose, make
from sweeper.spec.question import Home, locked, settle
from sweeper.spec.sweep import SweepSpec
from sweeper.tracking import trackers
from sweeper.tracking.traces import write_parquet
from sweeper.training.kept import Kept
from sweeper.types import Summary, TrackedStudy, TrackedSweep, Tracker

if TYPE_CHECKING:
    from sweeper.search.study import Studies

log = logging.getLogger("sweeper")

Conclude = Callable[[Home, Tracker], None]
Say = Callable[[str], None]

CHECKPOINT_SECONDS = 60.0
FORMAT = 1  # of the sweep's folder


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    stopped: None when nothing is left to train, else why it stopped before. signal: the one that stopped it.
    unsent: events that have not reached the tracker's destination yet.
    """

    home: Home
    stopped: str | None
    signal: int | None
    unsent: int


def sweep(
    spec: SweepSpec,
    *,
    root: Path = Path("sweeps"),
    conclude: Conclude | None = None,
    plain: bool | None = None,
) -> Outcome:
    """Train what is asked and not yet done; the same call again resumes where this one ended, however it ended.

    Args:
        spec: What is asked.
        root: The folder of the sweeps.
        conclude: Called at the end, finished or not, to write tables and attach them.
        plain: Print lines instead of a live view; None: as the terminal allows.

    Raises:
        InputError: before anything is written, if the sweep of that name asks another question, was begun with another
            trainer, or is being run by another process.
    """
    from sweeper.search.study import Studies, build_studies

    home = settle(root, spec.name, spec.question, fresh=spec.fresh)
    build_studies(spec.studies, spec.terms)
    chosen = choose(spec, begun_with(home))
    trainer = make(spec, chosen.trainer)
    with locked(home), _logged(home):
        search = Studies(home.journal, spec.studies, spec.terms)
        _store(home, spec, search, chosen)
        tracked = TrackedSweep(home.path, home.name, home.read()["id"], search.round)
        tracker = trackers.start(tracked, spec.tracker)
        _introduce(spec, tracker)
        _link(search, tracker)
        ends = _Ends(spec.search.timeout)
        with closing(trainer), _shown(spec, home, search, plain) as view, ends.caught(view.note):
            if chosen.why:
                view.note(f"Training {chosen.why}.")
            finished = loop.run(
                loop.Rooms(search, trainer, tracker, view),
                checkpoint=home.checkpoint,
                stop=ends.stop,
                due=_every(CHECKPOINT_SECONDS),
                at_end=Kept(home.weights, spec.keep.best, spec.keep.quota_gb, spec.objective.direction),
            )
        if search.is_pending:  # nothing was trained, and yet a study took over trials, or has ended
            _commit(search, tracker)
        if finished:  # nothing is open that a checkpoint could restore
            shutil.rmtree(home.checkpoint, ignore_errors=True)
        unsent = _finish(home, search.round, tracker, conclude)
    return Outcome(home, None if finished else ends.why, ends.signal, unsent)


def _shown(
    spec: SweepSpec, home: Home, search: Studies, plain: bool | None
) -> AbstractContextManager[terminal.TerminalView]:
    """The live view of the studies as they are."""
    objective = spec.objective
    tally = terminal.Tally(
        search.progress(),
        reports=len(spec.train.report_steps),
        direction=objective.direction,
        past={study: terminal.Past(*before) for study, before in search.histories().items()},
    )
    return terminal.view(tally, terminal.Heading(home.name, objective.metric, objective.direction), plain=plain)


def _introduce(spec: SweepSpec, tracker: Tracker) -> None:
    """What is asked of each study, for the tracking."""
    metric, direction = spec.objective.metric, spec.objective.direction
    for study in spec.studies:
        searched = tuple(study.axes.searched)
        tracker.introduce(TrackedStudy(study.name, study.family.name, metric, direction, searched))
        if spec.target is not None:
            tracker.describe(study.name, Summary(metrics={"target": spec.target}))


def _link(search: Studies, tracker: Tracker) -> None:
    """Trials that a wider study took over stay tracked where they are: they and its summary name each other."""
    for study, origins in search.trials_taken_over.items():
        extended = ", ".join(sorted({origin.study for origin in origins}))
        tracker.describe(study, Summary(tags={"sweep.extends": extended}))
        for origin in origins:
            tracker.tag(origin, {"sweep.extended_by": study})


def _commit(search: Studies, tracker: Tracker) -> None:
    """A round of its own, in the order that the loop keeps."""
    round = search.round + 1
    tracker.commit(round)
    search.commit(round)
    tracker.publish(round)


def _finish(home: Home, round: int, tracker: Tracker, conclude: Conclude | None) -> int:
    """Traces, tables and summaries; then wait a while for the sending. Returns how many events are unsent."""
    for study, path in write_parquet(home.spool, home.traces).items():
        tracker.artifact(study, path)
    if conclude is not None:
        conclude(home, tracker)
    tracker.commit(round)
    tracker.publish(round)
    return tracker.finish()


# --- what is stored ---------------------------------------------------------------------------------


def _store(home: Home, spec: SweepSpec, search: Studies, chosen: Chosen) -> None:
    """The configuration: what was stored before, with this command's families and limits."""
    before = home.read()
    trials = {progress.study: progress.trials for progress in search.progress()}
    studies = {
        study.name: {
            "family": study.family.name,
            "trials": trials[study.name],
            "schedule": dict(spec.schedules[study.family.name]),
            "sampler": study.sampler.node,
            "pruner": None if study.pruner is None else study.pruner.node,
        }
        for study in spec.studies
    }
    home.write(
        {
            "format": FORMAT,
            "name": home.name,
            "id": before.get("id") or uuid.uuid4().hex,
            "version": __version__,
            "question": dict(spec.question),
            "target": spec.target,
            "trainer": chosen.node,
            "machines": _machines(before.get("machines", []), chosen.device),
            "studies": {**before.get("studies", {}), **studies},
        }
    )


def _machines(before: list[dict[str, str]], device: str) -> list[dict[str, str]]:
    """Those that trained it, each once."""
    now = machine.here(device)
    return before if now in before else [*before, now]


@contextmanager
def _logged(home: Home) -> Iterator[None]:
    """Everything the package logs, into the sweep's log file."""
    file = logging.FileHandler(home.log, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = log.level
    log.addHandler(file)
    log.setLevel(logging.INFO)
    try:
        yield
    except BaseException:
        log.exception("the sweep stopped")
        raise
    finally:
        log.setLevel(level)
        log.removeHandler(file)
        file.close()


# --- when to stop -----------------------------------------------------------------------------------


class _Ends:
    """Why a sweep should end after this round: a signal, or its time is up."""

    def __init__(self, timeout: float | None) -> None:
        self.signal: int | None = None
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def stop(self) -> bool:
        return self.signal is not None or self._late()

    @property
    def why(self) -> str:
        return "interrupted" if self.signal is not None else "search.timeout is over"

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    @contextmanager
    def caught(self, say: Say) -> Iterator[None]:
        """The first SIGINT or SIGTERM ends the sweep after this round, the second at once."""

        def caught(number: int, frame: FrameType | None) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number
            say("Finishing this round, then saving. Once more (Ctrl-C) to stop now; the round is then trained again.")

        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread alone
            return
        before = {number: signal.signal(number, caught) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _every(seconds: float) -> Callable[[], bool]:
    """True once in `seconds`."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return due
