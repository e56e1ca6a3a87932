"""The live view in a notebook: one output of the cell that is updated, without threads or cursor movement."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from sweeper.text.columns import Line, clean, plain_text

SPACING = 1.0  # seconds between two updates at least
WIDTH = 110  # cells
NOTES = 20  # messages below the table at most


def is_in_kernel() -> bool:
    """Return whether this process is a notebook's kernel. IPython in a terminal is not."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Output:
    """The table and the messages as one output of a cell, updated at most once a second."""

    def __init__(self, draw: Callable[[], list[Line]], clock: Callable[[], float]) -> None:
        display = import_module("IPython.display").display
        self.draw, self.clock = draw, clock
        self.notes: list[str] = []
        self.sent_at = clock()
        self.handle = display(self._bundle(), raw=True, display_id=True)

    def update(self) -> None:
        """Send the table, but at most once a second."""
        if self.clock() - self.sent_at >= SPACING:
            self.send()

    def note(self, text: str) -> None:
        """Add a message below the table. The next update shows it."""
        self.notes = [*self.notes, clean(text)][-NOTES:]

    def send(self) -> None:
        """Send the table and the messages."""
        self.handle.update(self._bundle(), raw=True)
        self.sent_at = self.clock()

    def _bundle(self) -> dict[str, Any]:
        lines = [*self.draw(), *([(note, "")] for note in self.notes)]
        marked = "\n".join(map(_html, lines))
        return {
            "text/plain": "\n".join(map(plain_text, lines)),
            "text/html": f'<pre style="line-height: 1.2; white-space: pre">{marked}</pre>',
        }


def _html(line: Line) -> str:
    """Return the line as HTML. What is bold or green on a terminal is bold."""
    text = html.escape(plain_text(line))
    return f"<b>{text}</b>" if any("bold" in style or "green" in style for _, style in line) else text
