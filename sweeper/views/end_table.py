"""The table of families as text in columns, with the small print below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from sweeper.results.tables import DEFAULT, STATES, TUNED, Criterion, StudyRow, names_of, rows_of
from sweeper.text.columns import Column, Line, blocks, clean, lay_out, value_text, wrap, write
from sweeper.text.numbers import gain_text, lr_text, param_text, share_text
from sweeper.types import State
from sweeper.views.small_print import small_print

if TYPE_CHECKING:
    import pandas as pd

ALWAYS: tuple[State, ...] = ("complete", "pruned", "diverged")  # states that have a column though no trial has them


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
    first_baseline = next((number for number, row in enumerate(rows) if row.role), len(rows))
    roles = {row.role: row.family for row in rows if row.role}
    meaning = {TUNED: "LR tuned", DEFAULT: "the optimizer's own LR, untuned"}
    baselines = ", ".join(f"{clean(family)} ({meaning[role]})" for role, family in roles.items())
    lines = wrap(heading(criterion), width, "bold")
    for block in blocks(columns(families, criterion), width):
        drawn = lay_out(block, width, unicode=unicode)
        if roles:
            drawn[1 + first_baseline : 1 + first_baseline] = wrap(f"baselines: {baselines}", width, "dim")
        lines += [*drawn, [("", "")]]
    answer, *rest = small_print(families, criterion, notes=notes)
    small = [line for paragraph in rest for line in wrap(paragraph, width, "dim")]
    return [*lines, *wrap(answer, width, "bold"), *small]


def heading(criterion: Criterion) -> str:
    """Return what the table shows, in one line."""
    return f"{criterion.extreme.capitalize()} {criterion.metric} of each family in the search, {criterion.sense}"


def columns(families: pd.DataFrame, criterion: Criterion) -> list[Column]:
    """Return every column of the table as text. `families` is from `families_table`."""
    rows = rows_of(families)
    names = [name + _marks(row) for name, row in zip(names_of(rows), rows, strict=True)]
    others = [", ".join(f"{name} {param_text(name, value)}" for name, value in row.others.items()) for row in rows]
    has_spread = any(row.spread is not None for row in rows)
    states = [state for state in STATES if state in ALWAYS or any(row.counts[state] for row in rows)]
    return [
        Column("family", names, right=False, min_width=10),
        Column(criterion.extreme, [value_text(row.best_value) for row in rows]),
        *([Column("spread", [value_text(row.spread) for row in rows])] if has_spread else []),
        Column("gain", [gain_text(row.gain) for row in rows]),
        Column("trial", [_whole_text(row.best_trial) for row in rows]),
        Column("peak LR", [lr_text(row.common["peak_lr"]) for row in rows]),
        Column("warmup", [share_text(row.common["warmup"]) for row in rows]),
        Column("decay", [lr_text(row.common["decay"]) for row in rows]),
        Column("cycle", [share_text(row.common["cycle"]) for row in rows]),
        *([Column("others", others, right=False, min_width=14)] if any(others) else []),
        *(Column(state, [str(row.counts[state]) for row in rows]) for state in states),
        Column("stable LR", [lr_text(row.stable_lr) for row in rows]),
        Column("diverged LR", [lr_text(row.diverged_lr) for row in rows]),
        Column("to target", [_target_text(row) for row in rows]),
    ]


def _marks(row: StudyRow) -> str:
    return ("*" if row.ends_high else "") + ("+" if row.best_truncated else "")


def _target_text(row: StudyRow) -> str:
    """Return the share of the run after which the trial shown reached the target, or "never"."""
    if row.rank is None or row.steps is None:
        return "-"
    return "never" if row.steps_to_target is None else share_text(row.steps_to_target / row.steps)


def _whole_text(value: int | None) -> str:
    return "-" if value is None else str(value)
