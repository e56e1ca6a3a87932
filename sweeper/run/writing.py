"""Write a verdict, or what belongs to it, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sweeper.files import replace_file


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a file whole or not at all, unless it holds that already. NaN is refused."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        replace_file(path, text, durable=True)
