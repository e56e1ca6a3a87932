"""Count how often a confirmation is wrong, and what it costs, on tasks whose truth is known.

    python benchmarks/calibration.py [--quick] [--part drawn|quadratic|families]
        [--runs 2000] [--sweeps 300] [--workers 2]

First part: values are drawn instead of trained. Each has a part of its own and one that all configurations share at a
seed, of equal standard deviations, so that of a paired difference is 1 (an "sd" below). They go through the code that
judges a confirmation. Second part: whole sweeps and their confirmations (`quadratic.py`). Third part: verdicts on
families (`searches.py`). The exit code is 1 if one figure misses its limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import quadratic
import searches
from limits import Row, frequency, show

from sweeper.results.judging import LOOKS, Judgement, Rules, State, Values, judge
from sweeper.results.paired import is_skewed, paired
from sweeper.types import Floats

OWN = COMMON = 0.5**0.5  # standard deviations of the two parts of a value
CONSTANT = 0  # the tuned constant is the first configuration
COVERAGE_RUNS = 2  # as many runs for the coverage of intervals, times this


DEFAULT = Rules()


@dataclass(frozen=True)
class Scenario:
    """A task of known truth.

    Attributes:
        means: Expected value of each configuration in sd, lower is better.
        noise: "normal", "unequal" (own standard deviations from half to twice the usual one) or "t3".
        diverging: Probability that a training diverges.
        rules: The rules of the confirmation.
    """

    means: tuple[float, ...]
    noise: str = "normal"
    diverging: float = 0.0
    rules: Rules = DEFAULT

    def draw(self, rng: np.random.Generator) -> Values:
        shape = len(self.means), self.rules.looks[-1]
        own = rng.standard_t(3, shape) / 3**0.5 if self.noise == "t3" else rng.standard_normal(shape)
        spread_K = np.geomspace(0.5, 2.0, shape[0]) if self.noise == "unequal" else np.ones(shape[0])
        value_KS = (
            np.array(self.means)[:, None] + OWN * spread_K[:, None] * own + COMMON * rng.standard_normal(shape[1])
        )
        diverges_KS = rng.random(shape) < self.diverging
        return Values(
            np.where(diverges_KS, np.nan, value_KS),
            np.where(diverges_KS, State.DIVERGED, State.ENDED).astype(np.uint8),
        )


class Counts(NamedTuple):
    """What came of many confirmations of a scenario, one entry each.

    Attributes:
        wrong: Whether a winner was named that is not the one best configuration.
        found: Whether the one best configuration was named.
        in_set: Whether it is among the contenders at the end.
        wrong_claim: Whether an equal of the constant was said to differ from it.
        better: Whether the leader was shown to be better than the constant.
        wrong_ranks: Share of configurations whose range of ranks excludes a rank that they have among equals.
        trainings: Trainings in all.
    """

    wrong: Floats
    found: Floats
    in_set: Floats
    wrong_claim: Floats
    better: Floats
    wrong_ranks: Floats
    trainings: Floats


@cache
def count(scenario: Scenario, runs: int) -> Counts:
    """Judge a scenario many times. The same arguments give the same counts."""
    rng = np.random.default_rng(0)
    rows = [_outcome(scenario, judge(scenario.draw(rng), scenario.rules, CONSTANT)) for _ in range(runs)]
    return Counts(*np.array(rows, dtype=float).T)


def _outcome(scenario: Scenario, judgement: Judgement) -> tuple[float, ...]:
    means = np.array(scenario.means)
    lowest = np.flatnonzero(means == means.min())
    best = int(lowest[0]) if len(lowest) == 1 else None
    equals = [k for k in range(1, len(means)) if means[k] == means[CONSTANT]]
    ranks = [judgement.rank(k) for k in range(len(means))]
    return (
        judgement.winner not in (None, best),
        judgement.winner is not None and judgement.winner == best,
        best in judgement.contenders,
        any(k in judgement.beats_constant for k in equals),
        judgement.leader is not None and judgement.beats_constant.get(judgement.leader, False),
        float(np.mean([rank != (1, len(means)) for rank in ranks])),
        sum(judgement.trained),
    )


def rows(runs: int) -> list[Row]:
    """Count everything that values without training can show."""
    return [*_wrong_winners(runs), *_wrong_claims(runs), *_coverage(COVERAGE_RUNS * runs), *_power_and_cost(runs)]


EQUAL, EQUAL_PAIR = Scenario((0.0,) * 8), Scenario((0.0,) * 2)
AHEAD = Scenario((0.0,) * 6 + (-3.0, -3.0))
ONE_BETTER = Scenario((0.0,) * 7 + (-1.0,))
LITTLE_BETTER = Scenario((0.0,) * 7 + (-0.5,))
LADDER = Scenario(tuple(-0.5 * step for step in range(8)))
HALF_BETTER = Scenario((0.0,) * 4 + (-1.0,) * 4)
TO_THE_END = Rules(ends_early=False)
NOISES: dict[str, tuple[str, float]] = {  # kind, and the probability that a training diverges
    "normal": ("normal", 0.0),
    "unequal sd": ("unequal", 0.0),
    "t3": ("t3", 0.0),
    "5 % diverging": ("normal", 0.05),
}


def _wrong_winners(runs: int) -> list[Row]:
    """Return how often a winner is named that is none."""

    def of(name: str, scenario: Scenario, limit: float, noises: Sequence[str]) -> list[Row]:
        noisy = [replace(scenario, noise=NOISES[noise][0], diverging=NOISES[noise][1]) for noise in noises]
        return [
            frequency(f"wrong winner, {name}, {noise}", count(one, runs).wrong, limit)
            for noise, one in zip(noises, noisy, strict=True)
        ]

    always, tail = list(NOISES), list(NOISES)[:3]
    return [
        *of("8 equal", EQUAL, 0.01, always),
        *of("two tied 3 sd ahead", AHEAD, 0.06, always),
        *of("the same, never ends early", replace(AHEAD, rules=TO_THE_END), 0.065, tail),
        *of("half of them 1 sd better", HALF_BETTER, 0.01, ["normal"]),
        *of("2 equal", EQUAL_PAIR, 0.06, tail),
    ]


def _wrong_claims(runs: int) -> list[Row]:
    equal, to_the_end = count(EQUAL, runs), count(replace(EQUAL, rules=TO_THE_END), runs)
    lost = [1 - count(replace(ONE_BETTER, diverging=share), runs).in_set for share in (0.0, 0.05)]
    return [
        frequency("wrong claim against the constant, 8 equal", equal.wrong_claim, 0.03),
        frequency("the same, never ends early", to_the_end.wrong_claim, 0.05),
        frequency("the best is not in the printed set", lost[0], 0.02),
        frequency("the best is not in the printed set, 5 % diverging", lost[1], 0.06),
        Row("a range of ranks is wrong, 8 equal", float(equal.wrong_ranks.mean()), 0.025),
        Row("the same, never ends early", float(to_the_end.wrong_ranks.mean()), 0.055),
    ]


def _coverage(runs: int) -> list[Row]:
    def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return np.exp(0.7 * rng.standard_normal(shape))

    mean = float(np.exp(0.7**2 / 2))
    kinds: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
        "normal": lambda rng, shape: rng.standard_normal(shape),
        "t3": lambda rng, shape: rng.standard_t(3, shape),
        "difference of lognormals": lambda rng, shape: lognormal(rng, shape) - lognormal(rng, shape),
        "lognormal, one-sided": lambda rng, shape: lognormal(rng, shape) - mean,
    }
    found = []
    for name, draw in kinds.items():
        difference_RS = draw(np.random.default_rng(0), (runs, LOOKS[-1]))
        is_one_sided = name == "lognormal, one-sided"
        covered = float(_is_covered(difference_RS).mean())
        found.append(Row(f"interval covers at all looks, {name}", covered, None if is_one_sided else 0.94, False))
        if name in ("normal", "lognormal, one-sided"):
            for seeds, limit in ((16, 0.5), (64, 0.9)):
                flagged = float(np.mean([is_skewed(row_S[:seeds]) for row_S in difference_RS]))
                found.append(
                    Row(f"flagged as skewed at {seeds}, {name}", flagged, limit if is_one_sided else None, False)
                )
    return found


def _is_covered(difference_RS: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether the intervals of all looks contain 0, for each run."""
    covered_R = np.ones(len(difference_RS), dtype=bool)
    for seeds, level in zip(LOOKS, Rules().levels(), strict=True):
        covered_R &= paired(difference_RS[:, :seeds]).p > level
    return covered_R


