"""The journal of a sweep: Optuna's journal format, in memory, made durable once a round.

The file has one JSON object per line, as Optuna's own `JournalFileBackend` writes it, so its readers can read this. The
differences: lines stay pending until `commit`, which is one write and one fsync. Each round ends with its mark, and
opening the file truncates it after the last mark. A crash therefore leaves whole rounds, never part of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from optuna.storages.journal import BaseJournalBackend

from sweeper.types import InputError

MARK = "round"  # a study's user attribute of this name ends a round
SET_STUDY_USER_ATTR = 2  # Optuna's code of this operation in its file format


class Log(TypedDict):
    """The fields of a line that are read here. A line is one of Optuna's operations."""

    op_code: int
    user_attr: NotRequired[dict[str, object]]


class Journal(BaseJournalBackend):
    """The lines of a journal file, and those not written yet. It has one writer and any number of readers.

    Args:
        path: The file. It is created if it is missing, unless `read_only`.
        read_only: Never change the file, and read it up to its last mark.

    Raises:
        FileNotFoundError: The file is missing and `read_only`.
        InputError: The file is damaged before its last mark. No crash does that.
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
        # From the lines, not from the objects of append_logs: a study then holds exactly what its file can restore.
        return _decode_whole(self._lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._read_only:
            raise PermissionError(f"{self._path} is open for reading only")
        self._lines.extend(json.dumps(log, separators=(",", ":")).encode() for log in logs)

    def refresh(self) -> bool:
        """Read what was committed since the last read, and return whether there was any. For readers.

        Raises:
            OSError: The file is shorter than before, so it is another file.
        """
        with self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._size:
                raise OSError(f"{self._path} is shorter than what was read from it")
            file.seek(self._size)
            new = file.read()
        size = committed_size(new, self._path)
        self._size += size
        self._lines += new[:size].split(b"\n")[:-1]
        self._written = len(self._lines)
        return size > 0

    @property
    def is_pending(self) -> bool:
        """Whether some lines are not in the file yet."""
        return self._written < len(self._lines)

    def commit(self) -> None:
        """Write all pending lines and wait until they are durable. After an error it may be called again.

        Raises:
            OSError: The file cannot be written, or another process made it shorter.
        """
        pending = b"".join(line + b"\n" for line in self._lines[self._written :])
        with self._path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) < self._size:
                raise OSError(f"{self._path} is shorter than what was written to it: something else changed it")
            file.truncate(self._size)  # drop what a failed commit or another writer left there
            file.seek(self._size)
            file.write(pending)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(pending)
        self._written = len(self._lines)


def committed_size(data: bytes, path: Path) -> int:
    """Return the size of a journal's committed part: up to the end of its last mark, in bytes.

    Args:
        data: The content of the file, from the start of a line.
        path: The file; errors name it.

    Raises:
        InputError: A line before the last mark is damaged.
    """
    size = offset = 0
    damaged: int | None = None
    lines = data.split(b"\n")[:-1]
    for number, (line, log) in enumerate(zip(lines, _decode_all(lines), strict=True), start=1):
        offset += len(line) + 1
        if log is None:
            damaged = damaged or number
        elif _is_mark(log):
            if damaged:
                raise InputError(
                    "journal", path, f"line {damaged} is damaged, but whole rounds follow it", "Restore the file"
                )
            size = offset
    return size


def _decode_all(lines: Sequence[bytes]) -> list[Log | None]:
    """Return the operation in each line; None for a damaged line."""
    logs: list[Any]
    try:
        logs = _decode_whole(lines)
    except ValueError:
        logs = []
    if len(logs) != len(lines):  # a damaged line
        logs = [_decode(line) for line in lines]
    return [cast(Log, log) if isinstance(log, dict) and "op_code" in log else None for log in logs]


def _decode_whole(lines: Sequence[bytes]) -> list[Any]:
    """Return the objects in all lines. One call takes a third of the time of one for each line.

    Raises:
        ValueError: A line is not an object of JSON.
    """
    logs: list[Any] = json.loads(b"[%s]" % b",".join(lines))
    return logs


def _decode(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_mark(log: Log) -> bool:
    return log["op_code"] == SET_STUDY_USER_ATTR and MARK in log.get("user_attr", ())


def _create(path: Path) -> None:
    """Create an empty file unless it exists. Its directory entry survives a crash."""
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
