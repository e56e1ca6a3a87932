"""The live view of a sweep that another process runs: `status --watch`."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TextIO

from sweeper.results.stored import StoredSweep
from sweeper.spec.question import Home
from sweeper.terminal import LEFT, TO_LOOK, Heading, Window, frame, on_screen
from sweeper.text.columns import Line, duration_text, has_unicode, is_plain, plain_text, put_line, shorten
from sweeper.types import InputError
from sweeper.views import answer
from sweeper.views.follower import Follower

REFRESH_SECONDS = 1.0  # between two reads of the files
PLAIN_WIDTH = 160  # cells, if there is no terminal
IDLE = "No process is running this sweep. The command that started it resumes it."


def watch(home: Home, out: TextIO | None = None) -> None:
    """Show a sweep until it is finished or Ctrl-C is pressed. If output is piped, show it once. Writes no files.

    Of a finished sweep the answer follows.

    Raises:
        InputError: If the sweep's files disappear.
    """
    out = sys.stdout if out is None else out
    follower, unicode = Follower(home), has_unicode(out)
    try:
        _follow(follower, out, unicode)
        if follower.is_finished:
            put_line(out, "")
            answer.show(StoredSweep(home), out=out)
    except FileNotFoundError as error:
        raise InputError("sweep", home.name, f"{error.filename} is gone", "See which sweeps are in sweeps/") from error


def _follow(follower: Follower, out: TextIO, unicode: bool) -> None:
    follower.refresh()
    if is_plain(out):
        for line in picture(follower, PLAIN_WIDTH, None, unicode):
            put_line(out, plain_text(line))
        return
    with (
        suppress(KeyboardInterrupt),
        on_screen(lambda width, height: picture(follower, width, height, unicode), out),
    ):
        while not follower.is_finished:
            time.sleep(REFRESH_SECONDS)
            follower.refresh()


def picture(follower: Follower, width: int, height: int | None, unicode: bool) -> list[Line]:
    """Return the sweep as the live view draws it, with a note if no process runs it."""
    with follower.lock:
        rows, elapsed = follower.tally.rows(), follower.tally.elapsed_seconds()
        running, finished = follower.is_running, follower.is_finished
        took = duration_text(max(0.0, follower.committed_at - follower.started_at))
    idle = not running and not finished
    if idle:  # no process, so no speed and no time left
        rows = [replace(row, per_minute=None, left=None) for row in rows]
    objective = follower.config["question"]["objective"]
    lines = frame(
        rows,
        Heading(
            follower.home.name,
            objective["metric"],
            objective["direction"],
            TO_LOOK if follower.is_confirmation else LEFT,
        ),
        Window(width, None if height is None else height - idle, unicode),
        elapsed=elapsed,
        status=_status(took, is_done=rows[-1].is_done, is_finished=finished, is_idle=idle),
    )
    return [*lines, [(shorten(IDLE, width, unicode), "bold")]] if idle else lines


def _status(took: str, *, is_done: bool, is_finished: bool, is_idle: bool) -> str:
    """Return how the last command ended, or "" while it runs."""
    if is_finished:
        return f"finished in {took}" if is_done else f"ended after {took}"
    return f"stopped after {took}" if is_idle else ""
