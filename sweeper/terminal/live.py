"""The view of a running sweep: a live table on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from sweeper.terminal import notebook
from sweeper.terminal.frame import Heading, Window, frame
from sweeper.terminal.lines import Lines
from sweeper.terminal.screen import on_screen
from sweeper.terminal.tally import Tally
from sweeper.text.columns import Line, has_unicode, is_plain, put_line
from sweeper.types import Ending, Job, Report

Write = Callable[[str], None]


class TerminalView:
    """The View of a terminal, a notebook or a log.

    Args:
        tally: Counts what happens.
        lock: Held while counting. Hold it to read the tally from another thread.
        update: Called after each report and each end of a trial.
        note: Prints a message.
    """

    def __init__(self, tally: Tally, lock: threading.Lock, update: Callable[[], None], note: Write) -> None:
        self.tally, self._lock, self._update, self._note = tally, lock, update, note

    def open(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            self.tally.open(jobs)

    def arrived(self, report: Report) -> None:
        with self._lock:
            self.tally.arrived(report)
        self._update()

    def append(self, reports: Sequence[Report]) -> None:
        with self._lock:
            self.tally.append(reports)

    def close(self, ending: Ending) -> None:
        with self._lock:
            self.tally.close(ending)
        self._update()

    def commit(self, round: int) -> None:
        """Do nothing. The view does not wait for the journal."""

    def note(self, text: str) -> None:
        """Print a message: above the live table, or as a line. A signal handler may call it."""
        self._note(text)


def announce(text: str) -> None:
    """Print a line before there is a view: where the view will be, or in a notebook as output of the cell."""
    put_line(sys.stdout if notebook.is_in_kernel() else sys.stderr, text)


@contextmanager
def view(
    tally: Tally, heading: Heading, *, out: TextIO | None = None, plain: bool | None = None
) -> Iterator[TerminalView]:
    """Show a sweep while the block runs. The last state stays visible.

    NO_COLOR is respected, and the window may be resized. Print messages with the view's `note`.

    Args:
        tally: With the trials of earlier commands, so that a resumed sweep starts at 12/20.
        heading: The content of the title.
        out: By default stderr, or in a notebook's kernel one output that is updated.
        plain: Whether to print lines without control characters, by default if the stream is not a terminal or TERM is
            dumb.
    """
    lock = threading.Lock()

    def draw(window: Window) -> list[Line]:
        with lock:
            rows, elapsed = tally.rows(), tally.elapsed_seconds()
        return frame(rows, heading, window, elapsed=elapsed)

    if out is None and plain is None and notebook.is_in_kernel():
        output = notebook.Output(lambda: draw(Window(notebook.WIDTH)), tally.clock)
        try:
            yield TerminalView(tally, lock, output.update, output.note)
        finally:
            output.send()
        return
    stream = sys.stderr if out is None else out
    if is_plain(stream) if plain is None else plain:
        with _lines_view(tally, stream, heading) as (update, note):
            yield TerminalView(tally, lock, update, note)
        return
    unicode = has_unicode(stream)
    with on_screen(lambda width, height: draw(Window(width, height, unicode)), stream) as screen:
        yield TerminalView(tally, lock, lambda: None, screen.note)


@contextmanager
def _lines_view(tally: Tally, out: TextIO, heading: Heading) -> Iterator[tuple[Callable[[], None], Write]]:
    def write_line(text: str) -> None:
        put_line(out, text)

    write_line(f"{heading.title}: {heading.metric}, {heading.sense}")
    lines = Lines(tally, write_line, heading.goal)
    try:
        yield lines.update, write_line
    finally:
        lines.end()
