"""Lines at the end of a terminal that are redrawn in place. Other output goes above them.

It draws at most four times a second, with one write, and only if something changed. Lines are overwritten in place, and
the screen is never cleared. The cursor rests at the left below the lines, where an echoed ^C is overwritten. After a
kill nothing has to be restored. In the background nothing is drawn.

docs/decisions/0011-live-view.md says why this is not `rich.live`.
"""

from __future__ import annotations

import io
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from sweeper.text.columns import Line, assemble, clean, console, plain_text, put_line, width_of

REFRESHES = 4  # per second at most
LATE = 1.0  # seconds between two drawings after which the process may have been stopped
HIDE, SHOW, UP = "\x1b[?25l", "\x1b[?25h", "\x1b[A"  # the cursor
ERASE_RIGHT, ERASE_BELOW = "\x1b[K", "\x1b[J"

Draw = Callable[[int, int | None], list[Line]]  # (width, height) -> lines; height None for no limit


class Screen:
    """Draws in its own thread from `start` to `stop`. The last lines stay.

    Args:
        draw: Returns the lines for a width and a height; height None for no limit.
        out: The terminal.
    """

    def __init__(self, draw: Draw, out: TextIO) -> None:
        self.draw, self.out, self.console = draw, out, console(out)
        self.line_widths: list[int] = []  # cells of each line on the screen
        self.last_drawing = ("", 0)  # the last text and its width
        self._above: deque[str] = deque()
        self._drawing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)

    def start(self) -> None:
        """Draw, and start the thread."""
        with suppress(OSError, ValueError):
            self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, draw all lines, and print the remaining messages."""
        self._stopping.set()
        self._thread.join()
        with suppress(OSError, ValueError):
            self.refresh(last=True)
        while self._above:  # not drawn if the process is in the background
            put_line(self.out, self._above.popleft())

    def note(self, text: str) -> None:
        """Print above the lines with the next drawing. Takes no lock, so a signal handler may call it."""
        self._above.append(text)

    def refresh(self, last: bool = False) -> None:
        """Draw if something changed. `last` draws all lines, also beyond the window's height."""
        with self._drawing:
            if not _is_in_foreground(self.out):
                self.line_widths = []  # the shell writes to the screen now
                return
            width, height = self._size()
            lines = self.draw(width - 1, None if last else height - 1)
            text = self._render(lines)
            if self._above or (text, width) != self.last_drawing:
                self._write(text, width)
                self.line_widths = [width_of(plain_text(line)) for line in lines]
                self.last_drawing = (text, width)

    def forget(self, *_: object) -> None:
        """Draw below the current content next time: after a stop (Ctrl-Z) the shell has written to the screen."""
        self.line_widths, self.last_drawing = [], ("", 0)

    def _write(self, text: str, width: int) -> None:
        """Move to the first line, and write the new notes and the lines, in one write."""
        # A narrower window has wrapped the lines, so the cursor has to move up more rows.
        rows = sum(max(1, math.ceil(cells / width)) for cells in self.line_widths)
        # Row by row: tmux keeps a copy of all that ERASE_BELOW erases from the top of the window.
        erase = ERASE_RIGHT if self._above or width != self.last_drawing[1] else ""
        pieces = [HIDE, "\r", erase, (UP + erase) * rows]
        while self._above:
            pieces.append(clean(self._above.popleft()) + "\n")
        pieces += [line + ERASE_RIGHT + "\n" for line in text.split("\n")]
        encoding = self.out.encoding or "utf-8"
        self.out.write("".join([*pieces, ERASE_BELOW, SHOW]).encode(encoding, "replace").decode(encoding))
        self.out.flush()

    def _size(self) -> tuple[int, int]:
        """Return the columns and lines of the window. Rich would measure the standard streams instead of `out`."""
        from rich.console import ConsoleDimensions

        with suppress(OSError, ValueError):
            columns, lines = os.get_terminal_size(self.out.fileno())
            if columns and lines:
                self.console.size = ConsoleDimensions(columns, lines)
        return self.console.size

    def _render(self, lines: list[Line]) -> str:
        with self.console.capture() as captured:
            self.console.print(assemble(lines), end="")
        return captured.get()

    def _run(self) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone, but the sweep continues
            drawn_at = time.monotonic()
            while not self._stopping.wait(1 / REFRESHES):
                if time.monotonic() - drawn_at > LATE:  # after Ctrl-Z, the main thread has to call `forget` first
                    self._stopping.wait(1 / REFRESHES)
                self.refresh()
                drawn_at = time.monotonic()


@contextmanager
def on_screen(draw: Draw, out: TextIO) -> Iterator[Screen]:
    """Show a Screen while the block runs. What is printed to the terminal goes above its lines."""
    screen = Screen(draw, out)
    with _call_on_resume(screen.forget), _redirect(screen.note):
        screen.start()
        try:
            yield screen
        finally:
            screen.stop()


def _is_in_foreground(out: TextIO) -> bool:
    """Return whether the process may draw: it is not in the background of a shell."""
    try:
        return os.tcgetpgrp(out.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # no terminal of this session
        return True


@contextmanager
def _call_on_resume(forget: Callable[..., None]) -> Iterator[None]:
    """Call `forget` when the process resumes after Ctrl-Z."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers
        return
    before = signal.signal(signal.SIGCONT, forget)
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)


@contextmanager
def _redirect(note: Callable[[str], None]) -> Iterator[None]:
    """Pass what is printed to a terminal through sys.stdout and sys.stderr to `note`, line by line."""
    before = sys.stdout, sys.stderr
    above = [_Above(stream, note) if stream.isatty() else stream for stream in before]
    sys.stdout, sys.stderr = above
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in above:
            if isinstance(stream, _Above):
                stream.end()


class _Above(io.TextIOBase):
    """A stream that passes its lines to `note`. Everything else is the original stream's."""

    def __init__(self, stream: TextIO, note: Callable[[str], None]) -> None:
        self._stream, self._note, self._unfinished = stream, note, ""

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._note(line.rsplit("\r", 1)[-1])
        return len(text)

    def end(self) -> None:
        """Print the unfinished line."""
        if self._unfinished:
            self._stream.write(self._unfinished)
        self._unfinished = ""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
