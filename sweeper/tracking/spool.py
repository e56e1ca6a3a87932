"""The spool: what a sweep did, in one durable file, before any of it is sent anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweeper.tracking import events
from sweeper.tracking.events import EVENTS
from sweeper.tracking.small_files import read_object, replace_object
from sweeper.types import Ending, Job, Report, Summary, TrackedStudy, TrialId

PUBLISHED = "published.json"


class Spool:
    """The Tracker that every sweep has: notes down, commits to `folder`/events.jsonl, and says what is published.

    Order, which the loop keeps: commit(round) here, then the journal, then publish(round). On open everything after
    the last mark of a round <= last_round is cut: a torn line, or a round that the journal does not know. Noting
    something down touches no file; arrays are copied at once, so a trainer may use their memory again.
    """

    def __init__(self, folder: Path, last_round: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._path = self.folder / EVENTS
        self._round, self._end = events.last_mark(self._path, last_round)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if os.fstat(self._file).st_size != self._end:
            os.ftruncate(self._file, self._end)
        os.fsync(self._file)
        _sync_folder(self.folder)
        self._pending: list[bytes] = []
        self._publish()

    # --- noting down ------------------------------------------------------------------------------------

    def introduce(self, study: TrackedStudy) -> None:
        said = {
            "schedule.family": study.family,
            events.METRIC: study.metric,
            events.DIRECTION: study.direction,
            events.SEARCHED: " ".join(study.searched),
        }
        self.describe(study.name, Summary(tags=said))

    def open(self, jobs: Sequence[Job]) -> None:
        self._pending.append(events.open_line(jobs, _now()))

    def append(self, reports: Sequence[Report]) -> None:
        now = _now()
        self._pending.extend(events.report_line(report, now) for report in reports)

    def close(self, ending: Ending) -> None:
        self._pending.append(events.close_line(ending, _now()))

    def tag(self, trial: TrialId, tags: Mapping[str, str]) -> None:
        self._pending.append(events.tag_line(trial, tags, _now()))

    def describe(self, study: str, summary: Summary) -> None:
        self._pending.append(events.describe_line(study, summary, _now()))

    def artifact(self, study: str, path: Path, *, table: bool = False) -> None:
        """A file or a folder of the study; it is read when it is sent, and again when it changed."""
        resolved = path.resolve()
        home = self.folder.parent
        known = str(resolved.relative_to(home)) if resolved.is_relative_to(home) else str(resolved)
        self._pending.append(events.artifact_line(study, known, _digest(resolved), _now(), table=table))

    # --- making it last ---------------------------------------------------------------------------------

    def commit(self, round: int) -> None:
        """One write and one fsync; whole or not at all, also when the disk is full (OSError, nothing is lost)."""
        data = b"".join([*self._pending, events.mark_line(round, _now())])
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
        """The journal has all rounds up to this one: they may leave."""
        if round >= self._round:  # the spool is ahead of the journal until the journal's commit
            self._publish()

    def finish(self) -> int:
        """Close the file. Nothing is on its way: 0."""
        os.close(self._file)
        return 0

    def _publish(self) -> None:
        """Bytes [0, end) may be sent. Not fsynced: opening the spool again publishes again."""
        replace_object(self.folder / PUBLISHED, {"round": self._round, "end": self._end})


def published_bytes(folder: Path) -> int:
    """How many bytes of the events of the spool in `folder` may be sent."""
    return int(read_object(folder / PUBLISHED).get("end", 0))


def _now() -> int:
    return time.time_ns() // 1_000_000


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    """A new file's name is durable once its folder is."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _digest(path: Path) -> str:
    """Of a file's content, or of all files of a folder with their names."""
    whole = hashlib.blake2b(digest_size=16)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_dir():
            whole.update(json.dumps(str(file.relative_to(path.parent))).encode())
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    whole.update(block)
    return whole.hexdigest()
