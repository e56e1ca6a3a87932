"""The picture at each width and height: nothing is longer than the window, and what goes first."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.terminal.frame import TO_LOOK, Heading, Window, bar, frame
from sweeper.terminal.tally import Row, Tally, Terms
from sweeper.text import columns
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

FRAME = {"title": "text-ngram-sgd-3fa291", "metric": "valid/loss", "direction": "minimize", "elapsed": 61.0}


def a_row(name, **other):
    numbers = {
        "done": 12, "trials": 20, "fraction": 0.63, "open": 8, "best": 1.83421, "best_trial": 7, "pruned": 3,
        "diverged": 1, "failed": 0, "per_minute": 34.56, "left": 724.0, "open_fraction": 0.45,
        "bests": (None, 3.0, 2.0, 1.9, 1.9, 1.85, 1.84, 1.83421, 1.83421, 1.83421, 1.83421, 1.83421, 1.83421),
        "peak": 0.169, "lr_S": np.linspace(1, 0, 200),
    }  # fmt: skip
    return Row(name, **(numbers | other))


ROWS = [
    a_row("constant", best=None, best_trial=None, left=None, per_minute=None, bests=(None,), peak=None),
    a_row("a_family_with_a_very_long_name_indeed"),
    a_row("done", done=20, open=0, fraction=1.0, left=0.0, per_minute=None),
    a_row("all", done=123, trials=1600, left=190000.0, best_trial=None, bests=(), peak=None, lr_S=np.empty(0)),
]
FAILED = [*ROWS[:1], a_row("a_family_with_a_very_long_name_indeed", failed=2), *ROWS[2:3], a_row("all", failed=2)]


def texts(rows=ROWS, **options):
    return [columns.plain_text(line) for line in drawing(rows, **options)]


def drawing(rows, **options):
    given = FRAME | options
    heading = Heading(*(given.pop(name) for name in ("title", "metric", "direction")))
    window = Window(**{name: given.pop(name) for name in ("width", "height", "unicode") if name in given})
    return frame(rows, heading, window, **given)


@pytest.mark.parametrize("rows", [ROWS, FAILED])
@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [20, 40, 49, 79, 119, 199])
def test_the_frame_keeps_to_the_width(width, unicode, rows):
    lines = texts(rows, width=width, unicode=unicode)
    assert len(lines) == 3 + len(rows)
    assert max(map(columns.width_of, lines)) <= width
    assert unicode or all(line.isascii() for line in lines)


@given(st.integers(12, 220), st.text("aé漢 -", min_size=1, max_size=90), st.integers(0, 10**7))
def test_no_title_name_or_time_makes_a_line_longer(width, name, seconds):
    rows = [a_row(name, left=float(seconds)), a_row("all", left=float(seconds))]
    lines = texts(rows, title=name, elapsed=float(seconds), width=width)
    assert max(map(columns.width_of, lines)) <= width


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (49, "family trials lowest left"),
        (79, "family trials lowest so far its LR prun div fail left"),
        (119, "family trials lowest so far its LR peak # prun div fail open left"),
        (199, "family trials lowest so far its LR peak LR trial pruned diverged failed running trials/min left"),
    ],
)
def test_what_there_is_at_each_width(width, heads):
    rows = [a_row("exponential"), a_row("all", best_trial=None, bests=(), lr_S=np.empty(0))]
    lines = texts(rows, width=width)
    assert re.sub(r"\s+", " ", lines[1]) == heads
    assert ("━" in lines[2]) == (width in (49, 199)), "where there is room"


def test_the_curves_at_80_columns():
    row = texts(width=79)[3]
    assert " █▇▅▁▁▁▁" in row
    assert "█▇▆▅▄▃▂▁" in row


# --- one layout ---------------------------------------------------------------------------------------


EXTREMES = [
    a_row("cosine", best=-1.23456e-5, is_provisional=True, trials=1000, done=1000, left=99 * 86400.0, pruned=999),
    a_row("cycle_warmup_cosine-3fa291", best=123456.789, open=512, open_fraction=1.0, per_minute=12345.6),
    a_row("x", best=None, best_trial=None, left=None, per_minute=None, bests=(), peak=None, lr_S=np.empty(0), open=0),
    a_row("all", trials=123456, done=99999, failed=1234, per_minute=0.000123, left=35999.0),
]


def places(line):
    """Where the columns of the headings end, or begin if they are aligned left."""
    return [match.start() if match[0] in ("family", "so far", "its LR") else match.end()
            for match in re.finditer(r"\S+( \S+)?", line)]  # fmt: skip


def recorded():
    """The rows of a recorded sweep after each of its events."""
    clock = [0.0]
    events = [json.loads(line) for line in (Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]
    _, _, studies, reports = events[0]
    progress = [Progress(name, name, trials, {}) for name, trials in studies]
    tally = Tally(progress, Terms(reports, "minimize", "valid/loss", prunes=True), clock=lambda: clock[0])
    round_reports = []
    for at, what, *rest in events[1:]:
        clock[0] = at
        match what, rest:
            case "open", (family, trial, steps):
                tally.open([Job(JobId(family, trial, 0), family, {}, 0, np.linspace(1, 0, steps[-1]), tuple(steps))])
            case "report", (family, trial, step, value):
                report = Report(JobId(family, trial, 0), step, {}, {} if value is None else {"valid/loss": value}, 0.0)
                round_reports.append(report)
                tally.arrived(report)
            case "round", ():
                tally.append(round_reports)
                round_reports = []
            case "end", (family, trial, state, value):
                tally.close(Ending(TrialId(family, trial), state, 0, value))
        yield tally.rows()


@pytest.mark.parametrize("width", [49, 79, 119, 199])
def test_columns_never_appear_vanish_or_move(width):
    states = [*list(recorded())[::6], EXTREMES, ROWS, FAILED]
    drawn = [texts(rows, width=width) for rows in states]
    assert len({lines[1] for lines in drawn}) == 1, "the headings"
    ends = places(drawn[0][1])
    for rows, lines in zip(states, drawn, strict=True):
        for row, line in zip(rows, lines[2 : 2 + len(rows)], strict=True):
            padded = line.ljust(width)
            assert padded[: ends[1]].split()[-1] in (f"{row.done}/{row.trials}", f"{row.fraction:.0%}")
            assert all(padded[end - 1] != " " and padded[end : end + 1].strip() == "" for end in ends[1:3])
            assert padded[ends[-1] - 1] != " ", "the time left"


def test_a_recorded_sweep_shows_values_of_running_trials_until_it_is_over():
    states = list(recorded())
    assert any(row.is_provisional for row in states[60])
    assert [line.split()[2] for line in texts(states[60], width=79)[2:5]] == ["~2.8830", "~2.8563", "~5.4354"]
    assert any(line.startswith("~ latest value") for line in texts(states[60], width=79))
    assert not any("~" in line for line in texts(states[-1], width=79))


# --- styles and title ---------------------------------------------------------------------------------


def test_the_best_family_is_green_and_what_is_done_is_dim():
    rows = [a_row("first", best=1.0), a_row("second", done=20, open=0), a_row("all", best=1.0)]
    assert [line[0][1] for line in drawing(rows, width=79)] == ["bold", "dim", "green", "dim", "bold", "dim"]
    rows[0] = replace(rows[0], is_provisional=True)
    assert drawing(rows, width=79)[2][0][1] == "", "it may still get worse"


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (79, "text-ngram-sgd-3fa291  1:01 elapsed, about 12:04 left  valid/loss"),
        (99, "text-ngram-sgd-3fa291  1:01 elapsed, about 12:04 left  valid/loss, lower is better"),
        (49, "text-ngram-sgd-3…  1:01 elapsed, about 12:04 left"),
    ],
)
def test_the_time_stays_in_the_title(width, head):
    assert texts([a_row("all")], width=width)[0] == head


def test_the_time_left_is_said_when_it_is_known():
    assert "1:01 elapsed  valid/loss, lower" in texts([a_row("all", left=None)], width=99)[0]
    assert "1:01 elapsed  valid/loss, lower" in texts([a_row("all", done=20, open=0)], width=99)[0]
    assert "  stopped after 3:00  valid" in texts(width=99, status="stopped after 3:00")[0]


# --- too many families for the window -----------------------------------------------------------------


def many(count=31, best=(), done=(), idle=()):
    rows = [
        a_row(
            f"f{k:02}",
            open=0 if k in done or k in idle else 8,
            done=20 if k in done else 1,
            best=1.0 + best.index(k) if k in best else 9.0 + k if k in done else None,
        )
        for k in range(count)
    ]
    return [*rows, a_row("all", best=1.0)]


def shown(lines):
    return [line.split()[0] for line in lines if re.match(r"f\d\d", line)]


def test_a_long_time_left_has_no_seconds_and_a_confirmation_says_until_when():
    assert "about 3h 10m left" in texts([a_row("all", left=11400.0)], width=99)[0]
    heading = Heading("t", "m", "minimize", TO_LOOK)
    title = frame([a_row("all")], heading, Window(99), elapsed=61.0)[0][0][0]
    assert title.startswith("t  1:01 elapsed, about 12:04 to the next look  m")


@pytest.mark.parametrize("height", [5, 6, 8, 23, 35, 36, 60])
def test_the_frame_keeps_to_the_height_and_says_what_is_hidden(height):
    lines = texts(many(), width=79, height=height)
    assert len(lines) <= max(height, 6)
    assert lines[-2].startswith("all")
    hidden = 31 - len(shown(lines))
    assert hidden == (31 - max(1, height - 5) if height < 36 else 0)
    assert not hidden or lines[-3].startswith(f"{hidden} more famil{'ies' if hidden > 1 else 'y'} (0 done)")


def test_the_best_and_the_active_are_shown_in_their_order():
    rows = many(best=(30, 2, 17), done=(2, 17, *range(20, 31)), idle=range(3, 7))
    lines = texts(rows, width=79, height=24)
    active = [k for k in range(20) if k not in (2, 17, 3, 4, 5, 6)]
    assert shown(lines) == [f"f{k:02}" for k in sorted([30, 2, 17, *active, 3, 4])]
    assert lines[-3].startswith("12 more families (10 done)")


def test_where_more_is_better_the_best_are_the_highest():
    rows = [a_row(f"f{k:02}", best=float(k), open=0, done=20) for k in range(9)] + [a_row("all", best=8.0)]
    assert shown(texts(rows, width=79, height=8, direction="maximize")) == ["f06", "f07", "f08"]
    assert shown(texts(rows, width=79, height=8)) == ["f00", "f01", "f02"]
    assert texts(rows, width=79, height=8)[-3].startswith("6 more families (6 done)")


# --- the bar ------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(1, 40), st.booleans())
def test_a_bar_has_its_width_and_is_full_at_one_alone(fraction, width, unicode):
    cells = bar(fraction, width, unicode)
    assert len(cells) == width
    assert (set(cells) <= {"━", "#"}) == (fraction == 1)
