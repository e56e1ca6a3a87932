"""Small JSON files that one process writes while others read them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file, or {} if the file is missing or was damaged by a crash of the machine."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def replace_object(path: Path, content: Mapping[str, object] | None) -> None:
    """Write a file atomically."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(path)
