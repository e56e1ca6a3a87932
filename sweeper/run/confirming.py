"""Confirm a search on fresh seeds: let the loop train what the plan wants, and reach a verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sweeper.results import fairness, words
from sweeper.results.assembling import verdict_of
from sweeper.results.confirmation import ConfirmationPlan, rows_of
from sweeper.results.stored import StoredSweep
from sweeper.results.verdict import Verdict
from sweeper.run import confirm_plan, sweeping
from sweeper.run.changed import Changeable
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.run.replicating import Point, Replicating, has_test, nothing, plan_of, point_of, workers_for
from sweeper.run.restoring import restore_spec
from sweeper.run.sweeping import Conclude, Outcome
from sweeper.run.varying import Varying
from sweeper.run.writing import write_json
from sweeper.search.records import JournalReader, replicate_study
from sweeper.spec.question import Home
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.types import AtEnd, ConfiguredTracker, Search, Tracker, TrialId

if TYPE_CHECKING:
    from sweeper.search.study import Studies


def confirm(
    sweep: StoredSweep,
    subject: Subject,
    tracker: ConfiguredTracker | None,
    asked: ConfirmSpec,
    conclude: Conclude | None = None,
) -> Outcome:
    """Train what a confirmation still needs, and write its verdict to the sweep's folder.

    A second call trains what is left. With nothing left, it writes the same verdict.

    Args:
        sweep: The stored sweep.
        subject: Data, model and task of the sweep.
        tracker: Where the sweep is tracked; None for nowhere.
        asked: The options.
        conclude: As in `sweeping.sweep`; called after the verdict was written.

    Raises:
        InputError: If there is nothing to confirm, a confirmation of that number was begun otherwise, or data, model or
            code are no longer those of the sweep. Raised before anything is written.
    """
    planned = confirm_plan.plan(sweep, asked)
    cost = confirm_plan.cost(sweep, planned, asked)
    spec = spec_of(sweep, planned, subject)
    workers = workers_for(cost.typical, cost.seconds)
    spec = replace(spec, tracker=tracker, trainer=replace(spec.trainer, workers=workers))
    settings: dict[str, object] = {str(asked.seed): confirm_plan.stored(planned, asked)}
    varying = Varying(planned, Changeable(sweep, spec, subject), settings, cost.seconds)
    varying.check(asked.vary)
    points = _points(spec, planned)

    def stage_search(studies: Studies, tracker: Tracker) -> tuple[Search, AtEnd]:
        replicating = Replicating(studies, planned.wanted, points, tracker)
        return replicating, replicating.test if has_test(spec.task) else nothing

    def conclude_all(home: Home, tracker: Tracker) -> None:
        write_json(home.verdict(asked.seed), _verdict(StoredSweep(home), planned, varying))
        if conclude is not None:
            conclude(home, tracker)

    stage = sweeping.Stage(name=f"checkpoint-confirm-{asked.seed}", settings=settings, search=stage_search)
    outcome = sweeping.train(spec, sweep.home, conclude=conclude_all, stage=stage)
    found = _verdict(sweep.refresh(), planned, varying)
    for change in asked.vary if outcome.stopped is None else ():
        outcome = varying.train(change, found, sweep, conclude_all) or outcome
        sweep.refresh()
        if outcome.stopped is not None:
            break
    write_json(sweep.home.verdict(asked.seed), _verdict(sweep, planned, varying))
    return outcome


def _verdict(sweep: StoredSweep, planned: ConfirmationPlan, varying: Varying) -> Verdict:
    """Return the verdict as of the trainings so far, with what was found under changes."""
    found = verdict(sweep, planned)
    varied = varying.results(found, sweep)
    if varied:
        found["varied"] = varied
    return found


def verdict(sweep: StoredSweep, planned: ConfirmationPlan) -> Verdict:
    """Return the verdict as of the trainings so far, without what was found under changes."""
    names = {replicate_study(study, planned.seed) for study in sweep.config["studies"]}
    replicates = [record for record in sweep.replicates if record.study in names]
    confirmation = planned.confirmation(rows_of(replicates))
    found = verdict_of(confirmation, fairness.notes(confirmation, fairness.search_of(sweep)))
    return {**found, "sentence": words.sentence(found)}


# --- training -----------------------------------------------------------------------------------------


def spec_of(sweep: StoredSweep, planned: ConfirmationPlan, subject: Subject) -> SweepSpec:
    """Return the configuration of the sweep, with a study of replicates for each study that has candidates.

    Raises:
        InputError: If data, model or code are no longer those of the sweep.
    """
    first = planned.records[0]
    studies = sorted({record.study for record in planned.records})
    norms = "grad_norm" in sweep.trace(first.study, first.number)
    specs = [restore_spec(sweep, study, subject, norms=norms) for study in studies]
    stored = JournalReader(sweep.home.journal).plans()
    replicates = [
        plan_of(spec.studies[0].resumed_as(stored[study]), replicate_study(study, planned.seed))
        for study, spec in zip(studies, specs, strict=True)
    ]
    search = replace(specs[0].search, seeds=1, timeout=None, early_stopping=None)
    return replace(specs[0], studies=tuple(replicates), search=search)


def _points(spec: SweepSpec, planned: ConfirmationPlan) -> dict[TrialId, Point]:
    """Return each trial that may be trained, as the studies of replicates repeat it."""
    plans = {plan.name: plan for plan in spec.studies}
    return {
        TrialId(record.study, record.number): point_of(record, plans[replicate_study(record.study, planned.seed)])
        for record in planned.records
    }
