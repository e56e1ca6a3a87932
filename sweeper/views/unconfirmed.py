"""What follows a search that is not confirmed: the command that confirms it, and what that costs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sweeper.results.tables import BASELINES
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.text.columns import duration_text

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep

DEFAULT_LR = BASELINES[1]
TYPICAL_LOOK = 2  # place among the looks at which a comparison typically ends: 16 seeds, between easy and hard ones


def confirm_line(name: str, trainings: int, most: int, seconds: float | None) -> str:
    """Return the line that names the command which confirms a sweep.

    Args:
        name: The sweep's name.
        trainings: Trainings that it typically takes.
        most: Trainings at most.
        seconds: Of one training; None if unknown.
    """
    time = "" if seconds is None else f", {duration_text(trainings * seconds)}"
    return f"Confirm it: python -m sweeper confirm {name}   (about {trainings:,} trainings{time}; at most {most:,})"


def confirm_line_of(sweep: StoredSweep) -> str:
    """Return that line for a sweep; "" if it is not finished, is confirmed, or has nothing to confirm."""
    complete = [record for record in sweep.records if record.state == "complete" and not record.prior_of]
    if not sweep.finished or not complete or (sweep.home.path / "confirm.json").exists():
        return ""
    asked = ConfirmSpec()
    trials = Counter(record.family for record in complete)
    has_default = trials.pop(DEFAULT_LR, 0) > 0
    candidates = [min(count, asked.top) for count in trials.values()]
    before = asked.choose * sum(count for count in candidates if count > 1) + has_default * asked.all_looks[0]
    typical, most = (before + len(candidates) * looks for looks in (asked.all_looks[TYPICAL_LOOK], asked.all_looks[-1]))
    return confirm_line(sweep.name, typical, most, _seconds(sweep))


def _seconds(sweep: StoredSweep) -> float | None:
    """Return the mean duration of a complete trial with one seed, on all folds; None if unknown."""
    seconds = [record.seconds for record in sweep.records if record.state == "complete" and record.seconds]
    return sum(seconds) / len(seconds) / sweep.criterion.seeds if seconds else None
