"""The verdict on families: whole searches are the unit, and a search's best value of a family is what it counts for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.results import family_words
from sweeper.results.assembling import Confirmation, Contestant, verdict_of
from sweeper.results.judging import Rules
from sweeper.results.tables import BASELINES
from sweeper.results.verdict import Objective, Seeds, Trained, ValueRow, Verdict
from sweeper.types import Direction, Record, State

DEFAULT = BASELINES[1]


@dataclass(frozen=True)
class Families:
    """A comparison of families over new searches.

    Attributes:
        sweep: The sweep's name.
        seed: `confirm.seed`.
        objective: Of the sweep.
        rules: With one look, after all searches.
        records: The trials of the stored search.
        trials: Trials of each family in a search.
        searches: The trials of each new search that has ended, by its `search.seed`.
        seeds: `search.seed` of every new search, in the order drawn.
    """

    sweep: str
    seed: int
    objective: Objective
    rules: Rules
    records: Sequence[Record]
    trials: Mapping[str, int]
    searches: Mapping[int, Sequence[Record]]
    seeds: Sequence[int]

    def verdict(self) -> Verdict:
        """Return the verdict, also of searches that were interrupted."""
        found = verdict_of(self._confirmation())
        searched: list[ValueRow] = [{**row, "stage": "search"} for row in found["values"]]
        trained = sum(max(1, len(record.seeds)) for records in self.searches.values() for record in records)
        verdict: Verdict = {
            **found,
            "level": "family",
            "trained": Trained(choose=0, judge=0, total=trained, search=len(self.records)),
            "seeds": Seeds(choose=[], judge=[], search=list(self.seeds)),
            "values": searched,
            "trials": dict(self.trials),
        }
        return {**verdict, "sentence": family_words.sentence(verdict)}

    def _confirmation(self) -> Confirmation:
        """Return the families as contestants, each at a value a search."""
        contestants = {family: self._contestant(family) for family in sorted(self.trials)}
        return Confirmation(
            sweep=self.sweep,
            seed=self.seed,
            objective=self.objective,
            rules=self.rules,
            contestants=tuple(one for family, one in contestants.items() if family != DEFAULT),
            default_lr=contestants.get(DEFAULT),
            seeds=Seeds(choose=[], judge=list(self.seeds)),
            rows=tuple(
                self._row(contestants[family], seed, records)
                for seed, records in self.searches.items()
                for family in contestants
            ),
            searched=len(self.records),
        )

    def _contestant(self, family: str) -> Contestant:
        """Return a family, with its best trial of the stored search."""
        records = [record for record in self.records if record.family == family]
        best = best_of(records, self.objective["direction"]) or records[0]
        value = float("nan") if best.value is None else best.value
        return Contestant(family, best.number, best.params, value)

    def _row(self, one: Contestant, seed: int, records: Sequence[Record]) -> ValueRow:
        """Return what a family reached in a search."""
        of_family = [record for record in records if record.family == one.family]
        best = best_of(of_family, self.objective["direction"])
        has_failed = all(record.state == "failed" for record in of_family)
        state: State = "complete" if best is not None else "failed" if has_failed else "diverged"
        return ValueRow(
            family=one.family,
            trial=one.trial,
            stage="judge",
            seed=seed,
            fold=0,
            value=None if best is None else best.value,
            state=state,
            best_trial=None if best is None else best.number,
        )


def best_of(records: Sequence[Record], direction: Direction) -> Record | None:
    """Return the best of the complete trials; None if there is none."""
    sign = 1.0 if direction == "minimize" else -1.0
    complete = [one for one in records if one.state == "complete" and one.value is not None and not one.truncated]
    return min(complete, key=lambda record: (sign * (record.value or 0.0), record.number), default=None)
