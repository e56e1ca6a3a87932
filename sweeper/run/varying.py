"""Repeat the comparison of a confirmation under changes of the configuration (`confirm.vary`), after its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweeper import terminal
from sweeper.results.changes import Change
from sweeper.results.confirmation import ConfirmationPlan, rows_of
from sweeper.results.stored import StoredSweep
from sweeper.results.varying import Comparison, compared
from sweeper.results.verdict import ValueRow, Varied, Verdict
from sweeper.run import sweeping
from sweeper.run.changed import Changeable
from sweeper.run.replicating import Replicating, nothing, point_of, workers_for
from sweeper.run.sweeping import Conclude, Outcome
from sweeper.search.records import replicate_study
from sweeper.spec.sweep import SweepSpec
from sweeper.text.columns import clean
from sweeper.types import AtEnd, Record, Search, Tracker, TrialId

if TYPE_CHECKING:
    from sweeper.search.study import Studies


@dataclass(frozen=True)
class Varying:
    """A confirmation that is repeated under changes.

    Attributes:
        planned: The confirmation.
        changeable: Its configuration.
        settings: What is stored of it.
        seconds: That one training took in the search.
    """

    planned: ConfirmationPlan
    changeable: Changeable
    settings: dict[str, object]
    seconds: float

    def check(self, changes: Sequence[Change]) -> None:
        """Check changes, and say what is rounded. Raises InputError."""
        records = [one.record for one in self.planned.everyone]
        for note in [note for change in changes for note in self.changeable.check(change, records)]:
            terminal.announce(note)

    def results(self, verdict: Verdict, sweep: StoredSweep) -> list[Varied]:
        """Return what was found under each change whose trainings have all ended."""
        comparisons = [self._comparison(change, verdict) for change in self.planned.changes]
        found = [one.result(self._rows(one, sweep)) for one in comparisons if one is not None]
        return [one for one in found if one is not None]

    def train(self, change: Change, verdict: Verdict, sweep: StoredSweep, conclude: Conclude) -> Outcome | None:
        """Train what a change still needs; None if that is nothing.

        Args:
            change: The change.
            verdict: That of the confirmation.
            sweep: The stored sweep.
            conclude: As in `sweeping.sweep`.
        """
        comparison = self._comparison(change, verdict)
        if comparison is None:
            terminal.announce(f"{change.suffix}: there are no two configurations to compare.")
            return None
        orders = comparison.wanted(self._rows(comparison, sweep))
        if not orders:
            return None
        records = [one.record for one in comparison.candidates]
        terminal.announce(f"{_title(comparison)}: {len(orders)} trainings of {_join(records)}.")
        spec = self.changeable.spec(change, records)
        workers = workers_for(len(orders), self.seconds)
        stage = sweeping.Stage(
            name=f"checkpoint-confirm-{self.planned.seed}.{change.suffix}",
            settings=self.settings,
            search=self._search(comparison, spec),
            about=f"{sweeping.REPEATS}Here with {change.suffix}.\n",
        )
        spec = replace(spec, trainer=replace(spec.trainer, workers=workers))
        return sweeping.train(spec, sweep.home, conclude=conclude, stage=stage)

    def _search(self, comparison: Comparison, spec: SweepSpec) -> sweeping.StageSearch:
        pairs = zip((one.record for one in comparison.candidates), spec.studies, strict=True)
        points = {TrialId(record.study, record.number): point_of(record, plan) for record, plan in pairs}

        def search(studies: Studies, tracker: Tracker) -> tuple[Search, AtEnd]:
            return Replicating(studies, comparison.wanted, points, tracker), nothing

        return search

    def _comparison(self, change: Change, verdict: Verdict) -> Comparison | None:
        """Return the comparison under a change; None if there are no two configurations to compare."""
        candidates, planned = compared(verdict, self.planned), self.planned
        if len(candidates) < 2:
            return None
        values = [self.changeable.value(change, one.record) for one in candidates]
        allowed = planned.rules.allow_divergence
        return Comparison(change, candidates, values, planned.vary_seeds, planned.objective, allowed)

    def _rows(self, comparison: Comparison, sweep: StoredSweep) -> list[ValueRow]:
        """Return the trainings under a change that have ended."""
        studies = {one.record.study for one in comparison.candidates}
        names = {f"{replicate_study(study, self.planned.seed)}.{comparison.change.suffix}" for study in studies}
        return rows_of(record for record in sweep.replicates if record.study in names)


def _title(comparison: Comparison) -> str:
    """Return the change, with what it makes of the number if that is one for all: "With train.steps x2 (200)"."""
    change, values = comparison.change, set(comparison.values)
    if not change.is_factor:
        return f"With {change.suffix}"
    becomes = f" ({values.pop():g})" if len(values) == 1 else ""
    return f"With {change.key} {change.written}{becomes}"


def _join(records: Sequence[Record]) -> str:
    return ", ".join(clean(record.family) for record in records)
