"""The table of families as text in columns, with the small print below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from sweeper.results.tables import DEFAULT, STATES, TUNED, Criterion, StudyRow, names_of, rows_of
from sweeper.text.columns import Column, Line, clean, fit_columns, lay_out, value_text, wrap, write
from sweeper.text.numbers import gain_text, lr_text, param_text, share_text
from sweeper.types import State
from sweeper.views.small_print import small_print

if TYPE_CHECKING:
    import pandas as pd


def show(families: pd.DataFrame, criterion: Criterion, *, notes: Sequence[str] = (), out: TextIO | None = None) -> None:
    """Print the table: in color at a terminal's width, else plain and with every column.

    Args:
        families: From `families_table`.
        criterion: How trials are compared.
        notes: More paragraphs for the small print.
        out: By default stdout.
    """

    def draw(width: int | None, unicode: bool) -> list[Line]:
        return render(families, criterion, width=width, unicode=unicode, notes=notes)

    write(draw, out)


def render(
    families: pd.DataFrame,
    criterion: Criterion,
    *,
    width: int | None = None,
    unicode: bool = True,
    notes: Sequence[str] = (),
) -> list[Line]:
    """Return the families and the small print as lines.

    Args:
        families: From `families_table`.
        criterion: How trials are compared.
        width: Cells of a line at most; None for no limit.
        unicode: Whether the output can show more than ASCII.
        notes: More paragraphs for the small print.
    """
    rows = rows_of(families)
    if not rows:
        return wrap("No trials yet.", width)
    columns = _columns(rows, criterion, narrow=width is not None and width < 110)
    first_baseline = next((number for number, row in enumerate(rows) if row.role), len(rows))
    lines = lay_out(columns, width, unicode=unicode)
    if first_baseline < len(rows):
        roles = {row.role: row.family for row in rows if row.role}
        meaning = {TUNED: "LR tuned", DEFAULT: "the optimizer's own LR, untuned"}
        baselines = ", ".join(f"{clean(family)} ({meaning[role]})" for role, family in roles.items())
        lines[1 + first_baseline : 1 + first_baseline] = wrap(f"baselines: {baselines}", width, "dim")
    head = wrap(heading(criterion), width, "bold")
    fitting = fit_columns(columns, width)
    long_names = [column.head for column in _columns(rows, criterion, narrow=False)]
    hidden = [name for name, column in zip(long_names, columns, strict=True) if column not in fitting]
    paragraphs = small_print(families, criterion, notes=notes)
    if hidden:
        paragraphs.append(f"Not shown at this width: {', '.join(hidden)}.")
    answer, *rest = paragraphs
    text_lines = [line for paragraph in rest for line in wrap(paragraph, width, "dim")]
    return [*head, *lines, [("", "")], *wrap(answer, width, "bold"), *text_lines]


def heading(criterion: Criterion) -> str:
    """Return what the table shows, in one line."""
    return f"{criterion.extreme.capitalize()} {criterion.metric} of each family in the search, {criterion.sense}"


def _columns(rows: Sequence[StudyRow], criterion: Criterion, *, narrow: bool) -> list[Column]:
    names = [name + _marks(row) for name, row in zip(names_of(rows), rows, strict=True)]
    others = [", ".join(f"{name} {param_text(name, value)}" for name, value in row.others.items()) for row in rows]
    spread = []
    if any(row.spread is not None for row in rows):
        spread = [Column("spread", [value_text(row.spread) for row in rows], 56)]
    columns = [
        Column("family", names, 100, right=False, min_width=10),
        Column(criterion.extreme, [value_text(row.best_value) for row in rows], 95),
        *spread,
        Column("gain", [gain_text(row.gain) for row in rows], 90),
        Column("trial", [_whole_text(row.best_trial) for row in rows], 52),
        Column("peak LR", [lr_text(row.common["peak_lr"]) for row in rows], 80),
        Column("warmup", [share_text(row.common["warmup"]) for row in rows], 60),
        Column("decay", [lr_text(row.common["decay"]) for row in rows], 62),
        Column("cycle", [share_text(row.common["cycle"]) for row in rows], 58),
    ]
    if any(others):
        columns.append(Column("others", others, 20, right=False, min_width=14))
    priority: dict[State, int] = {"complete": 40, "pruned": 42, "diverged": 45, "failed": 50, "running": 48}
    heads = {"complete": "full", "pruned": "prun", "diverged": "div", "failed": "fail", "running": "run"}
    for state in STATES:
        if state in ("complete", "pruned", "diverged") or any(row.counts[state] for row in rows):
            columns.append(
                Column(heads[state] if narrow else state, [str(row.counts[state]) for row in rows], priority[state])
            )
    return [
        *columns,
        Column("stable LR", [lr_text(row.stable_lr) for row in rows], 44),
        Column("diverged LR", [lr_text(row.diverged_lr) for row in rows], 30),
        Column("to target", [_target_text(row) for row in rows], 46),
    ]


def _marks(row: StudyRow) -> str:
    return ("*" if row.ends_high else "") + ("+" if row.best_truncated else "")


def columns(families: pd.DataFrame, criterion: Criterion) -> list[Column]:
    """Return every column of the table as text, with full headings. `families` is from `families_table`."""
    return _columns(rows_of(families), criterion, narrow=False)


def _target_text(row: StudyRow) -> str:
    """Return the share of the run after which the trial shown reached the target, or "never"."""
    if row.rank is None or row.steps is None:
        return "-"
    return "never" if row.steps_to_target is None else share_text(row.steps_to_target / row.steps)


def _whole_text(value: int | None) -> str:
    return "-" if value is None else str(value)
