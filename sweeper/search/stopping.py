"""What ends before its time: a study whose best gets no better, and, where a person allows it, a trial likewise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.search.objective import Objective
from sweeper.types import InputError

KEY = "search.early_stopping"
OPTIONS = ("patience", "min_delta")


@dataclass(frozen=True)
class EarlyStopping:
    """A trial ends once its last `patience` reports brought nothing that is better by more than `min_delta`."""

    patience: int
    min_delta: float = 0.0

    def is_due(self, values: Sequence[float], objective: Objective) -> bool:
        """values: of all reports so far, in order."""
        if len(values) <= self.patience:
            return False
        before, since = (objective.best(part) for part in (values[: -self.patience], values[-self.patience :]))
        gained = before - since if objective.direction == "minimize" else since - before
        return gained <= self.min_delta


def parse_early_stopping(node: object, *, allowed: bool) -> EarlyStopping | None:
    """`search.early_stopping` as it was typed; None where it is off.

    Raises InputError where it cannot be used, and where nobody said that trials may be truncated.
    """
    if node is None:
        return None
    if not allowed:
        raise InputError(
            KEY,
            node,
            "off, because a trial that ends early has not run its schedule: a truncated decay is another schedule",
            "Leave it out (pruners stop bad trials), or accept that: search.allow_truncation=true",
        )
    if not isinstance(node, Mapping) or not {"patience"} <= set(node) <= set(OPTIONS):
        raise InputError(
            KEY, node, "not the rule of a trial's end", "Write {patience: 5}, or {patience: 5, min_delta: 0.01}"
        )
    patience, min_delta = node["patience"], node.get("min_delta", 0.0)
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise InputError(f"{KEY}.patience", patience, "not a whole number of reports", "Write 1 or more")
    if isinstance(min_delta, bool) or not isinstance(min_delta, int | float) or not min_delta >= 0:
        raise InputError(f"{KEY}.min_delta", min_delta, "not a difference", "Write 0 or more")
    return EarlyStopping(patience, float(min_delta))


@dataclass
class StallCounter:
    """The best trial of a study, and how many have not beaten it: what its end hangs on.

    Of trials that were begun after the best one, those that ended well or badly (a failed one, tried again, says
    nothing of the space): counted by number, so that neither clocks nor the order of ends within a round matter.
    """

    objective: Objective
    best: tuple[float, int] | None = None  # value, number

    def __post_init__(self) -> None:
        self._ended: list[int] = []
        self.trials_since_best = 0

    def add(self, number: int, value: float | None) -> None:
        """A trial ended; value: of a complete one."""
        self._ended.append(number)
        if value is not None and self._is_best(value, number):
            self.best = (value, number)
            self.trials_since_best = sum(other > number for other in self._ended)
        elif self.best is None or number > self.best[1]:
            self.trials_since_best += 1

    def _is_best(self, value: float, number: int) -> bool:
        """Of equal values the first trial's is the best."""
        if self.best is None:
            return True
        if value == self.best[0]:
            return number < self.best[1]
        return self.objective.best([value, self.best[0]]) == value


def parse_stop(value: Any) -> int | None:
    """`search.stop` as it was typed. Raises InputError."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError("search.stop", value, "not a number of trials", "Write one, such as 20, or null")
    return None if value is None else int(value)
