"""The guide's page of optimizers is as old as what its table is made of."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_table_is_current() -> None:
    spec = importlib.util.spec_from_file_location("optimizers_page", ROOT / "scripts" / "optimizers.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.PAGE.read_text(encoding="utf-8")
    assert text == script.page(), "Run: python scripts/optimizers.py"
    assert text.count(script.BEGIN) == text.count(script.END) == 1
