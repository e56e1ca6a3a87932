"""How the previous command of a sweep died, if it was killed or crashed: only the next one can say.

While a sweep trains, its folder has a file. Its own end removes it, also after an error or Ctrl-C. Python writes the
fatal signals of the process itself into it, with the line of code. SIGKILL leaves it empty, as a power cut does.
"""

from __future__ import annotations

import faulthandler
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from sweeper.files import writing
from sweeper.spec.question import Home
from sweeper.types import Job

_log = logging.getLogger(__name__)

SHOWN = 4  # trials that a command was training
SIGNALS = {  # by Python's word for them
    "Aborted": "SIGABRT",
    "Segmentation fault": "SIGSEGV",
    "Bus error": "SIGBUS",
    "Illegal instruction": "SIGILL",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
}
UNNAMED = "killed (SIGKILL, perhaps because memory ran out), or the machine stopped"


@contextmanager
def noted(home: Home) -> Iterator[None]:
    """Keep the file while the block runs."""
    with writing(home.crash):
        file = home.crash.open("w", encoding="utf-8")
    with file, fatal_signals_named(file):
        try:
            yield
        finally:
            home.crash.unlink(missing_ok=True)


@contextmanager
def fatal_signals_named(file: TextIO | None) -> Iterator[None]:
    """Write fatal signals of this process to a file while the block runs, unless the caller has them written already.

    Args:
        file: An open file; None if there is none to write to.
    """
    if file is None or faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(file, all_threads=False)  # the first line of code is then that of the signal
    try:
        yield
    finally:
        faulthandler.disable()


def last_words(home: Home) -> str | None:
    """Return how the last command that trained the sweep died; None if it ended by itself, or is still running."""
    try:
        text = home.crash.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    fatal = re.match(r"Fatal Python error: (.+)", text)
    if fatal is None:
        return UNNAMED
    name = SIGNALS.get(fatal[1], fatal[1])
    line = re.search(r'File "(.+)", line (\d+) in (\S+)', text)
    return f"killed by {name}" + (f", in {line[3]} ({line[1]}:{line[2]})" if line else "")


def previous_death(home: Home, open_jobs: Sequence[Job]) -> str:
    """Return, and log, how the previous command died and what it was training; "" if it ended by itself.

    Args:
        home: The sweep's folder.
        open_jobs: One job of each trial that was running at the last commit.
    """
    death = last_words(home)
    if death is None:
        return ""
    trials = [f"{job.family}:{job.id.trial}" for job in open_jobs]
    shown = ", ".join(trials[:SHOWN]) + (" and others" if len(trials) > SHOWN else "")
    text = f"The previous command was {death}, while it trained {shown or 'its first round'}."
    _log.warning(text)
    return (
        f"{text} What it committed is kept. If this happens again, set trainer.workers=2: a trial that kills its "
        "process then fails alone."
    )
