"""Files on a machine whose disk may be full or read-only, which may be another user's, or damaged since."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sweeper.types import InputError

CRC = b',"crc":"'  # the last key of a sealed JSON object
_TAIL = len(CRC) + 8 + len(b'"}')

PRIVATE = 0o600

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST)


class StorageError(OSError):
    """The machine cannot write a file of a sweep. What was committed before is complete on disk.

    The command line prints it and exits with code 1.
    """

    def __str__(self) -> str:
        problem = f"could not be written ({_reason(self)}). What was committed is safe"
        return f"{self.filename}: {problem}. {_remedy(self)}: it resumes"


def is_about_storage(error: OSError) -> bool:
    """Whether a disk is full or read-only, or something is in the way, rather than a fault of the program."""
    return isinstance(error, StorageError) or error.errno in (*_FULL, *_FORBIDDEN, *_IN_THE_WAY)


def explain(error: OSError) -> str:
    """Return in one line what cannot be written or read, and what to do."""
    if isinstance(error, StorageError):
        return str(error)
    return f"{error.filename or 'the output'}: {_reason(error)}. {_remedy(error)}"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else error.strerror or type(error).__name__


def _remedy(error: OSError) -> str:
    remedy = "Fix this"
    if error.errno in _FULL:
        remedy = "Free some space"
    elif error.errno in _FORBIDDEN:
        remedy = "Allow this user to read and write it"
    elif error.errno in _IN_THE_WAY:
        remedy = "Move away what is in its place"
    return f"{remedy}, then repeat the command"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file or folder in the error if writing it fails.

    Raises:
        StorageError: The block raised an OSError.
    """
    try:
        yield
    except (StorageError, TimeoutError):
        raise
    except OSError as error:
        raise StorageError(error.errno, error.strerror or str(error), str(path)) from error


def of_another_user(path: Path) -> InputError:
    """Return the error of a file that this user may not read."""
    problem = "the file belongs to another user, who alone may read it"
    return InputError("sweep", path, problem, "Run this command as that user")


def open_private(path: Path, flags: int) -> BinaryIO:
    """Open a file to write it, and create it if it is missing. Only its owner may read it, also if others could before.

    Args:
        path: The file.
        flags: os.O_WRONLY, or with os.O_APPEND.
    """
    file = os.open(path, flags | os.O_CREAT, PRIVATE)
    path.chmod(PRIVATE)
    return os.fdopen(file, "ab" if flags & os.O_APPEND else "wb")


def replace_file(path: Path, content: str | bytes, *, durable: bool = False, private: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file. Its folder must exist.
        content: What it holds; text is written as UTF-8.
        durable: Whether to wait until it survives a crash of the machine.
        private: Whether only its owner may read it.

    Raises:
        StorageError: It cannot be written. The previous file is still there.
    """
    data = content.encode() if isinstance(content, str) else content
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with writing(path):
        try:
            new.unlink(missing_ok=True)  # of a process that was killed, perhaps with another mode
            with open_private(new, os.O_WRONLY) if private else new.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with suppress(OSError):  # nothing of it may exist, on a read-only disk for example
                new.unlink()
            raise
        if durable:
            fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- checksums --------------------------------------------------------------------------------------


def seal(data: bytes) -> bytes:
    """Return lines that end with a JSON object, with their CRC-32 as its last key. JSON readers see one more key."""
    return data[:-1] + CRC + b'%08x"}' % zlib.crc32(data)


def is_intact(data: bytes) -> bool:
    """Whether sealed lines are as they were written. Lines without a checksum, of earlier versions, count as intact."""
    return not is_sealed(data) or data[len(CRC) - _TAIL : -2] == b"%08x" % zlib.crc32(b"}", zlib.crc32(data[:-_TAIL]))


def is_sealed(data: bytes) -> bool:
    """Whether lines have a checksum."""
    return data[-_TAIL:].startswith(CRC) and data.endswith(b'"}')
