"""The live view on a real pseudo-terminal: nothing wraps, scrolls or flickers, at each size and through resizes."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from sweeper import terminal
from sweeper.terminal import screen
from sweeper.text.columns import width_of
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

# --- a terminal ---------------------------------------------------------------------------------------


@dataclass
class Glass:
    """What a user sees: as much of a terminal as the live view uses, with scrolling, wrapping and reflow."""

    width: int
    height: int
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    scrolled: list[str] = field(default_factory=list)
    wrapped: int = 0
    draws: int = 0
    hidden: bool = False

    def feed(self, text):
        for csi, number, code, char in re.findall(r"(\x1b\[\??(\d*)[\d;]*([A-Za-z]))|(.|\n)", text):
            if csi:
                self.control(code, int(number or 1), text)
            elif char == "\n":
                self.down()
            elif char == "\r":
                self.column = 0
            else:
                self.put(char)
        return self

    def put(self, char):
        if self.column == self.width:
            self.wrapped += 1
            self.column = 0
            self.down()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
        self.column += 1

    def down(self):
        self.row += 1
        if self.row == self.height:
            self.scrolled.append(self.lines.pop(0))
            self.row -= 1
        self.lines += [""] * (self.row + 1 - len(self.lines))

    def control(self, code, number, text):
        if code == "A":
            self.row = max(0, self.row - number)
        elif code == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif code == "J":
            assert number == 1, "the screen was cleared"  # the 1 stands for none: from the cursor on
            self.scrolled += self.lines if (self.row, self.column) == (0, 0) else []  # as tmux does
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        elif code in "hl":
            assert number == 25
            self.hidden = code == "l"
            self.draws += code == "l"
        else:
            assert code == "m"

    def resize(self, width, height):
        """As tmux, VTE, kitty and others do: long lines wrap, what does not fit goes off at the top."""
        before, self.width, self.height = self.lines, width, height
        self.lines, row = [], 0
        for number, line in enumerate(before):
            row = len(self.lines) if number == self.row else row
            line = line.rstrip()
            self.lines += [line[i : i + width] for i in range(0, max(1, len(line)), width)]
        over = max(0, row + 1 - height)
        self.scrolled += self.lines[:over]
        self.lines, self.row = self.lines[over:], row - over

    def seen(self):
        return [line.rstrip() for line in self.lines]


class Terminal:
    """A pseudo-terminal, its window, and what is written to it."""

    def __init__(self, width, height):
        self.master, slave = pty.openpty()
        self.out = os.fdopen(slave, "w", encoding="utf-8", newline="")
        self.glass = Glass(width, height)
        self.resize(width, height)
        self.raw = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                self.raw += data

    def resize(self, width, height):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.glass.resize(width, height)

    def take(self):
        """Everything written so far, on the glass; the text itself."""
        self.out.write("\x1b[0m")  # arrives after all that was written before
        self.out.flush()
        deadline = time.monotonic() + 10
        while not self.raw.endswith(b"\x1b[0m") and time.monotonic() < deadline:
            time.sleep(0.001)
        text, self.raw = self.raw.decode().removesuffix("\x1b[0m").replace("\r\n", "\n\r"), b""
        self.glass.feed(text)
        return text

    def close(self):
        self.out.close()
        self.reader.join(10)
        os.close(self.master)


@pytest.fixture
def on(monkeypatch):
    """Make a terminal of a size; the live view then draws when the test says so."""
    made = []
    for name in ("NO_COLOR", "COLUMNS", "LINES", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setattr(screen, "REFRESHES", 1e-3)

    def terminal_of(width, height):
        made.append(Terminal(width, height))
        return made[-1]

    yield terminal_of
    for one in made:
        one.close()


# --- a sweep ------------------------------------------------------------------------------------------


STEPS = tuple(range(10, 101, 10))


def jobs(study, trial):
    return [Job(JobId(study, trial, 0), study, {}, 0, np.linspace(1, 0, 100), STEPS)]


def begun(names, trials=3):
    return [Progress(name, name, trials, {}) for name in names]


def viewed(names, title, out):
    tally = terminal.Tally(begun(names), terminal.Terms(10, "minimize"))
    return terminal.view(tally, terminal.Heading(title, "valid/loss", "minimize"), out=out)


@contextlib.contextmanager
def sweep(out, names, title="text-ngram-sgd-2dc20763"):
    """A view with one open trial of each family, and its screen."""
    made = []
    original = screen.Screen.__init__

    def remembered(self, *given):
        original(self, *given)
        made.append(self)

    screen.Screen.__init__ = remembered
    try:
        with viewed(names, title, out) as shown:
            for name in names:
                shown.open(jobs(name, 0))
            yield shown, made[0]
    finally:
        screen.Screen.__init__ = original


def trained(shown, names, value=1.5):
    """Each family's trial to its end."""
    for step in STEPS:
        reports = [Report(JobId(name, 0, 0), step, {}, {}, 0.0) for name in names]
        for report in reports:
            shown.arrived(report)
        shown.append(reports)
    for place, name in enumerate(names):
        shown.close(Ending(TrialId(name, 0), "complete", 100, value + place))


