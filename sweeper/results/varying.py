"""Whether another configuration leads under a change: leader, runner-up and constant on fresh common seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.results.assembling import Contestant, measured, values_of
from sweeper.results.changes import LEVEL, Change
from sweeper.results.choosing import Candidate
from sweeper.results.confirmation import ConfirmationPlan, Order, fresh_seeds, lacking
from sweeper.results.judging import Rules, State, Values, difference, judge
from sweeper.results.verdict import (
    TUNED_FAMILY,
    Objective,
    Reference,
    Seeds,
    ValueRow,
    Varied,
    VariedConfiguration,
    VariedContrast,
    Verdict,
)
from sweeper.types import Number, seed_of

SEEDS = 8  # of each change
COMPARED = 3  # leader, runner-up and constant


def draw_vary_seeds(run_seed: int, members: int, confirm_seed: int, seeds: Seeds) -> tuple[int, ...]:
    """Return the seeds of each change. None of them was used in the search or in the confirmation.

    Args:
        run_seed: `search.seed`.
        members: Members of a trial in the search.
        confirm_seed: `confirm.seed`.
        seeds: Those of the confirmation.
    """
    taken = {*seeds["choose"], *seeds["judge"], *(seed_of(run_seed, "member", member) for member in range(members))}
    return tuple(fresh_seeds(taken, SEEDS, run_seed, "confirm", confirm_seed, "vary"))


def compared(verdict: Verdict, planned: ConfirmationPlan) -> list[Candidate]:
    """Return leader, runner-up and constant of a verdict, each once; [] while there is no leader.

    The runner-up has the next mean among those that may be the best, or else among all that were judged.
    """
    judged = [row for row in verdict["configurations"] if row["n"] and row["status"] != "void"]
    leader = verdict["leader"]
    if leader is None or verdict["ended_by"] == "interrupted":
        return []
    rivals = [row for row in judged if not row["barred"] and (row["family"], row["trial"]) != _place(leader)]
    constant = [row for row in judged if TUNED_FAMILY in (row["family"], *(one["family"] for one in row["same_as"]))]
    chosen = dict.fromkeys([_place(leader), *((row["family"], row["trial"]) for row in (*rivals[:1], *constant))])
    by_place = {(one.record.family, one.record.number): one for one in planned.everyone}
    return [by_place[place] for place in chosen]


def _place(reference: Reference) -> tuple[str, int]:
    return reference["family"], reference["trial"]


@dataclass(frozen=True)
class Comparison:
    """The comparison under one change.

    Attributes:
        change: The change.
        candidates: Whom it compares, the leader of the verdict first.
        values: What the changed key is set to for each.
        seeds: The common seeds.
        objective: Of the sweep.
        allow_divergence: As in the confirmation.
    """

    change: Change
    candidates: Sequence[Candidate]
    values: Sequence[Number]
    seeds: Sequence[int]
    objective: Objective
    allow_divergence: float

    def wanted(self, rows: Sequence[ValueRow]) -> list[Order]:
        """Return the trainings that are not there yet."""
        return lacking(rows, "vary", self.candidates, self.seeds)

    def result(self, rows: Sequence[ValueRow]) -> Varied | None:
        """Return what was found; None while a training is missing."""
        if self.wanted(rows):
            return None
        contestants = [Contestant(one.record.family, one.record.number, {}, 0.0) for one in self.candidates]
        judged = [ValueRow(**{**row, "stage": "judge"}) for row in rows if row["stage"] == "vary"]
        values = values_of(judged, contestants, self.seeds, self.objective["direction"])
        leader = self._leader(values)
        others = [] if leader is None else [k for k in range(len(contestants)) if k != leader]
        return Varied(
            change=self.change.key,
            value=self.change.written,
            seeds=list(self.seeds),
            configurations=[self._configuration(one, values, k) for k, one in enumerate(contestants)],
            contrasts=[self._contrast(contestants, values, leader, k) for k in others if leader is not None],
            leader=None if leader is None else contestants[leader].reference,
        )

    def _leader(self, values: Values) -> int | None:
        """Return the lowest mean of those that do not diverge too often and did not fail."""
        if len(self.candidates) == 1:
            return 0
        rules = Rules(looks=(len(self.seeds),), alpha=LEVEL, allow_divergence=self.allow_divergence)
        return judge(values, rules, None).leader

    @property
    def _sign(self) -> float:
        return 1.0 if self.objective["direction"] == "minimize" else -1.0

    def _configuration(self, one: Contestant, values: Values, k: int) -> VariedConfiguration:
        value_S = self._sign * values.value_KS[k]
        ended_S = value_S[~np.isnan(value_S)]
        return VariedConfiguration(
            **one.reference,
            value=self.values[k],
            n=len(ended_S),
            mean=float(ended_S.mean()) if len(ended_S) else None,
            sd=float(ended_S.std(ddof=1)) if len(ended_S) > 1 else None,
            diverged=int((values.state_KS[k] == State.DIVERGED).sum()),
            values=[None if np.isnan(value) else float(value) for value in value_S],
        )

    def _contrast(self, contestants: Sequence[Contestant], values: Values, a: int, b: int) -> VariedContrast:
        return VariedContrast(
            **measured(difference(values, a, b, len(self.seeds)), LEVEL, self._sign),
            a=contestants[a].reference,
            b=contestants[b].reference,
        )
