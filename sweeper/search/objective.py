"""What a trial is judged by: one number out of its reports, and one for a trial that diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from sweeper.types import InputError, Report


@dataclass(frozen=True)
class Objective:
    """metric: of the reports. at: the last report, the best one, or the mean of the last k."""

    metric: str = "valid/loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    at: Literal["last", "best", "mean_last_k"] = "last"
    k: int = 3

    def of_trial(self, values: Sequence[float]) -> float:
        """The objective of a complete trial, from the values of all its reports in order."""
        if self.at == "best":
            return self.better(values)
        return values[-1] if self.at == "last" else fmean(values[-self.k :])

    def of_reports(self, reports: Sequence[Report]) -> float:
        """The median over a trial's members at one step; NaN if one of them is not finite.

        Raises InputError if a report lacks the metric.
        """
        values = [self._of_member(report) for report in reports]
        return median(values) if all(map(math.isfinite, values)) else math.nan

    def better(self, values: Sequence[float]) -> float:
        """The best of some values."""
        return min(values) if self.direction == "minimize" else max(values)

    def penalty(self, untrained_loss: float, left: float) -> float:
        """The value told for a diverged trial: worse than not training at all, and worse the earlier it diverged.

        left: the fraction of its updates it did not finish. Sign turned when maximising.
        """
        worst = untrained_loss + left
        return worst if self.direction == "minimize" else -worst

    def _of_member(self, report: Report) -> float:
        if self.metric not in report.metrics:
            known = ", ".join(sorted(report.metrics)) or "none"
            raise InputError("objective.metric", self.metric, "not a metric of the reports", f"There are: {known}")
        return float(report.metrics[self.metric])
