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
from sweeper.tracking.mlflow import sender
from sweeper.tracking.mlflow.destination import Destination, resolve
from sweeper.types import Direction, Ending, Job, Report, TrialId, Value


class Spool:
    """The Tracker of a sweep: notes down, commits to `folder`/events.jsonl, and has a sender send what is published.

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
        self._noted: list[bytes] = []
        self._sender: sender.Sender | None = None
        self._destination: Destination | None = None
        sender.publish(self.folder, self._round, self._end)

    def send(self, *, uri: str | None, experiment: str, sweep_id: str, named: bool = False) -> None:
        """Start sending what is published to the MLflow at `uri` ("none": nowhere, null: see `resolve`).

        experiment: the sweep's own name, or, when `named`, an experiment that a person chose and that may hold
        other runs too. Raises InputError if the address or the name cannot be used.
        """
        self._destination = resolve(uri, experiment=experiment, sweep_id=sweep_id, named=named)
        sender.remember(self.folder, self._destination)
        if self._destination is not None:
            self._sender = sender.Sender(self.folder, self._destination)

    # --- noting down ------------------------------------------------------------------------------------

    def open(self, jobs: Sequence[Job]) -> None:
        self._noted.append(events.opened(jobs, _now()))

    def append(self, reports: Sequence[Report]) -> None:
        now = _now()
        self._noted.extend(events.reported(report, now) for report in reports)

    def close(self, ending: Ending) -> None:
        self._noted.append(events.closed(ending, _now()))

    def tag(self, trial: TrialId, tags: Mapping[str, str]) -> None:
        self._noted.append(events.tagged(trial, tags, _now()))

    def artifact(self, study: str, path: Path) -> None:
        """A file or a folder for the study's summary run; it is read when it is sent, and again when it changed."""
        resolved = path.resolve()
        home = self.folder.parent
        known = str(resolved.relative_to(home)) if resolved.is_relative_to(home) else str(resolved)
        self._noted.append(events.attached(study, known, _digest(resolved), _now()))

    def introduce(self, study: str, family: str, *, metric: str, direction: Direction, searched: Sequence[str]) -> None:
        """What is asked of a study: with it, trials are ranked and drawn. Every command says it again."""
        said = {events.METRIC: metric, events.DIRECTION: direction, events.SEARCHED: " ".join(searched)}
        self.describe(study, tags={"schedule.family": family, **said})

    def describe(
        self,
        study: str,
        *,
        params: Mapping[str, Value] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        self._noted.append(events.described(study, params or {}, tags or {}, metrics or {}, _now()))

    # --- making it last ---------------------------------------------------------------------------------

    def commit(self, round: int) -> None:
        """One write and one fsync; whole or not at all, also when the disk is full (OSError, nothing is lost)."""
        data = b"".join([*self._noted, events.marked(round, _now())])
        try:
            _write(self._file, data)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._noted.clear()
        self._end += len(data)
        self._round = round

    def publish(self, round: int) -> None:
        """The journal has all rounds up to this one: they may leave."""
        if round < self._round:
            return  # the spool is ahead of the journal until the journal's commit
        sender.publish(self.folder, self._round, self._end)
        if self._sender is not None:
            self._sender.revive()

    def finish(self, timeout: float) -> int:
        """Wait at most `timeout` seconds until everything is sent; the number of events that are not."""
        os.close(self._file)
        if self._sender is None or self._destination is None:
            return 0
        self._sender.finish(timeout)
        return sender.unsent(self.folder, self._destination)


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
