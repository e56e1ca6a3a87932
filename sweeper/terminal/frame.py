"""The table of the live view: a title with the time, one line per family with its curves, one line for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.terminal.tally import Row
from sweeper.text.columns import (
    Column,
    Line,
    clean,
    duration_text,
    lay_out,
    shorten,
    total_width,
    value_text,
    width_of,
)
from sweeper.text.sparks import best_so_far, lr_curve
from sweeper.types import Direction, extreme

BAR = (6, 30)  # cells at least and at most
BEST = 3  # families that are always shown if the window is not high enough for all
TITLE = 12  # cells of the title at least


@dataclass(frozen=True)
class Heading:
    """What the title line shows: the sweep's name, the metric that ranks its trials, and its direction."""

    title: str
    metric: str
    direction: Direction

    @property
    def sense(self) -> str:
        """Which value is better, in words."""
        return "lower is better" if self.direction == "minimize" else "higher is better"

    @property
    def extreme(self) -> str:
        """The word for the value that the search looks for: lowest or highest."""
        return extreme(self.direction)


@dataclass(frozen=True)
class Window:
    """The space for the table.

    Attributes:
        width: Cells of a line.
        height: Lines; None for no limit.
        unicode: Whether it can show more than ASCII.
    """

    width: int
    height: int | None = None
    unicode: bool = True


def frame(rows: Sequence[Row], heading: Heading, window: Window, *, elapsed: float, status: str = "") -> list[Line]:
    """Return the lines of the table.

    If not all lines fit, the best and the active families are shown, with a note on the others. If not all columns fit,
    these are dropped in this order: bar, trials per minute, peak LR, number of the best trial, running, pruned,
    diverged, LR, best so far, time left.

    Args:
        rows: One row per study, and last the total.
        heading: The content of the title.
        window: The space for the table.
        elapsed: Seconds since the start.
        status: Shown instead of the time if the sweep is not running.
    """
    *studies, total = rows
    width, height, unicode = window.width, window.height, window.unicode
    selected = _select_rows(studies, math.inf if height is None else max(1, height - 4), heading.direction)
    columns = _columns([*selected, total], heading.extreme, width, unicode)
    room = width - total_width(columns) - 2
    if room >= BAR[0]:
        cells = [bar(row.fraction, min(room, BAR[1]), unicode) for row in [*selected, total]]
        columns.insert(1, Column("", cells, priority=1, right=False))
    styles = {number: _style(row, total) for number, row in enumerate(selected)} | {len(selected): "bold"}
    lines = lay_out(columns, width, styles=styles, unicode=unicode)
    if hidden := [row for row in studies if row not in selected]:
        lines.insert(-1, [(shorten(_hidden_text(hidden), width, unicode), "dim")])
    title = _title(heading, status or _time(total, elapsed), window)
    return [[(title, "bold")], *lines]


def bar(fraction: float, width: int, unicode: bool = True) -> str:
    """Draw a bar of `width` cells, in steps of half a cell with Unicode. It is full only at 1."""
    full, half, empty = ("━", "╸", "─") if unicode else ("#", "", ".")
    halves = math.floor(2 * width * min(max(fraction, 0.0), 1.0))
    done = full * (halves // 2) + half * (halves % 2)
    return done + empty * (width - len(done))


# --- the title --------------------------------------------------------------------------------------


def _title(heading: Heading, time: str, window: Window) -> str:
    """Return title, time and metric, as far as they fit. The metric is dropped first, and the time is always shown."""
    title, metric, width = clean(heading.title), clean(heading.metric), window.width
    for text in (f"{title}  {time}  {metric}, {heading.sense}", f"{title}  {time}  {metric}", f"{title}  {time}"):
        if width_of(text) <= width:
            return text
    room = max(TITLE, width - width_of(time) - 2)
    return shorten(f"{shorten(title, room, window.unicode)}  {time}", width, window.unicode)


def _time(total: Row, elapsed: float) -> str:
    text = f"{duration_text(elapsed)} elapsed"
    if total.is_over or total.left is None:
        return text
    return f"{text}, about {duration_text(total.left)} left"


# --- which families ---------------------------------------------------------------------------------


def _select_rows(studies: Sequence[Row], lines: float, direction: Direction) -> list[Row]:
    """Select rows that fit: the best few, then active, pending and finished ones, the best of each first."""
    if len(studies) <= lines:
        return list(studies)
    sign = 1 if direction == "minimize" else -1
    by_value = sorted(range(len(studies)), key=lambda k: (_sort_value(studies[k].best, sign), k))
    place = {k: number for number, k in enumerate(by_value)}
    first = sorted(
        by_value,
        key=lambda k: (
            studies[k].best is None or place[k] >= BEST,
            not studies[k].open,
            studies[k].is_over,
            place[k],
        ),
    )
    return [studies[k] for k in sorted(first[: int(lines)])]


def _sort_value(value: float | None, sign: int) -> float:
    return math.inf if value is None else sign * value


def _hidden_text(rows: Sequence[Row]) -> str:
    families, done = "family" if len(rows) == 1 else "families", sum(row.is_done for row in rows)
    return f"{len(rows)} more {families} ({done} done). Make the window higher to see them"


# --- the columns ------------------------------------------------------------------------------------


def _columns(rows: Sequence[Row], word: str, width: int, unicode: bool) -> list[Column]:
    wide = width >= 150
    cells = 8 if width < 100 else 10 if not wide else 12
    curves = [best_so_far(row.bests, cells, unicode) for row in rows]
    lrs = [lr_curve(row.lr_S, cells, unicode) for row in rows]
    columns = [
        Column("family", [row.name for row in rows], 100, right=False, min_width=10),
        Column("trials", [f"{row.done}/{row.trials}" for row in rows], 90),
        Column(word, [value_text(row.best) for row in rows], 95),
        Column(f"{word} so far" if wide else "so far", curves, 69, right=False),
        Column("its LR", lrs, 68, right=False),
        Column("peak LR" if wide else "peak", [_lr_text(row.peak) for row in rows], 35),
        Column("trial" if wide else "#", [_or_dash(row.best_trial) for row in rows], 40),
        Column("pruned" if wide else "prun", [str(row.pruned) for row in rows], 50),
        Column("diverged" if wide else "div", [str(row.diverged) for row in rows], 60),
    ]
    if rows[-1].failed:
        columns.append(Column("failed" if wide else "fail", [str(row.failed) for row in rows], 65))
    return [
        *columns,
        Column("running" if wide else "open", [_open_text(row, wide) for row in rows], 45),
        Column("trials/min" if wide else "/min", [speed_text(row.per_minute) for row in rows], 30),
        Column("left", [_left_text(row) for row in rows], 70),
    ]


def _style(row: Row, total: Row) -> str:
    if row.best is not None and row.best == total.best:
        return "green"
    return "dim" if row.is_over else ""


def _left_text(row: Row) -> str:
    """Return the time left. A study whose failed trials were given up is over, but not done."""
    if row.is_over:
        return "done" if row.is_done else "over"
    return duration_text(row.left)


def _open_text(row: Row, wide: bool) -> str:
    """Return the number of open trials and their average progress: 8@45%."""
    if not row.open:
        return "-"
    return f"{row.open} at {row.open_fraction:.0%}" if wide else f"{row.open}@{row.open_fraction:.0%}"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _lr_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def speed_text(per_minute: float | None) -> str:
    """Format trials per minute with 3 digits; "-" for none."""
    return "-" if per_minute is None else f"{per_minute:.3g}" if per_minute < 1000 else f"{per_minute:.0f}"
