"""A table of measured figures beside the limits that they must reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        name: What is counted.
        measured: The figure.
        limit: What it must reach; None if it is reported only.
        at_most: Whether the limit is an upper one.
        upper: Upper end of a 95 % interval, of a frequency.
    """

    name: str
    measured: float
    limit: float | None
    at_most: bool = True
    upper: float | None = None

    @property
    def is_missed(self) -> bool:
        if self.limit is None:
            return False
        return self.measured > self.limit if self.at_most else self.measured < self.limit


def frequency(name: str, happened: ArrayLike, limit: float) -> Row:
    """Return a row of how often something wrong happened, with the upper end of its Clopper-Pearson interval."""
    happened_R = np.asarray(happened, dtype=bool)
    upper = binomtest(int(happened_R.sum()), len(happened_R)).proportion_ci(0.95, "exact").high
    return Row(name, float(happened_R.mean()), limit, upper=float(upper))


def show(table: Sequence[Row]) -> str:
    """Return the table as text."""
    lines = [f"{'':72} measured  must reach"]
    for row in table:
        sign = "<=" if row.at_most else ">="
        limit = "" if row.limit is None else f"{sign} {row.limit:g}"
        upper = "" if row.upper is None else f"  (95 % below {row.upper:.3f})"
        lines.append(f"{row.name:72} {row.measured:8.3f}  {limit:10}{'MISSED' if row.is_missed else ''}{upper}")
    return "\n".join(lines)