FAMILIES = ("constant", "cosine", "a_family_whose_name_is_very_long_indeed_and_longer")
MANY = tuple(f"family_{k:02}" for k in range(31))


@pytest.mark.parametrize("width", [50, 80, 120, 200])
def test_nothing_wraps_and_messages_stay_above(width, on):
    there = on(width, 24)
    with sweep(there.out, FAMILIES) as (shown, drawn):
        shown.note("\x1b[2Ja message")
        drawn.refresh()
        trained(shown, FAMILIES)
        drawn.refresh()
        shown.note("another one\nof two lines")
        there.take()
    there.take()
    seen = there.glass.seen()
    assert seen[:3] == ["a message", "another one", "of two lines"]
    assert seen[3].startswith("text-ngram-sgd-2dc20763  0:00 elapsed")
    assert [line.split()[0] for line in seen[4:9]] == ["family", "constant", "cosine", seen[7].split()[0], "all"]
    assert seen[7].startswith("a_fam")
    assert "1.5000" in seen[5]
    assert "█▇" in seen[5] or width == 50
    assert (seen[9][:1], seen[10:]) == ("~", [""])
    assert (there.glass.wrapped, there.glass.scrolled, there.glass.hidden) == (0, [], False)
    assert max(map(width_of, seen)) < width


def test_31_families_do_not_scroll_a_screen_of_24_lines(on):
    there = on(80, 24)
    with sweep(there.out, MANY) as (shown, drawn):
        for _ in range(3):
            drawn.refresh()
        trained(shown, MANY)
        drawn.refresh()
        there.take()
        seen = there.glass.seen()
        assert there.glass.scrolled == []
        assert len(seen) == 24
        assert [line.split()[0] for line in seen[2:20]] == list(MANY[:18])
        assert seen[20] == "13 more families (0 done). Make the window higher to see them"
        shown.note("a message")
        drawn.refresh()
        there.take()
        assert there.glass.scrolled == ["a message"]
    there.take()
    assert [line.split()[0] for line in there.glass.scrolled + there.glass.seen() if line.startswith("family_")] == [
        *MANY
    ], "at the end all are there, once"


@pytest.mark.parametrize(
    "sizes", [[(50, 24)], [(200, 24)], [(80, 10), (80, 40)], [(50, 24), (200, 50), (60, 15), (120, 40)]]
)
def test_a_resized_window_has_no_remains(sizes, on):
    there = on(120, 24)
    with sweep(there.out, FAMILIES) as (shown, drawn):
        shown.note("stays")
        drawn.refresh()
        there.take()
        for width, height in sizes:
            there.resize(width, height)
            drawn.refresh()
            there.take()
    there.take()
    assert "stays" in [*there.glass.scrolled, *there.glass.seen()]
    seen = [line for line in there.glass.seen() if line not in ("", "stays")]
    first = [line.split()[0] for line in seen]
    assert first == ["text-ngram-sgd-2dc20763", "family", "constant", "cosine", first[4], "all", "~"]
    assert len(there.glass.seen()) <= there.glass.height
    assert there.glass.wrapped == 0


def test_lines_are_overwritten_in_place_and_not_drawn_again_without_a_change(on):
    there = on(100, 24)
    with sweep(there.out, FAMILIES) as (shown, drawn):
        drawn.refresh()
        there.take()
        draws = there.glass.draws
        seconds = drawn.draw(99, 23)[0]
        drawn.refresh()
        drawn.refresh()
        changed = drawn.draw(99, 23)[0] != seconds  # the clock went on meanwhile
        there.take()
        assert there.glass.draws <= draws + changed
        trained(shown, FAMILIES)
        drawn.refresh()
        text = there.take()
        assert "\x1b[2" not in text.replace("\x1b[2m", "").replace("\x1b[25", "")
        # Line by line: what stood there is overwritten before the rest of the line is erased.
        assert re.sub(r"[^\n]*?\x1b\[K", "", text.split("A", 1)[1]).strip("\n\r") == "\x1b[J\x1b[?25h"


def test_at_most_four_drawings_a_second_however_much_happens(on, monkeypatch):
    monkeypatch.setattr(screen, "REFRESHES", 4)
    there = on(80, 24)
    started = time.monotonic()
    with sweep(there.out, FAMILIES) as (shown, _):
        while time.monotonic() < started + 0.8:
            trained(shown, FAMILIES)
            for name in FAMILIES:
                shown.open(jobs(name, 0))
            shown.note("x")
        seconds = time.monotonic() - started
    there.take()
    assert 2 < there.glass.draws <= 4 * seconds + 2  # the first and the last


