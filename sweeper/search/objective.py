"""What a trial is judged by: one number out of its reports, and one for a trial that diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from sweeper.types import AT, At, Direction, InputError, Report


@dataclass(frozen=True)
class Objective:
    """metric: of the reports. at: the last report, the best one, the mean of the last k, or a moving average.

    The moving average weighs each report 1 - 2 / (k + 1) times the one after it: pandas' `ewm(span=k)`.
    """

    metric: str = "valid/loss"
    direction: Direction = "minimize"
    at: At = "last"
    k: int = 3

    def trial_value(self, values: Sequence[float]) -> float:
        """The objective of a complete trial, from the values of all its reports in order."""
        match self.at:
            case "best":
                return self.best(values)
            case "mean_last_k":
                return fmean(values[-self.k :])
            case "ema":
                keep = 1 - 2 / (self.k + 1)
                return fmean(values, [keep ** (len(values) - 1 - place) for place in range(len(values))])
            case "last":
                return values[-1]

    def measures(self, values: Sequence[float], of_members: Sequence[Sequence[float]] = ()) -> dict[str, float]:
        """The objective by every rule; the spread over members where there are several. See types.Ending.

        of_members: at each report, the value of every member.
        """
        found = {f"objective/{at}": replace(self, at=at).trial_value(values) for at in AT}
        members = [self.trial_value(of_member) for of_member in zip(*of_members, strict=True)]
        return found | ({"objective/spread": stdev(members)} if len(members) > 1 else {})

    def member_values(self, reports: Sequence[Report]) -> list[float]:
        """The value of each of a trial's members at one step. Raises InputError if a report lacks the metric."""
        return [self._member_value(report) for report in reports]

    def best(self, values: Sequence[float]) -> float:
        """The best of some values."""
        return min(values) if self.direction == "minimize" else max(values)

    def penalty(self, untrained_loss: float, left: float) -> float:
        """The value told for a diverged trial: worse than not training at all, and worse the earlier it diverged.

        left: the fraction of its updates it did not finish. Sign turned when maximising.
        """
        worst = untrained_loss + left
        return worst if self.direction == "minimize" else -worst

    def _member_value(self, report: Report) -> float:
        if self.metric not in report.metrics:
            known = ", ".join(sorted(report.metrics)) or "none"
            raise InputError("objective.metric", self.metric, "not a metric of the reports", f"There are: {known}")
        return float(report.metrics[self.metric])


def combine_members(of_members: Sequence[float]) -> float:
    """What a trial is judged by at one step: the median over its members; NaN if one of them is not finite."""
    return median(of_members) if all(map(math.isfinite, of_members)) else math.nan
