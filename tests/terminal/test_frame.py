"""The picture at each width and height: nothing is longer than the window, and what goes first."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.terminal.frame import Heading, Window, bar, frame
from sweeper.terminal.tally import Row
from sweeper.text import columns

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
    assert len(lines) == 2 + len(rows)
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
        (49, "family trials lowest so far left"),
        (79, "family trials lowest so far its LR # prun div open left"),
        (119, "family trials lowest so far its LR peak # prun div open /min left"),
        (199, "family trials lowest lowest so far its LR peak LR trial pruned diverged running trials/min left"),
    ],
)
def test_what_there_is_at_each_width(width, heads):
    rows = [a_row("exponential"), a_row("all", best_trial=None, bests=(), lr_S=np.empty(0))]
    lines = texts(rows, width=width)
    assert re.sub(r"\s+", " ", lines[1]) == heads
    assert ("━" in lines[2]) == (width > 100)


def test_the_curves_at_80_columns():
    row = texts(width=79)[3]
    assert " █▇▅▁▁▁▁" in row
    assert "█▇▆▅▄▃▂▁" in row
    assert "8@45%" in row


def test_the_best_family_is_green_and_what_is_done_is_dim():
    rows = [a_row("first", best=1.0), a_row("second", done=20, open=0), a_row("all", best=1.0)]
    assert [line[0][1] for line in drawing(rows, width=79)] == ["bold", "dim", "green", "dim", "bold"]


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


@pytest.mark.parametrize("height", [4, 5, 8, 23, 34, 35, 60])
def test_the_frame_keeps_to_the_height_and_says_what_is_hidden(height):
    lines = texts(many(), width=79, height=height)
    assert len(lines) <= max(height, 5)
    assert lines[-1].startswith("all")
    hidden = 31 - len(shown(lines))
    assert hidden == (31 - max(1, height - 4) if height < 35 else 0)
    assert not hidden or lines[-2].startswith(f"{hidden} more famil{'ies' if hidden > 1 else 'y'} (0 done)")


def test_the_best_and_the_active_are_shown_in_their_order():
    rows = many(best=(30, 2, 17), done=(2, 17, *range(20, 31)), idle=range(3, 7))
    lines = texts(rows, width=79, height=23)
    active = [k for k in range(20) if k not in (2, 17, 3, 4, 5, 6)]
    assert shown(lines) == [f"f{k:02}" for k in sorted([30, 2, 17, *active, 3, 4])]
    assert lines[-2].startswith("12 more families (10 done)")


def test_where_more_is_better_the_best_are_the_highest():
    rows = [a_row(f"f{k:02}", best=float(k), open=0, done=20) for k in range(9)] + [a_row("all", best=8.0)]
    assert shown(texts(rows, width=79, height=7, direction="maximize")) == ["f06", "f07", "f08"]
    assert shown(texts(rows, width=79, height=7)) == ["f00", "f01", "f02"]
    assert texts(rows, width=79, height=7)[-2].startswith("6 more families (6 done)")


# --- the bar ------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(1, 40), st.booleans())
def test_a_bar_has_its_width_and_is_full_at_one_alone(fraction, width, unicode):
    cells = bar(fraction, width, unicode)
    assert len(cells) == width
    assert (set(cells) <= {"━", "#"}) == (fraction == 1)
