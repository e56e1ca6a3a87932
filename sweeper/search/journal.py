"""The journal of a sweep: Optuna's journal format, in memory, made durable once a round.

One JSON object a line, as Optuna's own `JournalFileBackend` writes it, so whoever knows that reads this. What differs:
lines stay pending until `commit`, which is one write and one fsync; a round ends with its mark, and opening the file
cuts it after the last mark, so a crash leaves whole rounds and never half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from optuna.storages.journal import BaseJournalBackend

from sweeper.types import InputError

MARK = "round"  # a study's user attribute of this name ends a round
SET_STUDY_USER_ATTR = 2  # Optuna's code of that operation, part of its file format


class Log(TypedDict):
    """One line of the file, an operation of Optuna's, as far as it is read here."""

    op_code: int
    user_attr: NotRequired[dict[str, object]]


class Journal(BaseJournalBackend):
    """The lines of a journal file and those not yet in it. One writer; any number of readers beside it.

    read_only: never changes the file, and sees it as of its last mark. A missing file is created, or, read only,
    FileNotFoundError. Raises InputError if the file is damaged before its last mark: no crash does that.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only
        if not read_only:
            _create(path)
        data = path.read_bytes()
        self._size = committed_size(data, path)
        if not read_only and self._size < len(data):
            _truncate(path, self._size)
        self._lines = data[: self._size].split(b"\n")[:-1]
        self._written = len(self._lines)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        # Decoded from the line, not kept from append_logs: a study then never holds what its file would not give back.
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._read_only:
            raise PermissionError(f"{self._path} is open for reading")
        self._lines.extend(json.dumps(log, separators=(",", ":")).encode() for log in logs)

    def refresh(self) -> bool:
        """Take in what was committed since the file was read, without reading the rest again; whether there was any.

        For readers. Raises OSError if the file has become shorter than what was read: it is another one.
        """
        with self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._size:
                raise OSError(f"{self._path} is shorter than what was read of it")
            file.seek(self._size)
            new = file.read()
        size = committed_size(new, self._path)
        self._size += size
        self._lines += new[:size].split(b"\n")[:-1]
        self._written = len(self._lines)
        return size > 0

    @property
    def is_pending(self) -> bool:
        """Whether there are lines that are not in the file yet."""
        return self._written < len(self._lines)

    def commit(self) -> None:
        """Write all pending lines and wait until they are durable. After an error it may be called again."""
        pending = b"".join(line + b"\n" for line in self._lines[self._written :])
        with self._path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) < self._size:
                raise OSError(f"{self._path} is shorter than what was written to it: something else changed it")
            file.truncate(self._size)  # what a failed commit, or a writer that is none of ours, left there
            file.seek(self._size)
            file.write(pending)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(pending)
        self._written = len(self._lines)


def committed_size(data: bytes, path: Path) -> int:
    """How many bytes of a journal's content count: up to the end of its last mark. `path`: for the InputError."""
    size = offset = 0
    damaged: int | None = None
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        offset += len(line) + 1
        log = _decode(line)
        if log is None:
            damaged = damaged or number
        elif _is_mark(log):
            if damaged:
                raise InputError(
                    "journal", path, f"line {damaged} is damaged, though whole rounds follow it", "Restore the file"
                )
            size = offset
    return size


def _decode(line: bytes) -> Log | None:
    try:
        log: Log = json.loads(line)
    except ValueError:
        return None
    return log if isinstance(log, dict) and "op_code" in log else None


def _is_mark(log: Log) -> bool:
    return log["op_code"] == SET_STUDY_USER_ATTR and MARK in log.get("user_attr", ())


def _create(path: Path) -> None:
    """An empty file, if there is none, whose directory entry survives a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    path.touch()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())
