"""Small JSON files that one process writes while others read them. Only their owner may: they hold addresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.files import is_intact, of_another_user, replace_file, seal


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file, or {} if the file is missing or damaged.

    Raises:
        InputError: The file belongs to another user.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data) if is_intact(data) else {}
    except PermissionError as error:
        raise of_another_user(path) from error
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in content.items() if key != "crc"} if isinstance(content, dict) else {}


def replace_object(path: Path, content: Mapping[str, object] | None) -> None:
    """Write a file atomically, readable by its owner alone.

    Raises:
        StorageError: It cannot be written.
    """
    data = json.dumps(content).encode()
    replace_file(path, seal(data) if content else data, private=True)
