"""Which trials of a search are confirmed: each family's best ones, and of those one, chosen on fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.results.verdict import ValueRow
from sweeper.types import Direction, Floats, Record

SAME = 1e-12  # relative difference of two LR traces below which they are one schedule

Traces = Callable[[Record], Sequence[Floats] | None]  # LR and momentum of every update; None if reactive


@dataclass(frozen=True)
class Candidate:
    """A trial that may be confirmed.

    Attributes:
        record: The trial. If several families have the same schedule, that of the first.
        same: Trials of all families with the same schedule and the same other numbers, its own first.
    """

    record: Record
    same: tuple[Record, ...]


def find_candidates(
    records: Iterable[Record], direction: Direction, top: int, traces: Traces
) -> dict[str, list[Candidate]]:
    """Return each family's best complete trials. Trials with the same schedule and numbers are one candidate.

    Args:
        records: All trials.
        direction: Of the objective.
        top: Candidates of a family at most.
        traces: LR and momentum of a trial.

    Returns:
        By family. A candidate that several families share is the same object in each.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    by_family: dict[str, list[Record]] = {}
    for record in records:
        if record.state == "complete" and record.value is not None and not record.truncated and not record.prior_of:
            by_family.setdefault(record.family, []).append(record)
    groups: list[tuple[Sequence[Floats] | None, list[Record]]] = []
    taken: dict[str, list[list[Record]]] = {}
    for family in sorted(by_family):
        taken[family] = []
        for record in sorted(by_family[family], key=lambda record: (sign * (record.value or 0.0), record.number)):
            if len(taken[family]) == top:
                break
            group = _group_of(record, traces(record), groups)
            if group not in taken[family]:  # a point that was drawn twice is one candidate
                taken[family].append(group)
    candidates = {id(group): Candidate(group[0], tuple(group)) for _, group in groups}
    return {family: [candidates[id(group)] for group in chosen] for family, chosen in taken.items()}


def _group_of(
    record: Record, trace: Sequence[Floats] | None, groups: list[tuple[Sequence[Floats] | None, list[Record]]]
) -> list[Record]:
    """Return the trials that are the same as this one, this one added."""
    for other, group in groups:
        if _other_numbers(record) == _other_numbers(group[0]) and _is_same(trace, other, record, group[0]):
            if all(record.family != one.family for one in group):
                group.append(record)
            return group
    groups.append((trace, [record]))
    return groups[-1][1]


def _is_same(a: Sequence[Floats] | None, b: Sequence[Floats] | None, record: Record, other: Record) -> bool:
    if a is None or b is None:  # reactive: only equal numbers of one family make equal schedules
        return a is b and record.family == other.family and record.params == other.params
    pairs = list(zip(a, b, strict=False))
    return len(a) == len(b) and all(len(x) == len(y) and np.allclose(x, y, rtol=SAME, atol=0.0) for x, y in pairs)


def _other_numbers(record: Record) -> dict[str, object]:
    """Return the hyperparameters that are not the schedule's: they have a dot in their names."""
    return {name: value for name, value in record.params.items() if "." in name}


def choose(
    candidates: Sequence[Candidate], rows: Iterable[ValueRow], direction: Direction, weight: int
) -> tuple[Candidate, float | None]:
    """Return the configuration of a family, and its mean on the fresh seeds.

    That is the one with the fewest diverged seeds, then with the best mean over the fresh values and `weight` times the
    search value.

    Args:
        candidates: Of one family, the best in the search first.
        rows: Trainings on the fresh seeds.
        direction: Of the objective.
        weight: Seeds in the search value.
    """
    if len(candidates) == 1:
        return candidates[0], None
    sign = 1.0 if direction == "minimize" else -1.0
    by_trial: dict[tuple[str, int], list[ValueRow]] = {}
    for row in rows:
        if row["stage"] == "choose":
            by_trial.setdefault((row["family"], row["trial"]), []).append(row)

    def fresh(candidate: Candidate) -> tuple[int, float, float]:
        of_trial = by_trial.get((candidate.record.family, candidate.record.number), [])
        bad = {row["seed"] for row in of_trial if row["state"] != "complete"}
        seeds = {row["seed"] for row in of_trial} - bad
        values = [row["value"] or 0.0 for row in of_trial if row["seed"] in seeds]
        mean = math.fsum(values) / len(values) if values else math.nan
        found = candidate.record.value or 0.0
        pooled = (len(seeds) * mean + weight * found) / (len(seeds) + weight) if seeds else math.inf
        return len(bad), sign * pooled if seeds else math.inf, mean

    chosen = min(candidates, key=lambda candidate: fresh(candidate)[:2])
    mean = fresh(chosen)[2]
    return chosen, None if math.isnan(mean) else mean
