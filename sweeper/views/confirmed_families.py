"""The verdict on families as a table, and what the new searches cost that it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from sweeper.results import below
from sweeper.results.verdict import Verdict
from sweeper.text.columns import Column, Line, clean, duration_text, wrap, write
from sweeper.views import confirmed

if TYPE_CHECKING:
    from sweeper.run.searching import SearchCost

HEADS = {"configuration": "family", "seeds": "searches", "diverged": "without value"}  # of the table of configurations
SHOWN = ("rank", "family", "mean", "sd", "searches", "gain over constant", "without value", "verdict")


def cost_lines(cost: SearchCost) -> list[str]:
    """Return what new searches cost, for the terminal."""
    if not cost.searches:
        return ["All new searches have ended."]
    time = duration_text(cost.seconds)
    return [
        f"New searches: {cost.searches} of {cost.trials} trials each, {cost.trainings:,} trainings at most "
        f"({time} at the speed of the search). They are not tracked."
    ]


def show(verdict: Verdict, out: TextIO | None = None) -> None:
    """Print the table and what is to be known beside the verdict, at the width of a terminal."""
    write(lambda width, unicode: render(verdict, width=width, unicode=unicode), out)


def render(verdict: Verdict, *, width: int | None = None, unicode: bool = True) -> list[Line]:
    """Return the table and what is to be known beside the verdict as lines.

    Args:
        verdict: The verdict.
        width: Cells of a line at most; None for no limit.
        unicode: Whether the output can show more than ASCII.
    """
    objective = verdict["objective"]
    sense = "lower" if objective["direction"] == "minimize" else "higher"
    count = len(verdict["seeds"].get("search", []))
    head = f"Families over {count} new searches: best {objective['metric']} of each search, {sense} is better"
    among = {place: "bold green" for place, row in enumerate(verdict["configurations"]) if row["status"] == "best"}
    return [
        *wrap(head, width, "bold"),
        *confirmed.full_table(columns(verdict), among, width, unicode),
        *(line for text in below.lines(verdict) for line in wrap(clean(text), width, "dim")),
    ]


def columns(verdict: Verdict) -> list[Column]:
    """Return the columns of the table: those of configurations that a family has, too."""
    of_configurations = confirmed.columns(verdict)
    named = [replace(column, head=HEADS.get(column.head, column.head)) for column in of_configurations]
    names = [clean(row["family"]) for row in verdict["configurations"]]
    return [
        replace(column, cells=names) if column.head == "family" else column for column in named if column.head in SHOWN
    ]
