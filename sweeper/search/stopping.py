"""Stop a study that no longer improves (`search.stop`), and, if allowed, single trials (`search.early_stopping`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.search.objective import Objective
from sweeper.types import InputError

KEY = "search.early_stopping"


@dataclass(frozen=True)
class EarlyStopping:
    """The rule that ends a trial early.

    Attributes:
        patience: A trial ends once this many reports in a row brought no improvement.
        min_delta: An improvement must be larger than this, in units of the objective.
    """

    patience: int
    min_delta: float = 0.0

    def is_due(self, values: Sequence[float], objective: Objective) -> bool:
        """Return whether the trial ends now.

        Args:
            values: The objective's metric at each report so far.
            objective: Which values are better.
        """
        if len(values) <= self.patience:
            return False
        earlier, latest = (objective.best(part) for part in (values[: -self.patience], values[-self.patience :]))
        gain = earlier - latest if objective.direction == "minimize" else latest - earlier
        return gain <= self.min_delta


def parse_early_stopping(node: Mapping[str, Any] | None, *, allowed: bool) -> EarlyStopping | None:
    """Parse `search.early_stopping`; None turns it off.

    Args:
        node: The value from the configuration.
        allowed: `search.allow_truncation`.

    Raises:
        InputError: The value cannot be used, or trials may not be truncated.
    """
    if node is None:
        return None
    if not allowed:
        raise InputError(
            KEY,
            node,
            "not allowed: a trial that ends early has not run its whole schedule, and a truncated decay is another one",
            "Leave it out (pruners stop bad trials), or allow it with search.allow_truncation=true",
        )
    if "patience" not in node:
        raise InputError(f"{KEY}.patience", None, "missing", "Write for example {patience: 5}")
    return EarlyStopping(node["patience"], float(node.get("min_delta", 0.0)))


@dataclass
class StallCounter:
    """The best trial of a study, and how many later trials have not beaten it.

    It counts trials that were started after the best one and ended, well or badly; a failed trial is retried and says
    nothing about the space. Trials are compared by number, so neither clocks nor the order of ends within a round
    matter.

    Attributes:
        objective: Which values are better.
        best: Value and number of the best trial; None before the first complete one.
        trials_since_best: How many trials have not beaten it.
    """

    objective: Objective
    best: tuple[float, int] | None = None

    def __post_init__(self) -> None:
        self._ended: list[int] = []
        self.trials_since_best = 0

    def add(self, number: int, value: float | None) -> None:
        """Add a trial that ended.

        Args:
            number: Its number.
            value: Its objective; None unless it is complete.
        """
        self._ended.append(number)
        if value is not None and self._is_best(value, number):
            self.best = (value, number)
            self.trials_since_best = sum(other > number for other in self._ended)
        elif self.best is None or number > self.best[1]:
            self.trials_since_best += 1

    def _is_best(self, value: float, number: int) -> bool:
        """Return whether a value is the best. Of equal values the first trial's counts."""
        if self.best is None:
            return True
        if value == self.best[0]:
            return number < self.best[1]
        return self.objective.best([value, self.best[0]]) == value
