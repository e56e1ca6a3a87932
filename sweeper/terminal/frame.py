"""The table of the live view: a title with the time, one line per family with its curves, one line for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sweeper.terminal.tally import Row
from sweeper.text.columns import (
    Column,
    Line,
    clean,
    duration_text,
    fit_columns,
    lay_out,
    shorten,
    total_width,
    value_text,
    width_of,
)
from sweeper.text.sparks import best_so_far, lr_curve
from sweeper.types import Direction, extreme

HOUR = 3600
LEFT, TO_LOOK = "left", "to the next look"  # what a time left is for
STEPS = (100, 150)  # widths of a window from which columns are wider
NAME, TRIALS, VALUE, CURVE = (12, 14, 24), (7, 9, 11), (9, 9, 11), (8, 10, 12)  # cells: narrow, medium, wide
PROVISIONAL = "~ latest value of a trial that is still running"
BAR = (6, 30)  # cells at least and at most
BEST = 3  # families that are always shown if the window is not high enough for all
TITLE = 12  # cells of the title at least


@dataclass(frozen=True)
class Heading:
    """What the title line shows: the sweep's name, the metric that ranks its trials, and its direction.

    `goal` follows the time left. A confirmation is planned up to its next look only.
    """

    title: str
    metric: str
    direction: Direction
    goal: str = LEFT

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

    Which columns there are, and how wide they are, depends on the window's width alone, so that nothing moves while a
    sweep runs. If not all lines fit, the best and the active families are shown, with a note on the others. If not all
    columns fit, these are dropped in this order: bar, trials per minute, peak LR, number of the best trial, running,
    pruned, diverged, failed, LR, best so far, time left.

    Args:
        rows: One row per study, and last the total.
        heading: The content of the title.
        window: The space for the table.
        elapsed: Seconds since the start.
        status: Shown instead of the time if the sweep is not running.
    """
    *studies, total = rows
    width, height, unicode = window.width, window.height, window.unicode
    legend: list[Line] = [] if total.is_over else [[(shorten(PROVISIONAL, width, unicode), "dim")]]
    room = math.inf if height is None else max(1, height - 4 - len(legend))
    selected = _select_rows(studies, room, heading.direction)
    columns = fit_columns(_columns([*selected, total], heading.extreme, window), width)
    free = width - total_width(columns) - 2
    if free >= BAR[0]:
        cells = [bar(row.fraction, min(free, BAR[1]), unicode) for row in [*selected, total]]
        columns.insert(1, Column("", cells, priority=1, right=False))
    styles = {number: _style(row, total) for number, row in enumerate(selected)} | {len(selected): "bold"}
    lines = lay_out(columns, width, styles=styles, unicode=unicode)
    if hidden := [row for row in studies if row not in selected]:
        lines.insert(-1, [(shorten(_hidden_text(hidden), width, unicode), "dim")])
    title = _title(heading, status or _time(total, elapsed, heading.goal), window)
    return [[(title, "bold")], *lines, *legend]


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


def _time(total: Row, elapsed: float, goal: str) -> str:
    text = f"{duration_text(elapsed)} elapsed"
    if total.is_over or total.left is None:
        return text
    return f"{text}, about {left_text(total.left)} {goal}"


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


