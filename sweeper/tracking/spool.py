"""The spool: one durable file of everything a sweep did, written before anything is sent."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sweeper.files import fsync_folder, writing
from sweeper.tracking import events
from sweeper.tracking.events import EVENTS
from sweeper.tracking.small_files import read_object, replace_object
from sweeper.types import Ending, InputError, Job, Report, Summary, TrackedStudy, TrialId

PUBLISHED = "published.json"


class Spool:
    """The tracker that every sweep has. It commits to `folder`/events.jsonl and says what is published.

    The loop calls `commit` here, then commits the journal, then calls `publish`. Opening a spool drops everything after
    the last mark of a round <= last_round: a torn line, or a round that the journal does not have.

    Calls before `commit` touch no file. Arrays are copied at once, so a trainer may reuse their memory.

    Args:
        folder: The spool's folder.
        last_round: The last round to keep.
        clock: The wall clock in nanoseconds. It may jump: times in the spool never go back.
    """

    def __init__(self, folder: Path, last_round: int, clock: Callable[[], int] = time.time_ns) -> None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._path = self.folder / EVENTS
        self._round, self._end = events.last_mark(self._path, last_round)
        with writing(self._path):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            if os.fstat(self._file).st_size != self._end:
                os.ftruncate(self._file, self._end)
            os.fsync(self._file)
            fsync_folder(self.folder)
        self._pending: list[bytes] = []
        self._clock = clock
        self._last = events.mark_time(self._path, self._end) + 1  # of two values of a metric, MLflow shows the later
        self._publish()

    # --- record -----------------------------------------------------------------------------------------

    def introduce(self, study: TrackedStudy) -> None:
        tags = {
            "schedule.family": study.family,
            events.METRIC: study.metric,
            events.DIRECTION: study.direction,
            events.SEARCHED: " ".join(study.searched),
            **({} if study.role == "trial" else {events.ROLE: study.role}),
        }
        self.describe(study.name, Summary(tags=tags))

    def open(self, jobs: Sequence[Job]) -> None:
        self._pending.append(events.open_line(jobs, self._now()))

    def append(self, reports: Sequence[Report]) -> None:
        now = self._now()
        self._pending.extend(events.report_line(report, now) for report in reports)

    def close(self, ending: Ending) -> None:
        self._pending.append(events.close_line(ending, self._now()))

    def tag(self, trial: TrialId, tags: Mapping[str, str]) -> None:
        self._pending.append(events.tag_line(trial, tags, self._now()))

    def describe(self, study: str, summary: Summary) -> None:
        self._pending.append(events.describe_line(study, summary, self._now()))

    def artifact(self, study: str, path: Path, *, table: bool = False) -> None:
        """Record a file or folder of the study. It is read when it is sent, and again if it changes."""
        resolved = path.resolve()
        home = self.folder.parent
        stored = str(resolved.relative_to(home)) if resolved.is_relative_to(home) else str(resolved)
        self._pending.append(events.artifact_line(study, stored, _digest(resolved), self._now(), table=table))

    # --- commit and publish -----------------------------------------------------------------------------

    def commit(self, round: int) -> None:
        """Write everything recorded, in one write and one fsync, completely or not at all.

        Raises:
            StorageError: The disk is full, for example. Nothing is lost, and `commit` may be called again.
        """
        data = b"".join([*self._pending, events.mark_line(round, self._now())])
        with writing(self._path):
            try:
                _write(self._file, data)
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._pending.clear()
        self._end += len(data)
        self._round = round

    def publish(self, round: int) -> None:
        """Allow rounds up to this one to be sent: the journal has them."""
        if round >= self._round:  # the spool may be ahead of the journal
            self._publish()

    def finish(self) -> int:
        """Close the file. Returns 0: a spool delivers everything."""
        os.close(self._file)
        return 0

    def _now(self) -> int:
        """Return the wall clock in milliseconds, or the last time if the clock was set back."""
        self._last = max(self._last, self._clock() // 1_000_000)
        return self._last

    def _publish(self) -> None:
        """Publish the bytes [0, end). Without fsync: opening the spool publishes them again."""
        replace_object(self.folder / PUBLISHED, {"round": self._round, "end": self._end})


def published_bytes(folder: Path) -> int:
    """Return how many bytes of the events in `folder` may be sent."""
    return _published(folder, "end")


def published_round(folder: Path) -> int:
    """Return the last round that may be sent, so the journal has it; 0 if none is known."""
    try:
        return _published(folder, "round")
    except InputError:  # another user's, whose results anyone may read
        return 0


def publish_again(folder: Path, last_round: int) -> None:
    """Write what may be sent if that file was lost. For a sweep that no process runs.

    Args:
        folder: Folder of the spool.
        last_round: The last round that the journal has.
    """
    if not read_object(folder / PUBLISHED) and (folder / EVENTS).is_file():
        round, end = events.last_mark(folder / EVENTS, last_round)
        replace_object(folder / PUBLISHED, {"round": round, "end": end})


class Loss(NamedTuple):
    """What a spool no longer has.

    Attributes:
        rounds: Committed rounds whose marks are missing.
        lines: Damaged lines.
    """

    rounds: int
    lines: int

    def __bool__(self) -> bool:
        return any(self)

    @property
    def text(self) -> str:
        """What is lost and what is not, for the user."""
        parts = {"round": self.rounds, "line": self.lines}
        lost = " and ".join(f"{count} {part}{'s' * (count > 1)}" for part, count in parts.items() if count)
        return (
            f"Missing or damaged in spool/{EVENTS}: {lost}. What a tracker does not have of them cannot be sent any "
            "more. The tables are complete: they come from the journal."
        )


def find_loss(folder: Path, last_round: int) -> Loss:
    """Return what a spool lacks of the rounds up to `last_round`. It is read whole."""
    marked, damaged = set(), 0
    for line in events.lines(folder / EVENTS):
        if not events.is_as_written(line):
            damaged += 1
        elif line.startswith(events.MARK):
            marked.add(events.parse(line)["round"])
    return Loss(len(set(range(1, last_round + 1)) - marked), damaged)


def _published(folder: Path, key: str) -> int:
    number = read_object(folder / PUBLISHED).get(key, 0)
    return number if isinstance(number, int) else 0


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _digest(path: Path) -> str:
    """Return the digest of a file's content, or of all files of a folder with their names."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_dir():
            digest.update(json.dumps(str(file.relative_to(path.parent))).encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