def test_what_is_printed_goes_above(on, monkeypatch):
    there = on(80, 24)
    monkeypatch.setattr(sys, "stdout", there.out)
    monkeypatch.setattr(sys, "stderr", there.out)
    with sweep(there.out, FAMILIES) as (_, drawn):
        print("out")
        print("50%\r100%", file=sys.stderr)
        print("begun", end="")
        print(" and ended")
        assert sys.stdout.isatty()
        drawn.refresh()
        there.take()
        seen = there.glass.seen()
        assert seen[:3] == ["out", "100%", "begun and ended"]
        print("no end", end="")
    assert sys.stdout is there.out
    there.take()
    assert there.glass.seen()[-1] == "no end"
    assert (there.glass.wrapped, there.glass.scrolled) == (0, [])


def test_an_echoed_ctrl_c_leaves_no_trace(on):
    there = on(80, 24)
    with sweep(there.out, FAMILIES) as (shown, drawn):
        drawn.refresh()
        there.take()
        there.glass.feed("^C")
        assert there.glass.seen()[-1] == "^C"
        shown.note("Finishing this round")
        drawn.refresh()
        there.take()
        assert not any("^C" in line for line in there.glass.seen())
        assert there.glass.seen()[0] == "Finishing this round"


def test_after_a_stop_it_begins_below_what_the_shell_wrote(on):
    there = on(80, 24)
    with sweep(there.out, FAMILIES) as (_, drawn):
        drawn.refresh()
        there.take()
        there.glass.feed("[1]+ Stopped\n\r$ fg\n\r")
        os.kill(os.getpid(), signal.SIGCONT)
        drawn.refresh()
        there.take()
        seen = there.glass.seen()
        assert [line for line in seen if "Stopped" in line or "fg" in line] == ["[1]+ Stopped", "$ fg"]
        assert seen.index("$ fg") == 8


STOPPED = """
import time
from sweeper import terminal

tally = terminal.Tally([], terminal.Terms(10, "minimize"))
with terminal.view(tally, terminal.Heading("t", "valid/loss", "minimize"), plain=False):
    while True:
        time.sleep(0.01)
"""


def test_after_a_stop_already_the_first_drawing_is_below(on):
    there = on(80, 24)
    child = subprocess.Popen([sys.executable, "-c", STOPPED], stderr=there.out)
    try:
        first_drawing(there)
        time.sleep(1 / 8)  # between two drawings
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(screen.LATE + 0.2)  # the clock of the title changes
        there.raw = b""
        os.kill(child.pid, signal.SIGCONT)
        assert screen.UP not in first_drawing(there)
    finally:
        child.kill()
        child.wait()


def first_drawing(there, seconds=20):
    """Return the first drawing of another process."""
    deadline = time.monotonic() + seconds
    while screen.SHOW.encode() not in there.raw:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return there.raw.decode().split(screen.SHOW)[0]


def test_in_the_background_nothing_is_drawn_and_messages_come_at_the_end(on, monkeypatch):
    there = on(80, 24)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)  # a shell has the terminal
    with sweep(there.out, FAMILIES) as (shown, drawn):
        drawn.refresh()
        shown.note("a message")
        drawn.refresh()
        assert there.take() == ""
    there.take()
    assert there.glass.seen() == ["a message", ""]


@pytest.mark.parametrize(("name", "coloured"), [(None, True), ("NO_COLOR", False)])
def test_colour_only_where_it_is_wanted(name, coloured, on, monkeypatch):
    if name:
        monkeypatch.setenv(name, "1")
    there = on(80, 24)
    with sweep(there.out, FAMILIES) as (shown, _):
        trained(shown, FAMILIES)
    assert bool(re.search(r"\x1b\[[\d;]*3[0-7][;m]", there.take())) == coloured


def test_a_dumb_terminal_gets_plain_lines(on, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    there = on(80, 24)
    with (
        viewed(FAMILIES, "t", there.out) as shown,
    ):
        for name in FAMILIES:
            shown.open(jobs(name, 0))
        trained(shown, FAMILIES)
    assert "\x1b" not in there.take()


def test_in_the_locale_c_all_is_ascii(on, monkeypatch):
    monkeypatch.setenv("LANG", "C")
    there = on(120, 24)
    with sweep(there.out, (*FAMILIES, "año")) as (shown, _):
        trained(shown, FAMILIES)
    text = there.take()
    assert text.replace("ñ", "n").isascii()
    assert '"*-._' in text.replace('""', '"').replace("**", "*").replace("--", "-").replace("..", ".")


def test_a_terminal_that_is_gone_ends_no_sweep(on):
    there = on(80, 24)
    with sweep(there.out, FAMILIES) as (shown, drawn):
        there.out.close()
        shown.note("nobody hears")
        with pytest.raises(ValueError, match="closed"):
            drawn.refresh()
    there.out = open(os.devnull, "w")  # noqa: SIM115, PTH123  # for the fixture to close
