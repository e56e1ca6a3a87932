"""The short table: one line for each family, with a bar, its LR, and its mean or lowest value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sweeper.results import words
from sweeper.results.paired import Paired, interval
from sweeper.results.tables import TUNED, Criterion, StudyRow, names_of
from sweeper.results.verdict import Configuration, Verdict
from sweeper.text.columns import Column, Line, clean, lay_out, total_width, value_text, width_of
from sweeper.text.numbers import gain_text
from sweeper.text.sparks import Estimate, gain_bar, lr_curve
from sweeper.types import Floats, shorten

LR_CELLS, BAR_CELLS = 8, (4, 30)  # of the LR's curve; of the bar at least and at most
LONGEST_NAME = 22  # cells of a name such as "wsd:12"
WIDEST = 100  # cells of a line if the width is not limited
CONFIDENCE = 0.95  # of the interval of a mean
# What the line of the tuned constant says, the longest that fits.
BELOW_CONFIRMED = ("below this line it is not worth its numbers", "below: not worth its numbers", "tuned constant")
BELOW_SEARCHED = ("below this line: no gain in the search", "below: no gain in the search", "tuned constant")

NONE: Estimate = (None, None, None)


@dataclass(frozen=True)
class FamilyLine:
    """What the short table shows of a family.

    Attributes:
        name: Family and trial, such as "wsd:12".
        value: Its mean on fresh seeds, or the lowest of its trials.
        gain: By how much it is better than the tuned constant.
        rank: Its rank, or the ranks that it may have, if it was confirmed.
        lr_S: Its LR, float64 [S]; empty if unknown.
        is_constant: Whether it is the tuned constant, to which the others are compared.
        remark: Why it is not compared; "" if it is.
        style: Rich style of the line.
    """

    name: str
    value: Estimate
    gain: Estimate = NONE
    rank: str = ""
    lr_S: Floats = field(default_factory=lambda: np.empty(0), compare=False)
    is_constant: bool = False
    remark: str = ""
    style: str = ""


@dataclass(frozen=True)
class FamilyTable:
    """The lines in their order, and what the columns are called.

    Attributes:
        lines: Those that are compared, the best first, then those with a remark.
        value_name: What `value` is: "mean", "lowest" or "highest".
        below: What the line of the tuned constant says, the longest first.
    """

    lines: Sequence[FamilyLine]
    value_name: str
    below: Sequence[str] = BELOW_CONFIRMED

    @property
    def rule(self) -> int | None:
        """The place of the tuned constant; None if nothing is compared to it."""
        return next((place for place, line in enumerate(self.lines) if line.is_constant and not line.remark), None)

    def columns(self, width: int | None, unicode: bool = True) -> list[Column]:
        """Return the columns as text. The bar takes what the others leave of `width` cells."""
        names = [shorten(line.name, LONGEST_NAME) for line in self.lines]
        ranks = [line.rank or "-" for line in self.lines]
        gains = [line.remark or self._gain_text(line) for line in self.lines]
        values = [words.difference_text(*line.value) if self._has_intervals else value_text(line.value[0])
                  for line in self.lines]  # fmt: skip
        curves = ["" if place == self.rule else lr_curve(line.lr_S, LR_CELLS, unicode)
                  for place, line in enumerate(self.lines)]  # fmt: skip
        found = [
            *([Column("rank", ranks, 85)] if any(line.rank for line in self.lines) else []),
            Column("family", names, 100, right=False, min_width=10),
            Column(self.value_name, values, 95),
            *([Column(self._gain_name, gains, 90)] if any(gains) else []),
            *([Column("LR", curves, 70, right=False)] if any(curves) else []),
        ]
        room = BAR_CELLS[1] if width is None else min(BAR_CELLS[1], width - total_width(found) - 2)
        bars = [gain_bar(gain, self._top, max(room, 1), unicode) for gain in self._bar_gains]
        if room >= BAR_CELLS[0] and any(bars):
            found.insert(len(found) - any(curves), Column("", bars, 60, right=False))
        return found

    def render(self, width: int | None = None, unicode: bool = True) -> list[Line]:
        """Return the headings and the lines. The tuned constant is drawn as a rule."""
        columns = self.columns(width, unicode)
        styles = {place: line.style for place, line in enumerate(self.lines)}
        drawn = lay_out(columns, width, styles=styles, unicode=unicode)
        if self.rule is not None:
            text, style = drawn[1 + self.rule][0]
            room = (width or WIDEST) - width_of(text) - 2
            rule = self._rule_text(total_width(columns) - width_of(text) - 2, room, unicode)
            drawn[1 + self.rule] = [(f"{text}  {rule}".rstrip(), style)]
        remarks = next((place for place, line in enumerate(self.lines) if line.remark), None)
        if remarks:  # what is not compared is not below the constant
            drawn.insert(1 + remarks, [("", "")])
        return drawn

    @property
    def _has_intervals(self) -> bool:
        return any(line.value[1] is not None for line in self.lines)

    @property
    def _gain_name(self) -> str:
        if not any(self._gain_text(line) for line in self.lines):
            return ""
        return "gain over constant" if any(line.gain[1] is not None for line in self.lines) else "gain"

    def _gain_text(self, line: FamilyLine) -> str:
        mean, low, high = line.gain
        if line.is_constant or mean is None:
            return ""
        return gain_text(mean) if low is None else words.difference_text(mean, low, high)

    @property
    def _bar_gains(self) -> list[Estimate]:
        """What the bars show: the gain over the constant, or without one that over the worst family."""
        if any(line.gain[0] is not None for line in self.lines):
            return [NONE if line.remark or line.is_constant else line.gain for line in self.lines]
        compared = [line.value[0] for line in self.lines if not line.remark and line.value[0] is not None]
        worst = max(compared, key=lambda value: abs(value - compared[0]), default=0.0)
        return [
            NONE if line.remark or line.value[0] is None else (abs(line.value[0] - worst), None, None)
            for line in self.lines
        ]

    @property
    def _top(self) -> float:
        """The gain at which a bar is full."""
        return max((part for gain in self._bar_gains for part in gain if part is not None), default=0.0)

    def _rule_text(self, cells: int, most: int, unicode: bool) -> str:
        """Return the line of the tuned constant: the longest words that fit, drawn out to so many cells."""
        dash = "─" if unicode else "-"
        texts = [f"{dash * 2} {words_in_it} {dash * 2}" for words_in_it in self.below]
        text = next((text for text in texts if width_of(text) <= most), dash * 2)
        return text.ljust(min(cells, most), dash) if most >= 2 else ""


# --- of a confirmation ------------------------------------------------------------------------------


def of_verdict(verdict: Verdict, curves: Sequence[Floats]) -> FamilyTable:
    """Return the table of a verdict.

    Args:
        verdict: The verdict.
        curves: The LR of each of its configurations.
    """
    gains = {words.name(one["a"]): words.gain(verdict, one) for one in verdict["contrasts"]
             if one["question"] == "constant"}  # fmt: skip
    lines = []
    for row, lr_S in zip(verdict["configurations"], curves, strict=True):
        is_family = verdict["level"] == "family"
        lines.append(
            FamilyLine(
                name=clean(row["family"]) if is_family else f"{clean(row['family'])}:{row['trial']}",
                value=_mean(row) if not gains else (row["mean"], None, None),
                gain=gains.get(words.name(row), NONE),
                rank=_rank(row),
                lr_S=lr_S,
                is_constant=bool(gains) and words.is_constant(row),
                remark=_remark(row),
                style={"best": "bold green", "among the best": "green"}.get(row["status"], ""),
            )
        )
    return FamilyTable(_remarks_last(lines), "mean")


def _mean(row: Configuration) -> Estimate:
    """Return the mean with its interval over seeds."""
    mean, sd, n = row["mean"], row["sd"], row["n"]
    if mean is None or not sd or n < 2:
        return mean, None, None
    number = np.float64
    test = Paired(number(n), number(mean), number(sd), number(0), number(1))  # type: ignore[arg-type]
    return mean, *interval(test, 1 - CONFIDENCE)


def _rank(row: Configuration) -> str:
    if row["rank"] is None or row["status"] in ("barred", "void"):
        return ""
    low, high = row["rank"]
    return str(low) if low == high else f"{low}-{high}"


def _remark(row: Configuration) -> str:
    """Return why a configuration is not compared."""
    match row["status"]:
        case "barred":
            return f"diverged on {row['diverged']['k']} of {row['diverged']['n']} seeds"
        case "void":
            return "a training failed"
        case "not confirmed":
            return "not confirmed"
    return ""


# --- of a search ------------------------------------------------------------------------------------


def of_search(rows: Sequence[StudyRow], criterion: Criterion, curves: Sequence[Floats]) -> FamilyTable:
    """Return the table of a search, ordered by the lowest values, without ranks.

    Args:
        rows: Of the families.
        criterion: How trials are compared.
        curves: The LR of each family's lowest trial.
    """
    has_constant = any(row.role == TUNED and row.best_value is not None for row in rows)
    sign = 1 if criterion.direction == "minimize" else -1
    named = sorted(
        zip(names_of(rows), rows, curves, strict=True),
        key=lambda one: math.inf if one[1].best_value is None else sign * one[1].best_value,
    )
    lines = [
        FamilyLine(
            name=name if row.best_trial is None else f"{name}:{row.best_trial}",
            value=(row.best_value, None, None),
            gain=(row.gain, None, None),
            lr_S=lr_S,
            is_constant=has_constant and row.role == TUNED,
            remark="" if row.best_value is not None else _counts(row),
        )
        for name, row, lr_S in named
    ]
    return FamilyTable(_remarks_last(lines), criterion.extreme, BELOW_SEARCHED)


def _counts(row: StudyRow) -> str:
    """Return what became of the trials of a family of which none is complete."""
    counts = [f"{count} {state}" for state, count in row.counts.items() if count]
    return f"none complete ({', '.join(counts)})" if counts else "no trial yet"


def _remarks_last(lines: Iterable[FamilyLine]) -> list[FamilyLine]:
    return sorted(lines, key=lambda line: bool(line.remark))
