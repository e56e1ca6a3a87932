"""What a trial is judged by: one value from all its reports, or a penalty if it diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from sweeper.types import AT, At, Direction, InputError, Report


@dataclass(frozen=True)
class Objective:
    """How trials are judged.

    Attributes:
        metric: A metric of the reports.
        direction: Whether smaller or larger values are better.
        at: "last": the value of the last report. "best": the best one. "mean_last_k": the mean of the last k. "ema": a
            moving average, in which each report weighs 1 - 2 / (k + 1) times the next one (pandas' `ewm(span=k)`).
        k: Reports of "mean_last_k" and "ema".
    """

    metric: str = "valid/loss"
    direction: Direction = "minimize"
    at: At = "last"
    k: int = 3

    @property
    def is_loss(self) -> bool:
        """Whether the metric is a loss, whose divergence is that of the training."""
        return self.metric.endswith("/loss")

    def trial_value(self, values: Sequence[float]) -> float:
        """Return the objective of a complete trial, from the values of all its reports in order."""
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
        """Return the objective of a complete trial by every rule, by tracking name (see `sweeper.types.Ending`).

        Args:
            values: The trial's value at each report.
            of_members: At each report, the value of every member; () for a single member.

        Returns:
            "objective/<rule>" for every rule of AT, and with several members "objective/spread", their standard
            deviation.
        """
        measures = {f"objective/{at}": replace(self, at=at).trial_value(values) for at in AT}
        members = [self.trial_value(of_member) for of_member in zip(*of_members, strict=True)]
        return measures | ({"objective/spread": stdev(members)} if len(members) > 1 else {})

    def member_values(self, reports: Sequence[Report]) -> list[float]:
        """Return the value of each member of a trial at one step.

        Raises:
            InputError: A report lacks the metric.
        """
        return [self._member_value(report) for report in reports]

    def best(self, values: Sequence[float]) -> float:
        """Return the best of some values."""
        return min(values) if self.direction == "minimize" else max(values)

    def penalty(self, untrained_loss: float, left: float) -> float:
        """Return the value that the sampler gets for a diverged trial.

        It is worse than that of an untrained model, and the worse the earlier the trial diverged.

        Args:
            untrained_loss: Loss of a model that knows nothing. Its sign is turned if the objective is maximized.
            left: The fraction of its updates that the trial did not finish.
        """
        worst = untrained_loss + left
        return worst if self.direction == "minimize" else -worst

    def _member_value(self, report: Report) -> float:
        if self.metric not in report.metrics:
            known = ", ".join(sorted(report.metrics))
            remedy = f"Choose one of {known}" if known else "Report at least one metric"
            raise InputError("objective.metric", self.metric, "not among the reported metrics", remedy)
        return float(report.metrics[self.metric])


def combine_members(of_members: Sequence[float]) -> float:
    """Return the value of a trial at one step: the median of its members, or NaN if one of them is not finite."""
    return median(of_members) if all(map(math.isfinite, of_members)) else math.nan
