"""Files of torch.save, written durably, and read only if every byte is as it was written.

Such a file is a ZIP archive with a CRC-32 of each record. torch writes these and never checks them.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any


class DamagedError(Exception):
    """A file is not as it was written, or torch.save did not write it."""


def save(content: object, path: Path) -> None:
    """Write tensors and plain data to a file and wait until they are durable. After an error there is no file.

    Raises:
        OSError: The file cannot be written.
    """
    import torch

    try:
        with path.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):  # a part of a file takes space of a full disk
            path.unlink()
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None  # torch hides it behind its own error
        raise


def load(path: Path, *, mmap: bool = False) -> Any:
    """Return the tensors and plain data in a file, on the CPU.

    Args:
        path: The file.
        mmap: Whether to map the tensors into memory instead of reading them.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: It is damaged.
    """
    import torch

    check(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises many kinds
        raise DamagedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def check(path: Path) -> None:
    """Compare a file with its checksums.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedError(str(error)) from error
    if damaged is not None:
        raise DamagedError(f"the checksum of {damaged} differs")
