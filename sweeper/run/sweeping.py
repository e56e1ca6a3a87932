"""Train a sweep: the file that opens every room and puts them together."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sweeper import __version__, terminal
from sweeper.files import writing
from sweeper.run import crash, loop, machine, provenance, untrained
from sweeper.run.trainers import Chosen, choose, make, stored_trainer
from sweeper.spec.config_text import FORMAT
from sweeper.spec.locking import lock
from sweeper.spec.question import Home, settle
from sweeper.spec.sweep import SweepSpec
from sweeper.tracking import events, trackers
from sweeper.tracking.redaction import RedactingFormatter
from sweeper.tracking.spool import Loss, find_loss, published_round
from sweeper.tracking.traces import write_parquet
from sweeper.training.weights import BestWeights
from sweeper.types import AtEnd, Search, StudyRole, Summary, TrackedStudy, TrackedSweep, Tracker

if TYPE_CHECKING:
    from sweeper.search.study import Studies

log = logging.getLogger("sweeper")

Conclude = Callable[[Home, Tracker], None]
Say = Callable[[str], None]
StageSearch = Callable[["Studies", Tracker], tuple[Search, AtEnd]]

CHECKPOINT_SECONDS = 60.0
REPEATS = (
    "The best trials of {} in the search, trained again on fresh seeds. The study they are from has the verdict.\n"
)
AS_WRITTEN = (
    "{} resumes in the space that an earlier version started: whole numbers if a range is written so, and cycles of "
    "any length. fresh=true starts over."
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        home: The sweep's folder.
        stopped: Why it stopped before everything was trained; None if it did not.
        signal: The signal that stopped it, if one did.
        unsent: Events that have not reached the tracker's destination yet.
        lost: What damage took from the spool, so that no tracker can get it any more.
        is_tracked: Whether there is a tracker.
    """

    home: Home
    stopped: str | None
    signal: int | None
    unsent: int
    lost: Loss
    is_tracked: bool = False


@dataclass(frozen=True)
class Stage:
    """What is trained in a sweep's folder after its search: a confirmation, or that under a change.

    Attributes:
        name: Of the folder of its checkpoint.
        settings: What is stored of it, under "confirmations" of the sweep's configuration.
        search: Returns what the loop asks for trials, and what it calls at the end of each complete one.
        about: What its studies are, for trackers, with a place for the name of the family.
    """

    name: str
    settings: Mapping[str, object]
    search: StageSearch
    about: str = REPEATS


def sweep(
    spec: SweepSpec,
    *,
    root: Path = Path("sweeps"),
    conclude: Conclude | None = None,
    plain: bool | None = None,
) -> Outcome:
    """Train what is not trained yet. Calling it again resumes the sweep, however the previous call ended.

    Args:
        spec: The sweep.
        root: The folder of the sweeps.
        conclude: Called at the end, finished or not, to write tables and attach them.
        plain: Whether to print lines instead of a live view; None for what the terminal allows.

    Raises:
        InputError: If the sweep of that name has another configuration or another trainer, or another process is
            running it. Raised before anything is written.
        StorageError: If the disk is full or read-only. What was committed is safe.
    """
    return train(spec, settle(root, spec.name, spec.question, fresh=spec.fresh), conclude=conclude, plain=plain)


