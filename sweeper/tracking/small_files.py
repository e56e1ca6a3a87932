"""Small JSON files that one process writes while others read them. Only their owner may: they hold addresses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sweeper.types import InputError

PRIVATE = 0o600


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file, or {} if the file is missing or was damaged by a crash of the machine.

    Raises:
        InputError: The file belongs to another user.
    """
    try:
        content = json.loads(path.read_bytes())
    except PermissionError as error:
        problem = "the file belongs to another user, who alone may read it"
        raise InputError("sweep", path, problem, "Run this command as that user") from error
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def replace_object(path: Path, content: Mapping[str, object] | None) -> None:
    """Write a file atomically, readable by its owner alone."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)  # of a process that was killed, perhaps with another mode
    with open_private(new, os.O_WRONLY) as file:
        file.write(json.dumps(content).encode())
    new.replace(path)


def open_private(path: Path, flags: int) -> BinaryIO:
    """Open a file to write it, and create it if it is missing. Only its owner may read it, also if others could before.

    Args:
        path: The file.
        flags: os.O_WRONLY, or with os.O_APPEND.
    """
    file = os.open(path, flags | os.O_CREAT, PRIVATE)
    path.chmod(PRIVATE)
    return os.fdopen(file, "ab" if flags & os.O_APPEND else "wb")
