"""What a confirmation trains next, and what its verdict follows from: both from the trainings so far alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sweeper.results.assembling import Confirmation, Contestant
from sweeper.results.changes import Change
from sweeper.results.choosing import Candidate, choose
from sweeper.results.judging import Rules
from sweeper.results.tables import RULES
from sweeper.results.verdict import BesideValue, Objective, Seeds, ValueRow
from sweeper.types import Record, Replicate, ReplicateStage, TrialId, seed_of


class Order(NamedTuple):
    """A training that is wanted: of which trial of the search, and as what."""

    trial: TrialId
    replicate: Replicate


@dataclass(frozen=True)
class ConfirmationPlan:
    """A confirmation before its first training.

    Attributes:
        sweep: The sweep's name.
        seed: `confirm.seed`.
        objective: Of the sweep.
        rules: Of the judging stage.
        candidates: Of each family that is confirmed, the best in the search first.
        left_out: The best candidate of each family that is not.
        default_lr: The trial of the optimizer's default LR; None if there is none.
        seeds: The lists, in the order drawn.
        weight: Seeds in a search value.
        searched: Trainings of the search.
        families_added: Families that were added after a first verdict.
        changes: Under which leader, runner-up and constant are compared again, those of earlier commands first.
        vary_seeds: Seeds of each change.
        also: Candidates that are judged whatever their family's choice is.
    """

    sweep: str
    seed: int
    objective: Objective
    rules: Rules
    candidates: Mapping[str, Sequence[Candidate]]
    left_out: Sequence[Candidate]
    default_lr: Candidate | None
    seeds: Seeds
    weight: int
    searched: int
    families_added: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    vary_seeds: tuple[int, ...] = ()
    also: tuple[Candidate, ...] = ()

    @property
    def everyone(self) -> list[Candidate]:
        """Every candidate."""
        return [*(one for of_family in self.candidates.values() for one in of_family), *self.also]

    @property
    def records(self) -> list[Record]:
        """Every trial that may be trained."""
        return [one.record for one in (*self.everyone, *([] if self.default_lr is None else [self.default_lr]))]

    def wanted(self, rows: Sequence[ValueRow]) -> list[Order]:
        """Return the trainings that come next, in the order of their seeds. None if the confirmation has ended."""
        choosing = lacking(rows, "choose", self._undecided(), self.seeds["choose"])
        if choosing:
            return choosing
        chosen = self.chosen(rows)
        wanted = self.confirmation(rows).judge().wanted
        if wanted is None:
            return []
        contestants = [candidate for k, (candidate, _) in enumerate(chosen) if k in wanted.configurations]
        seeds = self.seeds["judge"][: wanted.seeds]
        first = [] if self.default_lr is None else [self.default_lr]
        return [
            *lacking(rows, "judge", contestants, seeds),
            *lacking(rows, "judge", first, seeds[: self.rules.looks[0]]),
        ]

    def chosen(self, rows: Sequence[ValueRow]) -> list[tuple[Candidate, float | None]]:
        """Return each family's configuration with its mean on fresh seeds. One that families share is listed once."""
        found: dict[int, tuple[Candidate, float | None]] = {}
        for candidates in self.candidates.values():
            candidate, mean = choose(candidates, rows, self.objective["direction"], self.weight)
            found.setdefault(id(candidate), (candidate, mean))
        for candidate in self.also:
            found.setdefault(id(candidate), (candidate, None))
        return list(found.values())

    def confirmation(self, rows: Sequence[ValueRow]) -> Confirmation:
        """Return what the verdict follows from."""
        return Confirmation(
            sweep=self.sweep,
            seed=self.seed,
            objective=self.objective,
            rules=self.rules,
            contestants=tuple(_contestant(candidate, mean) for candidate, mean in self.chosen(rows)),
            seeds=self.seeds,
            rows=tuple(rows),
            searched=self.searched,
            left_out=tuple(_contestant(candidate) for candidate in self.left_out),
            default_lr=None if self.default_lr is None else _contestant(self.default_lr),
            families_added=self.families_added,
        )

    def _undecided(self) -> list[Candidate]:
        """Return the candidates of families that have several, each once."""
        of_families = [candidates for candidates in self.candidates.values() if len(candidates) > 1]
        return list({id(one): one for candidates in of_families for one in candidates}.values())