def train(
    spec: SweepSpec,
    home: Home,
    *,
    conclude: Conclude | None = None,
    plain: bool | None = None,
    stage: Stage | None = None,
) -> Outcome:
    """Train what is not trained yet of the sweep in a folder.

    Args:
        spec: The sweep, or the studies of the stage.
        home: The folder.
        conclude: As in `sweep`.
        plain: As in `sweep`.
        stage: What is trained; None for the search.
    """
    from sweeper.search.study import Studies, build_studies
    from sweeper.search.tryout import try_out

    try_out(build_studies(spec.studies, spec.terms, home.journal))
    if spec.summary:
        terminal.announce(f"{spec.summary}.")
    chosen = choose(spec, stored_trainer(home))
    no_skill = untrained.level(home, spec, chosen.trainer)
    trainer = make(spec, chosen.trainer)
    with lock(home), _log_to_file(home):
        committed = published_round(home.spool) if home.is_stored else None
        search = Studies(home.journal, spec.studies, spec.terms, committed)
        before, opened_at = home.read(), search.round
        home.write({**_config(home, spec, search, chosen, no_skill), **_confirmations(home, stage)})
        is_concluded = home.read() == before and _is_concluded(home, opened_at)
        death = crash.previous_death(home, [jobs[0] for jobs, _ in search.resume()])
        tracked = TrackedSweep(home.path, home.name, home.read()["id"], search.round)
        tracker = trackers.start(tracked, spec.tracker)
        _introduce(spec, tracker, home, chosen.device, "" if stage is None else stage.about)
        _link(search, tracker)
        rounds, at_end, checkpoint = _rounds(spec, home, search, tracker, stage)
        ends = _Ends(spec.search.timeout)
        with (
            crash.noted(home),
            closing(trainer),
            _live_view(spec, home, search, plain) as view,
            ends.catch_signals(view.note),
        ):
            if death:
                view.note(death)
            if chosen.why:
                view.note(f"Training {chosen.why}.")
            if search.resumed_as_written:
                view.note(AS_WRITTEN.format(", ".join(search.resumed_as_written)))
            finished = loop.run(
                loop.Rooms(rounds, trainer, tracker, view),
                checkpoint=checkpoint,
                stop=ends.stop,
                due=_every(CHECKPOINT_SECONDS),
                at_end=at_end,
            )
        if search.is_pending:  # nothing was trained, but a study took over trials or ended
            _commit(search, tracker)
        if finished:  # nothing is open that a checkpoint could restore
            shutil.rmtree(checkpoint, ignore_errors=True)
        if is_concluded and search.round == opened_at:  # writing the same files takes long in a large sweep
            unsent = tracker.finish()
        else:
            unsent = _finish(home, search.round, tracker, conclude)
        lost = find_loss(home.spool, search.round)
    return Outcome(home, None if finished else ends.why, ends.signal, unsent, lost, spec.tracker is not None)


def _rounds(
    spec: SweepSpec, home: Home, search: Studies, tracker: Tracker, stage: Stage | None
) -> tuple[Search, AtEnd, Path]:
    """Return what the loop asks for trials, what it calls at the end of each, and the folder of its checkpoint."""
    if stage is None:
        keep = BestWeights(home.weights, spec.keep.best, spec.keep.quota_gb, spec.objective.direction)
        return search, keep, home.checkpoint
    return *stage.search(search, tracker), home.path / stage.name


def _live_view(
    spec: SweepSpec, home: Home, search: Studies, plain: bool | None
) -> AbstractContextManager[terminal.TerminalView]:
    """Return the live view, with the studies as they are now."""
    objective = spec.objective
    prunes = any(study.pruner is not None for study in spec.studies)
    tally = terminal.Tally(
        search.progress(),
        terminal.Terms(len(spec.train.report_steps), objective.direction, objective.metric, prunes),
        past={study: terminal.Past(*before) for study, before in search.histories().items()},
    )
    goal = terminal.TO_LOOK if any(study.replicates for study in spec.studies) else terminal.LEFT
    return terminal.view(tally, terminal.Heading(home.name, objective.metric, objective.direction, goal), plain=plain)


def _introduce(spec: SweepSpec, tracker: Tracker, home: Home, device: str, about: str) -> None:
    """Introduce each study to the tracker, with what it is made of and its configuration."""
    metric, direction = spec.objective.metric, spec.objective.direction
    shared = provenance.summary(spec, device)
    for study in spec.studies:
        searched = tuple(study.axes.searched)
        role: StudyRole = "replicate" if study.replicates else "trial"
        tracker.introduce(TrackedStudy(study.name, study.family.name, metric, direction, searched, role))
        tracker.describe(study.name, shared)
        if study.replicates:
            tracker.describe(study.name, Summary(note=about.format(study.family.name)))
        tracker.artifact(study.name, home.config)
        if spec.target is not None:
            tracker.describe(study.name, Summary(metrics={"target": spec.target}))


