"""What a claim's contrast says: differences of two arms at equal seeds, their interval, and the word for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from sweeper.results.by_seed import by_seed
from sweeper.results.paired import interval, paired
from sweeper.results.verdict import ValueRow, Verdict
from sweeper.types import Floats

Measure = Literal["loss", "accuracy", "largest_lr"]
Word = Literal["supported", "refuted on this task", "undecided"]
KEPT = 0.5  # share of the lowest mean loss' gain down to which a model counts as one that learns
UNITS: Mapping[Measure, str] = {"loss": "%", "accuracy": "points", "largest_lr": "doublings"}


class Found(NamedTuple):
    """A contrast on one task. Differences are positive in favor of the claim.

    Attributes:
        arms: Mean of each arm: the loss, the accuracy in %, or the geometric mean of the largest LR.
        mean: Mean difference, in the unit of the measure.
        low: Lower end of its interval.
        high: Upper end.
        seeds: Seeds on which both arms ended.
        lost: Seeds on which one of them diverged.
        word: What the interval says of the claim.
    """

    arms: tuple[float, float]
    mean: float
    low: float
    high: float
    seeds: int
    lost: int
    word: Word


def word_of(low: float, high: float, minimum: float) -> Word:
    """Return what an interval of the mean difference says of a claim that it is larger than `minimum`."""
    if low > minimum:
        return "supported"
    return "refuted on this task" if high < minimum else "undecided"


def contrast(measure: Measure, arms: tuple[Floats, Floats], minimum: float, level: float) -> Found:
    """Return what two arms show, the one that the claim favors first.

    Args:
        measure: What the values are.
        arms: Values at the same seeds, [S] each: losses, accuracies, or largest LRs. NaN where a training diverged.
        minimum: Smallest difference that makes the claim worth following.
        level: The interval has confidence 1 - level.
    """
    difference_S = differences(measure, *arms)
    test = paired(difference_S)
    low, high = interval(test, level)
    seeds = int(test.n)
    return Found(
        arms=(_middle(measure, arms[0]), _middle(measure, arms[1])),
        mean=float(test.mean),
        low=low,
        high=high,
        seeds=seeds,
        lost=len(difference_S) - seeds,
        word=word_of(low, high, minimum),
    )


def differences(measure: Measure, favored_S: Floats, other_S: Floats) -> Floats:
    """Return the differences at equal seeds in the unit of the measure, positive in favor of the claim."""
    match measure:
        case "loss":
            return 100 * (other_S - favored_S) / np.nanmean(other_S)
        case "accuracy":
            return 100 * (favored_S - other_S)
        case "largest_lr":
            return np.log2(favored_S / other_S)


def _middle(measure: Measure, value_S: Floats) -> float:
    if measure == "largest_lr":
        return float(np.exp(np.nanmean(np.log(value_S))))
    return float(np.nanmean(value_S)) * (100 if measure == "accuracy" else 1)


# --- the values of an arm -----------------------------------------------------------------------------


def values_of(verdict: Verdict, measure: Measure) -> Floats:
    """Return the values of an arm's best configuration at the seeds of its verdict, [S]."""
    leader = verdict["leader"] or verdict["configurations"][0]

    def accuracy(row: ValueRow) -> float | None:
        return row.get("test", {}).get("test/accuracy")

    found = by_seed(verdict, leader, accuracy) if measure == "accuracy" else by_seed(verdict, leader)
    return np.array([found.get(seed, math.nan) for seed in verdict["seeds"]["judge"]])


def losses_of(verdict: Verdict) -> tuple[Floats, Floats]:
    """Return the peak LRs of an arm on a grid, [G], increasing, and its losses, [G, S], NaN where it diverged."""
    rows = sorted(verdict["configurations"], key=lambda row: float(row["params"]["peak_lr"]))  # type: ignore[arg-type]
    of_rows = [by_seed(verdict, row) for row in rows]
    loss_GS = np.array([[found.get(seed, math.nan) for seed in verdict["seeds"]["judge"]] for found in of_rows])
    return np.array([float(row["params"]["peak_lr"]) for row in rows]), loss_GS  # type: ignore[arg-type]


def learns_below(loss_AGS: Floats, no_skill: float) -> float:
    """Return the loss up to which a model counts as one that learns: it keeps half of what the lowest mean loss gains.

    Args:
        loss_AGS: Losses of all arms, peak LRs and seeds. NaN where a training diverged.
        no_skill: Loss of predictions that ignore the inputs.
    """
    lowest = float(np.min(np.where(np.isnan(loss_AGS), no_skill, loss_AGS).mean(-1)))
    return no_skill - KEPT * (no_skill - lowest)


def largest_lrs(lr_G: Floats, loss_GS: Floats, bound: float) -> Floats:
    """Return the largest peak LR at which the model learns, at each seed, [S].

    Where it learns at none, it is one step of the grid below the lowest.
    """
    learns_GS = loss_GS <= bound  # false for NaN
    below = lr_G[0] ** 2 / lr_G[1]
    return np.where(learns_GS, lr_G[:, None], below).max(0)
