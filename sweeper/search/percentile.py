"""Optuna's median and percentile pruners, as fast for the ten-thousandth trial as for the tenth. They decide the same.

Optuna reads all complete trials at each report of each trial. A complete trial never changes, so here its values are
sorted in once.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence

from optuna.pruners import BasePruner, PercentilePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState


class Percentile(BasePruner):
    """Decides as Optuna's `pruner` does. Each object serves a single study."""

    def __init__(self, pruner: PercentilePruner) -> None:
        self._percentile = pruner._percentile
        self._startup, self._warmup = pruner._n_startup_trials, pruner._n_warmup_steps
        self._interval, self._least = pruner._interval_steps, pruner._n_min_trials
        self._added: set[int] = set()  # numbers of the trials in `_sorted`
        self._sorted: dict[int, list[float]] = {}  # values of the complete trials, by report

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the best value so far is worse than that percentile of the complete trials at this report."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._add(complete)
        report = trial.last_step
        if len(complete) < max(1, self._startup) or report is None or not self._is_due(report, trial):
            return False
        minimize = study.direction == StudyDirection.MINIMIZE
        values_so_far = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
        if not values_so_far:
            return True
        values = self._sorted.get(report, [])
        if len(values) < self._least:
            return False
        if minimize:
            return min(values_so_far) > _interpolate(values, self._percentile / 100)
        return max(values_so_far) < _interpolate(values, (100 - self._percentile) / 100)

    def _is_due(self, report: int, trial: FrozenTrial) -> bool:
        """Return whether this is the first report of an interval, after the warmup."""
        if report < self._warmup:
            return False
        start = report - (report - self._warmup) % self._interval
        return all(other < start for other in trial.intermediate_values if other != report)

    def _add(self, complete: Sequence[FrozenTrial]) -> None:
        if len(complete) == len(self._added):
            return
        for trial in complete:
            if trial.number not in self._added:
                self._added.add(trial.number)
                for report, value in trial.intermediate_values.items():
                    if not math.isnan(value):
                        insort(self._sorted.setdefault(report, []), value)


def _interpolate(ordered: Sequence[float], fraction: float) -> float:
    """Return a quantile by linear interpolation, equal to numpy.percentile to the last bit."""
    place = (len(ordered) - 1) * fraction
    below = min(int(place), len(ordered) - 1)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part = place - below
    return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part
