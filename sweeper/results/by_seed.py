"""The values of a verdict by seed, to pair configurations of one or of several confirmations."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.results.verdict import Reference, ValueRow, Verdict


def objective_of(row: ValueRow) -> float | None:
    """Return the objective of a training; None if it did not end."""
    return row["value"]


def by_seed(
    verdict: Verdict, configuration: Reference, value_of: Callable[[ValueRow], float | None] = objective_of
) -> dict[int, float]:
    """Return a configuration's value at each seed of the judging stage at which all its folds ended, their mean.

    Args:
        verdict: The verdict.
        configuration: A row of `configurations`, or a reference to it.
        value_of: Returns what counts of a training.
    """
    found: dict[int, list[float | None]] = {}
    for row in verdict["values"]:
        is_its = (row["family"], row["trial"]) == (configuration["family"], configuration["trial"])
        if is_its and row["stage"] == "judge":
            found.setdefault(row["seed"], []).append(value_of(row))
    return {
        seed: sum(value for value in of_folds if value is not None) / verdict["folds"]
        for seed, of_folds in found.items()
        if len(of_folds) == verdict["folds"] and None not in of_folds
    }


def better_at(verdict: Verdict, a: Reference, b: Reference, look: int) -> tuple[int, int]:
    """Return at how many of the first `look` seeds a is better than b, and at how many both ended."""
    of_a, of_b = by_seed(verdict, a), by_seed(verdict, b)
    sign = 1.0 if verdict["objective"]["direction"] == "minimize" else -1.0
    common = [seed for seed in verdict["seeds"]["judge"][:look] if seed in of_a and seed in of_b]
    return sum(sign * of_a[seed] < sign * of_b[seed] for seed in common), len(common)