def lacking(
    rows: Iterable[ValueRow], stage: ReplicateStage, candidates: Sequence[Candidate], seeds: Sequence[int]
) -> list[Order]:
    """Return the trainings that are not among the rows, in the order of the seeds."""
    there = {(row["family"], row["trial"], row["seed"]) for row in rows if row["stage"] == stage}
    records = [candidate.record for candidate in candidates]
    return [
        Order(TrialId(record.study, record.number), Replicate(record.number, stage, seed))
        for seed in seeds
        for record in records
        if (record.family, record.number, seed) not in there
    ]


def _contestant(candidate: Candidate, mean: float | None = None) -> Contestant:
    record, *others = candidate.same
    value = math.nan if record.value is None else record.value
    same = tuple((one.family, one.number) for one in others)
    return Contestant(record.family, record.number, record.params, value, mean, same)


def draw_seeds(run_seed: int, members: int, confirm_seed: int, choose: int, judge: int) -> Seeds:
    """Return the fresh seeds of both stages. None of them occurs twice, or was used in the search.

    Args:
        run_seed: `search.seed`.
        members: Members of a trial in the search.
        confirm_seed: `confirm.seed`.
        choose: Seeds of the choice.
        judge: Seeds of the judging stage at most.
    """
    taken = {seed_of(run_seed, "member", member) for member in range(members)}
    chosen_on = fresh_seeds(taken, choose, run_seed, "confirm", confirm_seed, "choose")
    return Seeds(choose=chosen_on, judge=fresh_seeds(taken, judge, run_seed, "confirm", confirm_seed, "judge"))


def fresh_seeds(taken: set[int], count: int, *parts: object) -> list[int]:
    """Return the first seeds of seed_of(*parts, 1), seed_of(*parts, 2), ... that are not taken. Then they are."""
    seeds: list[int] = []
    index = 0
    while len(seeds) < count:
        index += 1
        seed = seed_of(*parts, index)
        if seed not in taken:
            taken.add(seed)
            seeds.append(seed)
    return seeds


def rows_of(replicates: Iterable[Record]) -> list[ValueRow]:
    """Return one row for each fold of each training that ended, ordered by stage, seed, family and fold.

    A failed training that was repeated is left out.
    """
    records = [record for record in replicates if record.replicate is not None and record.state != "running"]
    repeated = {(record.study, record.retry_of) for record in records if record.retry_of is not None}
    rows = [
        ValueRow(
            family=record.family,
            trial=record.replicate.trial,
            stage=record.replicate.stage,
            seed=record.replicate.seed,
            fold=fold,
            value=value,
            state=record.state,
            **_beside_value(record),
        )
        for record in records
        if record.replicate is not None and (record.study, record.number) not in repeated
        for fold, value in enumerate(_fold_values(record))
    ]
    return sorted(rows, key=lambda row: (row["stage"], row["family"], row["trial"], row["seed"], row["fold"]))


def _beside_value(record: Record) -> BesideValue:
    """Return what a row holds beside the value, as far as it is known."""
    beside = BesideValue()
    if record.tested:
        beside["test"] = {name: value if math.isfinite(value) else None for name, value in record.tested.items()}
    by_rule = {rule: record.measures[name] for rule, name in RULES.items() if name in record.measures}
    if by_rule:
        beside["by_rule"] = by_rule
    if record.state == "failed":
        beside["reason"] = record.reason
    return beside


def _fold_values(record: Record) -> Sequence[float | None]:
    """Return the value of each fold; None of all of them if the training has none."""
    if record.state != "complete" or record.value is None:
        return [None] * max(1, len(record.seeds))
    return record.member_values or [record.value]