def _columns(rows: Sequence[Row], word: str, window: Window) -> list[Column]:
    """Return all columns, each of a width that does not depend on the rows."""
    unicode, step = window.unicode, sum(window.width >= least for least in STEPS)
    curve = CURVE[step]
    bests = [best_so_far(row.bests, curve, unicode) for row in rows]
    lrs = [lr_curve(row.lr_S, curve, unicode) for row in rows]

    def fixed(heads: Sequence[str], widths: Sequence[int], cells: Sequence[str], priority: int) -> Column:
        return _fixed(Column(heads[step], cells, priority), widths[step], unicode)

    def curves(head: str, cells: Sequence[str], priority: int) -> Column:
        return _fixed(Column(head, cells, priority, right=False), curve, unicode)

    names = [_shorten_middle(row.name, NAME[step], unicode) for row in rows]
    values, trials = VALUE[step], TRIALS[step]
    return [
        _fixed(Column("family", names, 100, right=False), NAME[step], unicode),
        fixed(["trials"] * 3, TRIALS, [_trials_text(row, trials) for row in rows], 90),
        fixed([word] * 3, VALUE, [_best_text(row, values) for row in rows], 95),
        curves("so far", bests, 69),
        curves("its LR", lrs, 68),
        fixed(["peak", "peak", "peak LR"], [8] * 3, [_lr_text(row.peak) for row in rows], 35),
        fixed(["#", "#", "trial"], [5] * 3, [_or_dash(row.best_trial) for row in rows], 40),
        fixed(["prun", "prun", "pruned"], [4, 4, 6], [str(row.pruned) for row in rows], 50),
        fixed(["div", "div", "diverged"], [4, 4, 8], [str(row.diverged) for row in rows], 60),
        fixed(["fail", "fail", "failed"], [4, 4, 6], [str(row.failed) for row in rows], 65),
        fixed(["open", "open", "running"], [7, 7, 11], [_open_text(row, step == 2) for row in rows], 45),
        fixed(["/min", "/min", "trials/min"], [6, 6, 10], [speed_text(row.per_minute) for row in rows], 30),
        fixed(["left"] * 3, [7] * 3, [_left_text(row) for row in rows], 70),
    ]


def _fixed(column: Column, cells: int, unicode: bool) -> Column:
    """Return the column with exactly this width."""
    head = column.head.rjust(cells) if column.right else column.head.ljust(cells)
    return replace(column, head=head, cells=[shorten(text, cells, unicode) for text in column.cells])


def _shorten_middle(text: str, cells: int, unicode: bool) -> str:
    """Return the text without its middle if it is too wide: studies of one family differ at their ends."""
    mark = "…" if unicode else ".."
    if width_of(text) <= cells:
        return text
    tail = (cells - len(mark)) // 2
    return f"{text[: cells - len(mark) - tail]}{mark}{text[-tail:]}"


def _trials_text(row: Row, cells: int) -> str:
    text = f"{row.done}/{row.trials}"
    return text if len(text) <= cells else f"{row.fraction:.0%}"


def _best_text(row: Row, cells: int) -> str:
    """Return the value with as many digits as fit, and with a mark if its trial is still open."""
    if row.best is None:
        return "-"
    texts = [value_text(row.best), *(f"{row.best:.{digits}g}" for digits in (4, 3, 2, 1))]
    text = next((text for text in texts if len(text) < cells), texts[-1])
    return f"~{text}" if row.is_provisional else text


def _style(row: Row, total: Row) -> str:
    if row.best is not None and row.best == total.best and not row.is_provisional:
        return "green"
    return "dim" if row.is_over else ""


def _left_text(row: Row) -> str:
    """Return the time left. A study whose failed trials were given up is over, but not done."""
    if row.is_over:
        return "done" if row.is_done else "over"
    return left_text(row.left)


def _open_text(row: Row, wide: bool) -> str:
    """Return the number of open trials and their average progress: 8@45%."""
    if not row.open:
        return "-"
    return f"{row.open} at {row.open_fraction:.0%}" if wide else f"{row.open}@{row.open_fraction:.0%}"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _lr_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def left_text(seconds: float | None) -> str:
    """Format a time left, which is an estimate: 0:42, 12:04, 3h 10m, 2d 03h; "-" for none."""
    if seconds is None or not HOUR <= seconds < 24 * HOUR:
        return duration_text(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}h {minutes:02}m"


def speed_text(per_minute: float | None) -> str:
    """Format trials per minute with 3 digits, at most 6 characters; "-" for none."""
    if per_minute is None:
        return "-"
    return (
        f"{per_minute:.0f}" if per_minute >= 1000 else f"{per_minute:.3g}" if per_minute >= 0.1 else f"{per_minute:.2g}"
    )
