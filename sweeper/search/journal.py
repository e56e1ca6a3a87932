"""The journal of a sweep: Optuna's journal format, in memory, made durable once a round.

The file has one JSON object per line, as Optuna's own `JournalFileBackend` writes it, so its readers can read this. The
differences: lines stay pending until `commit`, which is one write and one fsync. Each round ends with its mark, and
opening the file truncates it after the last mark. A crash therefore leaves whole rounds, never part of one. A mark has
the checksum of its round, so a round that was damaged later is not believed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from optuna.storages.journal import BaseJournalBackend

from sweeper.files import fsync_folder, is_intact, of_another_user, seal, writing
from sweeper.types import InputError

MARK = "round"  # a study's user attribute of this name ends a round
SET_STUDY_USER_ATTR = 2  # Optuna's code of this operation in its file format
RESTORE = "Restore the file from a backup, or start over with fresh=true"


class Log(TypedDict):
    """The fields of a line that are read here. A line is one of Optuna's operations."""

    op_code: int
    user_attr: NotRequired[dict[str, Any]]


class Journal(BaseJournalBackend):
    """The lines of a journal file, and those not written yet. It has one writer and any number of readers.

    Args:
        path: The file.
        committed: The last round that is known to be committed; None for a new sweep, whose file is created.
        read_only: Never change the file, and read it up to its last mark.

    Raises:
        InputError: The file is missing, damaged, or does not have that round. No crash does that. The file is as it
            was.
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path, *, committed: int | None = None, read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only
        if not read_only and committed is None:
            _create(path)
        data = _read(path)
        self._size, self.round = committed_part(data, path)
        _check_complete(data, path, self.round, committed or 0)
        if not read_only and self._size < len(data):
            _truncate(path, self._size)
        self._lines = data[: self._size].split(b"\n")[:-1]
        self._written = self._round_start = len(self._lines)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        # From the lines, not from the objects of append_logs: a study then holds exactly what its file can restore.
        return _decode_whole(self._lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._read_only:
            raise PermissionError(f"{self._path} is open for reading only")
        for log in logs:
            self._lines.append(json.dumps(log, separators=(",", ":")).encode())
            if _is_mark(log):
                self._lines[-1] = seal(b"\n".join(self._lines[self._round_start :])).rsplit(b"\n", 1)[-1]
                self._round_start = len(self._lines)

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
        size, round = committed_part(new, self._path)
        self._size += size
        self.round = max(self.round, round)
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
            StorageError: The file cannot be written.
            OSError: Another process made it shorter.
        """
        pending = b"".join(line + b"\n" for line in self._lines[self._written :])
        with writing(self._path), self._path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) < self._size:
                raise OSError(f"{self._path} is shorter than what was written to it: something else changed it")
            file.truncate(self._size)  # drop what a failed commit or another writer left there
            file.seek(self._size)
            file.write(pending)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(pending)
        self._written = len(self._lines)


def committed_part(data: bytes, path: Path) -> tuple[int, int]:
    """Return the committed part of a journal.

    Args:
        data: The content of the file, from the start of a round.
        path: The file; errors name it.

    Returns:
        Its size in bytes, up to the end of its last mark; and the round of that mark, 0 without one.

    Raises:
        InputError: A line before the last mark is damaged.
    """
    size = offset = round = 0
    damaged: int | None = None
    lines = data.split(b"\n")[:-1]
    for number, (line, log) in enumerate(zip(lines, _decode_all(lines), strict=True), start=1):
        offset += len(line) + 1
        if log is None:
            damaged = damaged or number
        elif _is_mark(log):
            if damaged:
                raise InputError("journal", path, f"line {damaged} is damaged, but whole rounds follow it", RESTORE)
            round = int(log["user_attr"][MARK])
            if not is_intact(data[size : offset - 1]):
                raise InputError("journal", path, f"round {round} is damaged: its checksum differs", RESTORE)
            size = offset
    return size, round


@contextmanager
def replaying(path: Path) -> Iterator[None]:
    """Explain what Optuna raises for operations that do not fit together.

    Raises:
        InputError: The block raised such an error.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        problem = f"its operations do not fit together ({type(error).__name__}: {error})"
        raise InputError("journal", path, problem, RESTORE) from error


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


def _is_mark(log: Mapping[str, object]) -> bool:
    attr = log.get("user_attr")
    return log["op_code"] == SET_STUDY_USER_ATTR and isinstance(attr, dict) and isinstance(attr.get(MARK), int)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("journal", path, "missing, and it has the results of the sweep", RESTORE) from None
    except PermissionError as error:
        raise of_another_user(path) from error
    except OSError as error:
        raise InputError("journal", path, f"cannot be read ({error.strerror})", RESTORE) from error


def _check_complete(data: bytes, path: Path, round: int, committed: int) -> None:
    """Check that a journal has the rounds that were committed, and that a file without any is one at all.

    Raises:
        InputError: It does not.
    """
    if round < committed:
        problem = f"it ends with round {round}, but {committed} were committed"
        remedy = f"{RESTORE}, or delete spool/published.json beside it to train the lost rounds again"
        raise InputError("journal", path, problem, remedy)
    if round == 0 and b"\n" in data and _decode(data.split(b"\n", 1)[0]) is None:
        raise InputError("journal", path, "not a journal", RESTORE)


def _create(path: Path) -> None:
    """Create an empty file unless it exists. Its directory entry survives a crash."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    with writing(path):
        path.touch()
        fsync_folder(path.parent)


def _truncate(path: Path, size: int) -> None:
    with writing(path), path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())
