"""Which complete trials are the best of their study: the tag `trial.rank`, "1" to "5", and "6+" for all others.

MLflow's filters have neither numbers nor lists for tags, so whoever is not among the best carries one word, and
"tags.`trial.rank` != '6+'" finds the best. As trials only ever join, a rank only ever gets worse: a tag written twice
or from a longer piece of the spool ends the same, and a tag is rewritten only while its trial falls out of the top.
"""

from __future__ import annotations

from collections.abc import Mapping

from sweeper.types import Direction

TAG = "trial.rank"
TOP = 5
BELOW = f"{TOP + 1}+"


def ranks(values: Mapping[int, float], direction: Direction) -> dict[int, str]:
    """The rank of every trial by its objective; of equal ones the earlier trial is ahead."""
    sign = 1.0 if direction == "minimize" else -1.0
    order = sorted(values, key=lambda trial: (sign * values[trial], trial))
    return {trial: str(place) if place <= TOP else BELOW for place, trial in enumerate(order, start=1)}


class Ranking:
    """The complete trials of one study, and which of their ranks are told already."""

    def __init__(self) -> None:
        self._values: dict[int, float] = {}
        self._reported: dict[int, str] = {}
        self._has_changed = False

    def add(self, trial: int, value: float) -> None:
        """A trial is complete."""
        self._values[trial] = value
        self._has_changed = True

    def changes(self, direction: Direction | None) -> dict[int, str]:
        """The ranks that have changed since the last call; none while nobody has said which direction is better."""
        if not self._has_changed or direction is None:
            return {}
        now = ranks(self._values, direction)
        news = {trial: rank for trial, rank in now.items() if self._reported.get(trial) != rank}
        self._reported, self._has_changed = now, False
        return news