def _link(search: Studies, tracker: Tracker) -> None:
    """Link trials that a wider study took over with that study. They stay tracked where they are."""
    for study, origins in search.trials_taken_over.items():
        extended = ", ".join(sorted({origin.study for origin in origins}))
        tracker.describe(study, Summary(tags={"sweep.extends": extended}))
        for origin in origins:
            tracker.tag(origin, {"sweep.extended_by": study})


def _commit(search: Studies, tracker: Tracker) -> None:
    """Commit a round in which nothing was trained, in the loop's order."""
    round = search.round + 1
    tracker.commit(round)
    search.commit(round)
    tracker.publish(round)


def _is_concluded(home: Home, round: int) -> bool:
    """Return whether the previous command wrote the files of this round, and they are there."""
    folders = (home.tables, home.traces, home.path / "figures")
    return events.is_concluded(home.spool / events.EVENTS, round) and all(folder.is_dir() for folder in folders)


def _finish(home: Home, round: int, tracker: Tracker, conclude: Conclude | None) -> int:
    """Write traces, tables and summaries, and wait for the tracker to send them. Returns the unsent events."""
    for study, path in write_parquet(home.spool, home.traces).items():
        tracker.artifact(study, path)
    if conclude is not None:
        conclude(home, tracker)
    tracker.commit(round)
    tracker.publish(round)
    return tracker.finish()


# --- what is stored ---------------------------------------------------------------------------------


def _config(home: Home, spec: SweepSpec, search: Studies, chosen: Chosen, no_skill: float | None) -> dict[str, object]:
    """Return the configuration: what is stored, with this command's families and limits, if it searches."""
    before = home.read()
    trials = {progress.study: progress.trials for progress in search.progress()}
    studies = {
        study.name: {
            "family": study.family.name,
            "trials": trials[study.name],
            **({} if study.stop is None else {"stop": study.stop}),
            "schedule": dict(spec.schedules[study.family.name]),
            "sampler": study.sampler.node,
            "pruner": None if study.pruner is None else study.pruner.node,
        }
        for study in spec.studies
        if not study.retries_only and not study.replicates
    }
    return {
        "format": FORMAT,
        "name": home.name,
        "id": before.get("id") or uuid.uuid4().hex,
        "version": __version__,
        "question": dict(spec.question),
        "target": spec.target,
        "no_skill": no_skill,
        "trainer": chosen.node,
        "machines": _machines(before.get("machines", []), chosen.device),
        "studies": {**before.get("studies", {}), **studies},
    }


def _confirmations(home: Home, stage: Stage | None) -> dict[str, object]:
    """Return what the configuration holds of confirmations; {} before the first one."""
    found = {**home.read().get("confirmations", {}), **({} if stage is None else stage.settings)}
    return {"confirmations": found} if found else {}


def _machines(before: list[dict[str, str]], device: str) -> list[dict[str, str]]:
    """Return the machines that trained the sweep, this one included."""
    this = machine.describe(device)
    return before if this in before else [*before, this]


@contextmanager
def _log_to_file(home: Home) -> Iterator[None]:
    """Write what the package logs to the sweep's log file."""
    with writing(home.log):
        file = _LogFile(home.log, encoding="utf-8")
    file.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
        with suppress(OSError):
            file.close()


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts off. The sweep itself says what cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


# --- when to stop -----------------------------------------------------------------------------------


class _Ends:
    """Ends a sweep after the current round: on a signal, or when its time is over."""

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
    def catch_signals(self, say: Say) -> Iterator[None]:
        """End the sweep after this round on the first SIGINT or SIGTERM, and at once on the second."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number
            say("Finishing this round, then saving. Press Ctrl-C again to stop now and repeat the round later.")

        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread gets signals
            return
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _every(seconds: float) -> Callable[[], bool]:
    """Return a function that is True once in `seconds`."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return due
