"""Rank the complete trials of a study: the tag `trial.rank` is "1" to "5", and "6+" for all others.

MLflow filters tags neither as numbers nor by a list, so all other trials share one value, and
"tags.`trial.rank` != '6+'" finds the best. Trials are only added, so a rank only gets worse: writing a tag twice, or
from a longer part of the spool, gives the same result, and a tag changes only until its trial drops out of the top.
"""

from __future__ import annotations

from collections.abc import Mapping

from sweeper.types import Direction

TAG = "trial.rank"
TOP = 5
BELOW = f"{TOP + 1}+"


def ranks(values: Mapping[int, float], direction: Direction) -> dict[int, str]:
    """Return the rank of every trial by its objective. Of equal ones the earlier trial is ahead."""
    sign = 1.0 if direction == "minimize" else -1.0
    order = sorted(values, key=lambda trial: (sign * values[trial], trial))
    return {trial: str(place) if place <= TOP else BELOW for place, trial in enumerate(order, start=1)}


class Ranking:
    """The complete trials of one study, and the ranks that were reported."""

    def __init__(self) -> None:
        self._values: dict[int, float] = {}
        self._reported: dict[int, str] = {}
        self._has_changed = False

    def add(self, trial: int, value: float) -> None:
        """Add a complete trial."""
        self._values[trial] = value
        self._has_changed = True

    def changes(self, direction: Direction | None) -> dict[int, str]:
        """Return the ranks that changed since the last call, by trial; {} while the direction is unknown."""
        if not self._has_changed or direction is None:
            return {}
        current = ranks(self._values, direction)
        changes = {trial: rank for trial, rank in current.items() if self._reported.get(trial) != rank}
        self._reported, self._has_changed = current, False
        return changes