def _power_and_cost(runs: int) -> list[Row]:
    diverging = replace(ONE_BETTER, diverging=0.05)
    strict = replace(diverging, rules=Rules(allow_divergence=0.0))
    equal = count(EQUAL, runs).trainings
    return [
        *_power("winner found, one 1 sd better", ONE_BETTER, runs, 0.97, 165, 220),
        *_power("winner found, one 1 sd better, 5 % diverging", diverging, runs, 0.92),
        *_power("winner found, one 1 sd better, 5 % diverging, allowing 0", strict, runs),
        *_power("winner found, one 0.5 sd better", LITTLE_BETTER, runs, 0.53, 295),
        *_power("winner found, ladder of 0.5 sd", LADDER, runs, 0.83, 140),
        Row(
            "leader better than the constant, half 1 sd better",
            float(count(HALF_BETTER, runs).better.mean()),
            0.98,
            False,
        ),
        Row("  mean trainings", float(count(HALF_BETTER, runs).trainings.mean()), 158),
        Row("trainings, 8 equal: median", float(np.median(equal)), 150),
        Row("  mean", float(equal.mean()), 175),
        Row("  90 %", float(np.quantile(equal, 0.9)), 260),
    ]


def _power(name: str, scenario: Scenario, runs: int, found: float | None = None, *costs: float) -> list[Row]:
    counts = count(scenario, runs)
    measured = float(counts.trainings.mean()), float(np.quantile(counts.trainings, 0.9))
    costs_of = zip(("  mean trainings", "  90 % of them"), measured, costs, strict=False)
    return [Row(name, float(counts.found.mean()), found, False), *(Row(*cost) for cost in costs_of)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("drawn", "quadratic", "families"), help="only this part")
    parser.add_argument("--runs", type=int, default=2000, help="runs of each row of the first and the third part")
    parser.add_argument("--sweeps", type=int, default=300, help="sweeps of each row of the second and the third part")
    parser.add_argument("--quick", action="store_true", help="100 of each, against the same limits")
    parser.add_argument("--workers", type=int, default=2, help="processes of the second and the third part")
    asked = parser.parse_args()
    runs, sweeps = (100, 100) if asked.quick else (asked.runs, asked.sweeps)
    parts = {
        "drawn": lambda: rows(runs),
        "quadratic": lambda: quadratic.rows(sweeps, asked.workers),
        "families": lambda: searches.rows(sweeps, runs, asked.workers),
    }
    table = [row for name, part in parts.items() if asked.part in (None, name) for row in part()]
    print(show(table))
    return int(any(row.is_missed for row in table))


if __name__ == "__main__":
    sys.exit(main())
