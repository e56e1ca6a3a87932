"""Confirm a search on fresh seeds: plan the trainings, let the loop train them, and reach a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweeper.importing import Target
from sweeper.results.choosing import Candidate, find_candidates
from sweeper.results.confirmation import ConfirmationPlan, Order, draw_seeds, rows_of
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import BASELINES
from sweeper.results.verdict import Objective, ValueRow
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.run.restoring import restore_spec
from sweeper.schedules import lr_trace, momentum_trace
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.types import Ending, Floats, InputError, Job, Record, Report, State, Trainer, TrialId

if TYPE_CHECKING:
    from sweeper.search.study import Studies

TUNED, DEFAULT = BASELINES
RANDOM = Target("optuna.samplers.RandomSampler")
FEW = 10  # complete trials below which a family counts as hardly searched


# --- before anything is trained -----------------------------------------------------------------------


def plan(sweep: StoredSweep, asked: ConfirmSpec) -> ConfirmationPlan:
    """Return what is confirmed, and on which seeds.

    Raises:
        InputError: If there is nothing to confirm.
    """
    objective, question = sweep.objective, sweep.config["question"]
    direction = objective["direction"]
    found = find_candidates(sweep.records, direction, asked.top, lambda record: _traces(sweep, record))
    default = found.pop(DEFAULT, [None])[0]
    if not found:
        raise InputError(
            "sweep", sweep.name, "no trial is complete, so there is nothing to confirm", "Resume the sweep"
        )
    kept = _families(found, asked, direction)
    trials = len([record for record in sweep.records if not record.prior_of])
    seeds = question["search"].get("seeds", 1)
    chosen_on = asked.choose * sum(len(found[family]) for family in kept if len(found[family]) > 1)
    most = None if asked.budget is None else math.floor(asked.budget * trials) - chosen_on
    return ConfirmationPlan(
        sweep=sweep.name,
        seed=asked.seed,
        objective=Objective(metric=objective["metric"], direction=direction, at=objective["at"]),
        rules=asked.rules(most),
        candidates={family: found[family] for family in kept},
        left_out=[found[family][0] for family in found if family not in kept],
        default_lr=default,
        seeds=draw_seeds(
            question["search"]["seed"],
            seeds * question.get("folds", 1),
            asked.seed,
            asked.choose,
            asked.all_looks[-1],
        ),
        weight=seeds,
        searched=trials,
    )


def _families(found: Mapping[str, Sequence[Candidate]], asked: ConfirmSpec, direction: str) -> list[str]:
    """Return the families that are confirmed: the constant, and the others with the best search values."""
    sign = 1.0 if direction == "minimize" else -1.0
    others = sorted(
        (name for name in found if name != TUNED), key=lambda name: sign * (found[name][0].record.value or 0)
    )
    kept = others[: None if math.isinf(asked.family_count) else int(asked.family_count)]
    return sorted([*kept, *([TUNED] if TUNED in found else [])])


def _traces(sweep: StoredSweep, record: Record) -> Sequence[Floats] | None:
    """Return LR and momentum of every update; None for a reactive schedule."""
    family = sweep.family_of(record)
    if family.controller is not None:
        return None
    steps, epoch = sweep.horizon
    params = sweep.params(record.study, record.number)
    momentum_S = momentum_trace(family, params, steps, epoch=epoch)
    return [lr_trace(family, params, steps, epoch=epoch), *([] if momentum_S is None else [momentum_S])]


@dataclass(frozen=True)
class Cost:
    """Trainings of a confirmation, and the sweep's seconds for one.

    Attributes:
        least: If everything is clear at the first look.
        most: If it goes to the last look with everyone.
        seconds: Of one training.
    """

    least: int
    most: int
    seconds: float


def cost(sweep: StoredSweep, planned: ConfirmationPlan) -> Cost:
    """Return what a confirmation costs."""
    choosing = planned.seeds["choose"]
    chosen_on = len(choosing) * sum(len(one) for one in planned.candidates.values() if len(one) > 1)
    default = 0 if planned.default_lr is None else planned.rules.looks[0]
    contestants, most = len(planned.candidates), planned.rules.most_trainings
    to_the_end = contestants * planned.rules.looks[-1]
    complete = [record for record in sweep.records if record.state == "complete" and record.seconds]
    seconds = sum(record.seconds for record in complete) / max(1, len(complete)) / planned.weight
    return Cost(
        chosen_on + default + contestants * planned.rules.looks[0],
        chosen_on + default + (to_the_end if most is None else min(to_the_end, most)),
        seconds,
    )


# --- training -----------------------------------------------------------------------------------------


def study_name(study: str, seed: int) -> str:
    """Return the name of the study that repeats trials of a study."""
    return f"{study}.confirm-{seed}"


def spec_of(sweep: StoredSweep, planned: ConfirmationPlan, subject: Subject) -> SweepSpec:
    """Return the configuration of the sweep, with a study of replicates for each study that has candidates.

    Raises:
        InputError: If data, model or code are no longer those of the sweep.
    """
    candidates = [one for of_family in planned.candidates.values() for one in of_family]
    default = [] if planned.default_lr is None else [planned.default_lr]
    studies = sorted({candidate.record.study for candidate in [*candidates, *default]})
    norms = any("grad_norm" in sweep.trace(one.record.study, one.record.number) for one in candidates[:1])
    specs = [restore_spec(sweep, study, subject, norms=norms) for study in studies]
    first = specs[0]
    replicates = [
        replace(
            spec.studies[0],
            name=study_name(spec.studies[0].name, planned.seed),
            sampler=RANDOM,
            pruner=None,
            start=(),
            stop=None,
            extends=False,
            replicates=True,
        )
        for spec in specs
    ]
    search = replace(first.search, seeds=1, timeout=None, early_stopping=None)
    return replace(first, studies=tuple(replicates), search=search)


class Confirming:
    """The protocol Search: queues what a confirmation wants, as soon as everything before has ended."""

    def __init__(
        self, studies: Studies, planned: ConfirmationPlan, stored: Mapping[TrialId, Mapping[str, object]]
    ) -> None:
        """Wrap the studies of replicates.

        Args:
            studies: The studies.
            planned: What is confirmed.
            stored: The searched hyperparameters of each candidate, as Optuna stores them.
        """
        self._studies, self._planned, self._stored = studies, planned, stored

    @property
    def round(self) -> int:
        return self._studies.round

    @property
    def rows(self) -> list[ValueRow]:
        """The trainings that ended so far."""
        return rows_of(self._studies.replicates())

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        return self._studies.resume()

    def ask(self) -> tuple[Job, ...] | None:
        jobs = self._studies.ask()
        if jobs is None and self._studies.is_idle:
            for order in self._planned.wanted(self.rows):
                self._add(order)
            jobs = self._studies.ask()
        return jobs

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        return self._studies.report(reports)

    def tell(self, trial: TrialId, state: State, reason: str = "") -> Ending:
        return self._studies.tell(trial, state, reason)

    def commit(self, round: int) -> None:
        self._studies.commit(round)

    def at_end(self, ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None:
        """Evaluate the test part of a training that was judged: the only place before `final` that reads it."""
        if self._studies.replicate(ending.trial).stage != "judge":
            return
        found = [trainer.evaluate(job.id, "test") for job in jobs]
        self._studies.note_tested(
            ending.trial, {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        )

    def _add(self, order: Order) -> None:
        study = study_name(order.trial.study, self._planned.seed)
        self._studies.add_replicate(study, order.replicate, self._stored[order.trial])
