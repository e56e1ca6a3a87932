"""The comment at the top of an exported file."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from sweeper.export.subject import Exported

WIDTH = 100


def header(exported: Exported, notes: Sequence[str] = ()) -> str:
    """Return the comment: how the file is used and what the trial is, a paragraph each."""
    facts = [f"{subject}: {text}" for subject, text in exported.facts.items()]
    return "".join(f"{line}\n" for text in [*notes, *facts] for line in _wrapped(text))


def _wrapped(text: str) -> list[str]:
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#   ", **options)  # type: ignore[arg-type]
