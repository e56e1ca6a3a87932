"""The live view: what is counted, how long it takes, and what is drawn at each width."""

import io
import itertools
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper import columns, terminal
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

ESCAPE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
WIDTHS = (20, 40, 80, 120, 200)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says what a test wants it to say."""

    def __init__(self, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self.tty, self.named = tty, encoding

    def isatty(self) -> bool:
        return self.tty

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only in StringIO too
        return self.named


def jobs(study: str, trial: int, reports: int = 10, members: int = 1, family: str | None = None) -> list[Job]:
    steps = tuple(10 * (i + 1) for i in range(reports))
    return [Job(JobId(study, trial, m), family or study, {}, 0, np.ones(steps[-1]), steps) for m in range(members)]


def report(id: JobId, step: int) -> Report:
    return Report(id, step, {}, {}, 0.0)


@dataclass
class Sweep:
    """Drives a view as the loop does: each round takes `seconds`, reports arriving evenly or all at the end."""

    view: terminal.TerminalView | terminal.Tally
    clock: Clock
    open: dict[TrialId, list[Job]] = field(default_factory=dict)
    made: dict[TrialId, int] = field(default_factory=dict)

    def start(self, new: list[Job]) -> None:
        self.view.open(new)
        self.open[new[0].id.of], self.made[new[0].id.of] = new, 0

    def round(self, seconds: float, burst: bool = False) -> None:
        ids = [job.id for of_trial in self.open.values() for job in of_trial]
        self.clock.now += seconds if burst else 0
        reports = []
        for id in ids:
            self.clock.now += 0 if burst else seconds / len(ids)
            reports.append(report(id, 10 * (self.made[id.of] + 1)))
            self.view.arrived(reports[-1])
        for trial in self.open:
            self.made[trial] += 1
        self.view.append(reports)

    def end(self, trial: TrialId, state: str, value: float | None = None) -> None:
        del self.open[trial]
        self.view.close(Ending(trial, state, 0, value))


def tally(*progress: Progress, clock: Clock, reports: int = 10, direction: str = "minimize") -> terminal.Tally:
    return terminal.Tally(progress, reports=reports, direction=direction, clock=clock)


# --- counts -----------------------------------------------------------------------------------------


def test_a_continued_sweep_begins_where_it_stood():
    now = tally(
        Progress("cosine", "cosine", 20, {"complete": 8, "pruned": 3, "diverged": 1, "failed": 2}, 0.5, 7),
        clock=Clock(),
    ).rows()[0]
    assert (now.done, now.trials, now.pruned, now.diverged, now.failed) == (12, 20, 3, 1, 2)
    assert (now.best, now.best_trial, now.fraction, now.left) == (0.5, 7, 0.6, None)


def test_the_bar_moves_with_every_report_of_an_open_trial():
    clock = Clock()
    counted = tally(Progress("cosine", "cosine", 2, {}), clock=clock)
    new = jobs("cosine", 0, members=2)
    counted.open(new)
    seen = [counted.rows()[0].fraction]
    for step in (10, 20):
        for job in new:
            counted.arrived(report(job.id, step))
            seen.append(counted.rows()[0].fraction)
    assert seen == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])


def test_a_trial_taken_up_at_its_seventh_report_stands_there():
    counted = tally(Progress("cosine", "cosine", 1, {}), clock=Clock())
    counted.open(jobs("cosine", 0))
    counted.arrived(report(JobId("cosine", 0, 0), 80))
    assert counted.rows()[0].fraction == pytest.approx(0.8)


def test_a_report_between_the_grid_counts_as_the_one_it_came_instead_of():
    counted = tally(Progress("cosine", "cosine", 1, {}), clock=Clock())
    counted.open(jobs("cosine", 0))
    counted.arrived(Report(JobId("cosine", 0, 0), 33, {}, {}, 0.0, "diverged", "nan"))
    assert counted.rows()[0].fraction == pytest.approx(0.4)


@pytest.mark.parametrize(("direction", "best"), [("minimize", (1.0, 1)), ("maximize", (3.0, 0))])
def test_the_best_is_of_complete_trials_with_a_finite_value(direction, best):
    counted = tally(Progress("cosine", "cosine", 9, {}), clock=Clock(), direction=direction)
    endings = [("complete", 3.0), ("complete", 1.0), ("pruned", -9.0), ("diverged", 99.0), ("complete", math.nan)]
    for number, (state, value) in enumerate(endings):
        counted.open(jobs("cosine", number))
        counted.close(Ending(TrialId("cosine", number), state, 100, value))
    now, everything = counted.rows()
    assert (now.best, now.best_trial) == best
    assert everything.best == best[0]
    assert (now.done, now.pruned, now.diverged) == (5, 1, 1)


def test_a_failed_trial_is_not_done():
    counted = tally(Progress("cosine", "cosine", 1, {}), clock=Clock())
    counted.open(jobs("cosine", 0))
    counted.close(Ending(TrialId("cosine", 0), "failed", 0))
    now = counted.rows()[0]
    assert (now.done, now.failed, now.finished) == (0, 1, False)


def test_two_studies_of_one_family_are_told_apart():
    counted = tally(
        Progress("cosine-a", "cosine", 1, {}), Progress("cosine-b", "cosine", 1, {}), Progress("s", "step", 1, {}),
        clock=Clock(),
    )  # fmt: skip
    assert [row.name for row in counted.rows()] == ["cosine-a", "cosine-b", "step", "all"]


def test_what_was_never_opened_is_ignored_and_a_new_study_gets_a_row():
    counted = tally(clock=Clock())
    counted.arrived(report(JobId("x", 0, 0), 10))
    counted.append([report(JobId("x", 0, 0), 10)])
    counted.close(Ending(TrialId("x", 0), "complete", 100, 1.0))
    counted.open(jobs("replicates", 3, family="cosine"))
    assert [(row.name, row.trials, row.open) for row in counted.rows()] == [("cosine", 1, 1), ("all", 1, 1)]


# --- rates and remaining time -----------------------------------------------------------------------


@pytest.mark.parametrize("burst", [False, True])
def test_remaining_time_without_pruning_is_the_work_left_at_the_pace_so_far(burst):
    clock = Clock()
    counted = tally(Progress("cosine", "cosine", 8, {}), clock=clock)
    sweep = Sweep(counted, clock)
    for number in range(4):
        sweep.start(jobs("cosine", number))
    assert counted.rows()[0].left is None
    for _ in range(5):
        sweep.round(20, burst)
    now = counted.rows()[0]
    # 20 of 80 reports in 100 s: 60 more take 300 s; 12 reports a minute are 1.2 trials
    assert now.left == pytest.approx(300, rel=0.03)
    assert now.per_minute == pytest.approx(1.2, rel=0.03)
    clock.now += 15
    assert counted.rows()[0].left == pytest.approx(now.left - 15)


def test_the_pace_forgets_a_slow_start():
    clock = Clock()
    pace = terminal.Pace(clock)
    clock.now += 600  # compiling
    for _ in range(300):
        pace.tick("a")
        clock.now += 1
    assert pace.rate() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("members", [1, 3])
def test_pruning_so_far_shortens_what_is_to_come(members):
    clock = Clock()
    counted = tally(Progress("cosine", "cosine", 8, {}), clock=clock)
    sweep = Sweep(counted, clock)
    for number in range(4):
        sweep.start(jobs("cosine", number, members=members))
    for made in range(1, 11):
        sweep.round(10)
        if made == 2:
            sweep.end(TrialId("cosine", 0), "pruned")
            sweep.end(TrialId("cosine", 1), "pruned")
    sweep.end(TrialId("cosine", 2), "complete", 1.0)
    sweep.end(TrialId("cosine", 3), "complete", 1.0)
    # half stop at 2 reports, half make 10: 6 a trial; 4 trials are left; 24 trial-reports were made in 100 s
    assert counted.rows()[0].left == pytest.approx(100, rel=0.05)


def test_the_first_trials_to_be_stopped_do_not_make_all_look_short():
    # 8 trials seen with 1 report, one diverged there, the others still open at 3.
    more = terminal.expected_reports({1: 8, 2: 7, 3: 7}, {1: 1}, 10)
    assert more[0] == pytest.approx(1 + 7 / 8 * 9)
    assert more[3] == 7
    assert more[10] == 0


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_with_all_lengths_known_the_expectation_is_their_mean(lengths):
    passed = {p: sum(length >= p for length in lengths) for p in range(1, 7)}
    stopped = {p: sum(length == p for length in lengths) for p in range(1, 6)}
    assert terminal.expected_reports(passed, stopped, 6)[0] == pytest.approx(np.mean(lengths))


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 8)), min_size=1, max_size=8),
    st.floats(0.01, 100),
)
def test_remaining_times_conserve_work(studies, rate):
    work, share = [w for w, _ in studies], [s for _, s in studies]
    seconds = terminal.remaining_times(work, share, rate)
    assert max(seconds) * rate == pytest.approx(sum(work), rel=1e-6, abs=1e-6)
    order = sorted(range(len(work)), key=lambda k: work[k] / share[k])
    assert all(seconds[a] <= seconds[b] + 1e-9 for a, b in itertools.pairwise(order))


def test_studies_side_by_side_share_the_pace():
    # 10 and 100 reports at 2 a second in all: both at 1 a second, then one at 2
    assert terminal.remaining_times([10, 100], [1, 1], 2) == pytest.approx([10, 55])


# --- text and columns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (math.inf, "-"), (0, "0:00"), (41.6, "0:42"), (59.7, "1:00"), (724, "12:04"), (11422, "3:10:22"),
     (183600, "2d 03h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert columns.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (math.nan, "-"), (0, "0.0000"), (1.83421, "1.8342"), (-0.5, "-0.5000"), (0.000123456, "0.0001235"),
     (1234567.0, "1.235e+06")],
)  # fmt: skip
def test_values(value, text):
    assert columns.value_text(value) == text


def test_clean_takes_escapes_and_control_characters_and_nothing_else():
    assert columns.clean("\x1b[31mré\x1b[0md\x07\tnext\n\x1b]0;title\x07line\r") == "réd\tnext\nline"


@given(st.floats(0, 1), st.integers(1, 40), st.booleans())
def test_a_bar_has_its_width_and_is_full_at_one_alone(fraction, width, unicode):
    drawn = terminal.bar(fraction, width, unicode)
    assert len(drawn) == width
    assert (set(drawn) <= {"━", "#"}) == (fraction == 1)


@given(
    st.lists(st.text("abcé漢 ", min_size=1, max_size=12), min_size=1, max_size=6),
    st.integers(1, 60),
    st.booleans(),
)
def test_no_line_is_longer_than_the_width(names, width, unicode):
    shown = [
        columns.Column("family", names, 9, right=False, least=4),
        columns.Column("best", ["1.2345"] * len(names), 5),
        columns.Column("漢字", names, 1),
    ]
    lines = columns.lay_out(shown, width, unicode=unicode)
    assert len(lines) == len(names) + 1
    assert all(columns.width_of(columns.plain_text(line)) <= width for line in lines)


def test_the_least_important_column_goes_first_and_numbers_are_never_cut():
    shown = [
        columns.Column("name", ["a long name"], 9, right=False, least=4),
        columns.Column("x", ["123456"], 1),
        columns.Column("y", ["7.8901"], 5),
    ]

    def at(width):
        return [columns.plain_text(line) for line in columns.lay_out(shown, width)]

    assert at(None)[1] == "a long name  123456  7.8901"
    assert at(20)[1] == "a l…  123456  7.8901"
    assert at(19)[1] == "a long name  7.8901"
    assert at(12)[1] == "a l…  7.8901"
    assert at(5)[1] == "a lo…"


# --- the live table ---------------------------------------------------------------------------------


def a_row(name, **other):
    numbers = {
        "done": 12, "trials": 20, "fraction": 0.63, "open": 4, "best": 1.83421, "best_trial": 7, "pruned": 3,
        "diverged": 1, "failed": 0, "per_minute": 34.56, "left": 724.0,
    }  # fmt: skip
    return terminal.Row(name, **(numbers | other))


ROWS = [
    a_row("constant", best=None, best_trial=None, left=None, per_minute=None),
    a_row("a_family_with_a_very_long_name_indeed", failed=2),
    a_row("done", done=20, open=0, fraction=1.0, left=0.0, per_minute=None),
    a_row("all", done=123, trials=1600, failed=2, left=190000.0),
]
FRAME = {"title": "text-ngram-sgd-3fa291", "metric": "valid/loss", "direction": "minimize", "elapsed": 61.0}


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_frame_keeps_to_the_width(width, unicode):
    lines = [columns.plain_text(line) for line in terminal.frame(ROWS, **FRAME, width=width, unicode=unicode)]
    assert len(lines) == 2 + len(ROWS)
    assert max(map(columns.width_of, lines)) <= width
    assert unicode or all(line.isascii() for line in lines)


def test_at_80_columns_everything_but_the_speed_is_there():
    lines = [columns.plain_text(line) for line in terminal.frame(ROWS, **FRAME, width=79)]
    assert lines[1].split() == ["family", "trials", "best", "#", "prun", "div", "fail", "/min", "left"]
    assert lines[2].split()[-8:] == ["12/20", "-", "-", "3", "1", "0", "-", "-"]
    assert lines[4].split()[-1] == "done"


def test_at_120_columns_there_is_a_bar():
    lines = [columns.plain_text(line) for line in terminal.frame(ROWS, **FRAME, width=119)]
    assert "━" in lines[2]
    assert "trials/min" in lines[1]


@pytest.mark.parametrize("height", [5, 8, 20])
def test_the_frame_keeps_to_the_height_and_drops_what_is_done_first(height):
    rows = [a_row(f"f{i}", open=0 if i < 3 else 4, done=20 if i < 3 else 1) for i in range(9)] + [a_row("all")]
    lines = [columns.plain_text(line) for line in terminal.frame(rows, **FRAME, width=80, height=height)]
    assert len(lines) <= height
    assert lines[-1].startswith("all")
    shown = [line.split()[0] for line in lines if re.match(r"f\d ", line)]
    assert (
        shown == [f"f{i}" for i in range(9)] if height == 20 else shown == [f"f{i}" for i in range(3, 3 + height - 4)]
    )


def live(cells, monkeypatch, out, text=()):
    monkeypatch.setenv("COLUMNS", str(cells))
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm-256color")
    clock = Clock()
    progress = [Progress("cosine", "cosine", 1, {}), Progress("step", "step", 1, {})]
    with terminal.view(
        progress, title="t", reports=10, direction="minimize", metric="valid/loss", out=out, clock=clock
    ) as cells:
        sweep = Sweep(cells, clock)
        for study in ("cosine", "step"):
            sweep.start(jobs(study, 0))
        for _ in range(10):
            sweep.round(2)
        for note in text:
            cells.note(note)
        sweep.end(TrialId("cosine", 0), "complete", 1.5)
        sweep.end(TrialId("step", 0), "pruned")
        cells.commit(1)


class Screen:
    """As much of a terminal as the live view uses: what a person sees after these bytes. Nothing may wrap."""

    def __init__(self, width: int) -> None:
        self.width, self.lines, self.row, self.column = width, [""], 0, 0

    def feed(self, text: str) -> "Screen":
        for csi, number, code, char in re.findall(r"(\x1b\[\??(\d*)[\d;]*([A-Za-z]))|(.|\n)", text):
            if csi:
                self.control(code, int(number or 1))
            elif char == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif char == "\r":
                self.column = 0
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
                self.column += 1
                assert self.column <= self.width
        return self

    def control(self, code: str, number: int) -> None:
        if code == "A":
            assert self.row >= number
            self.row -= number
        elif code == "B":
            self.row += number
        elif code == "K":
            self.lines[self.row] = ""
        else:
            assert code in "hlm"  # cursor cells or not, styles


@pytest.mark.parametrize("cells", [40, 80, 200])
def test_the_live_table_is_drawn_over_itself_and_notes_stay_above(cells, monkeypatch):
    out = Terminal(tty=True)
    live(cells, monkeypatch, out, text=["\x1b[2Jshort", "second"])
    lines = [line.rstrip() for line in Screen(cells).feed(out.getvalue()).lines]
    assert lines[:2] == ["short", "second"]
    assert [line.split()[0] for line in lines[3:7]] == ["family", "cosine", "step", "all"]
    assert "1.5000" in lines[4]
    assert lines[7:] == [""]


def test_no_color_is_respected(monkeypatch):
    coloured, plain = Terminal(tty=True), Terminal(tty=True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    live(80, monkeypatch, coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    live(80, monkeypatch, plain)
    colour = re.compile(r"\x1b\[[\d;]*3[0-7][;m]")
    assert colour.search(coloured.getvalue())
    assert not colour.search(plain.getvalue())


def test_a_window_made_narrower_leaves_no_remains(monkeypatch):
    out = Terminal(tty=True)
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((120, 40)))
    monkeypatch.setenv("TERM", "xterm")
    progress = [Progress("cosine", "cosine", 4, {}), Progress("step", "step", 4, {})]
    monkeypatch.setattr(terminal, "REFRESHES", 1e-3)  # drawn when the test says so
    with terminal.view(progress, title="t", reports=10, direction="minimize", metric="loss", out=out) as shown:
        shown.note("stays")
        before = Screen(120).feed(out.getvalue())
        out.seek(0), out.truncate()
        # The terminal wraps what stands there at 50 columns; the cursor stays behind the last character.
        after = Screen(50)
        after.lines = [line[i : i + 50] for line in before.lines for i in range(0, max(1, len(line)), 50)]
        after.row, after.column = len(after.lines) - 1, len(after.lines[-1])
        assert len(after.lines) > len(before.lines)
        monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((50, 40)))
        shown.note("also stays")
    lines = [line.rstrip() for line in after.feed(out.getvalue()).lines]
    assert [line.split()[0] if line else "" for line in lines if line] == [
        "stays", "also", "t", "family", "cosine", "step", "all",
    ]  # fmt: skip


# --- plain lines ------------------------------------------------------------------------------------


def plain_sweep(out, clock, rounds=10, seconds=1.0, **options):
    progress = [Progress("cosine", "cosine", 1, {}), Progress("step", "step", 3, {"complete": 2}, 0.5, 1)]
    with terminal.view(
        progress, title="t", reports=10, direction="minimize", metric="valid/loss", out=out, clock=clock, **options
    ) as shown:
        sweep = Sweep(shown, clock)
        sweep.start(jobs("cosine", 0))
        sweep.start(jobs("step", 2))
        for _ in range(rounds):
            sweep.round(seconds)
        sweep.end(TrialId("cosine", 0), "complete", 1.5)
        shown.note("a \x1b[31mnote\x1b[0m →")
        sweep.end(TrialId("step", 2), "diverged")
    return out.getvalue().splitlines()


def test_plain_lines_say_each_study_in_turn_every_few_seconds_and_at_its_end():
    lines = plain_sweep(Terminal(), Clock())
    assert lines[0] == "t: valid/loss, lower is better"
    assert re.match(r" +0:00  step +67%  2/3 trials, best 0.5000 \(trial 1\)$", lines[1])
    assert [line.split()[1] for line in lines[2:4]] == ["cosine", "step"]
    assert "left" in lines[2]
    assert "trials/min" in lines[2]
    assert re.match(r" +0:10  cosine +100%  1/1 trials, best 1.5000 \(trial 0\), done$", lines[4])
    assert lines[5] == "a note →"
    assert re.match(r" +0:10  step +100%  3/3 trials, best 0.5000 \(trial 1\), 1 diverged, done$", lines[6])
    assert re.match(r" +0:10  all +100%  4/4 trials, best 0.5000, 1 diverged, done$", lines[7])
    assert len(lines) == 8


def test_plain_lines_come_within_a_long_round():
    clock, out = Clock(), Terminal()
    with terminal.view(
        [Progress("cosine", "cosine", 9, {})], title="t", reports=10, direction="minimize", metric="m", out=out,
        clock=clock,
    ) as shown:  # fmt: skip
        for number in range(3):
            shown.open(jobs("cosine", number))
        clock.now += 30
        shown.arrived(report(JobId("cosine", 0, 0), 10))
        assert "cosine" in out.getvalue()


def test_a_long_log_stays_readable():
    lines = plain_sweep(Terminal(), Clock(), rounds=10, seconds=8640)  # a day
    assert len(lines) < 40


@pytest.mark.parametrize(
    ("out", "term", "plain"),
    [(Terminal(), "xterm", None), (Terminal(tty=True), "dumb", None), (Terminal(tty=True), "xterm", True)],
)
def test_plain_lines_have_no_control_characters(out, term, plain, monkeypatch):
    monkeypatch.setenv("TERM", term)
    assert not any(ESCAPE.search(line) for line in plain_sweep(out, Clock(), plain=plain))


def test_an_encoding_without_our_characters_gets_ascii():
    out = Terminal(encoding="ascii")
    assert "a note ?" in plain_sweep(out, Clock())
    assert out.getvalue().isascii()
    assert not columns.has_unicode(out)
    assert not columns.has_unicode(Terminal(encoding="latin-1"))
    assert columns.has_unicode(Terminal())


def test_a_stream_that_is_gone_ends_no_sweep():
    out = Terminal()
    with terminal.view(
        [Progress("a", "a", 1, {})], title="t", reports=10, direction="minimize", metric="m", out=out, clock=Clock()
    ) as shown:
        out.close()
        shown.note("nobody hears")


def test_an_error_inside_goes_through():
    with (
        pytest.raises(KeyboardInterrupt),
        terminal.view([], title="t", reports=10, direction="minimize", metric="m", out=Terminal()),
    ):
        raise KeyboardInterrupt


def test_write_is_plain_where_it_is_piped_and_fits_a_terminal(monkeypatch):
    asked = []

    def draw(width, unicode):
        asked.append((width, unicode))
        return [[("a", "bold"), ("b ", "red")], [("c", "")]]

    piped, tty = Terminal(encoding="ascii"), Terminal(tty=True)
    columns.write(draw, piped)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    columns.write(draw, tty)
    assert piped.getvalue() == "ab\nc\n"
    assert asked == [(None, False), (59, True)]
    assert re.sub(r"\x1b\[[\d;]*m", "", tty.getvalue()) == "ab \nc\n"


def test_importing_it_is_light():
    code = "import sys, sweeper.terminal; print([m for m in ('rich', 'pandas', 'torch', 'optuna') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
