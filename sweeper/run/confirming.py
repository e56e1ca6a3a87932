"""Confirm a search on fresh seeds: let the loop train what the plan wants, and reach a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sweeper.importing import Target
from sweeper.results import words
from sweeper.results.choosing import Candidate
from sweeper.results.confirmation import ConfirmationPlan, Order, rows_of
from sweeper.results.stored import StoredSweep
from sweeper.results.verdict import ValueRow, Verdict, verdict_of
from sweeper.run import confirm_plan, sweeping
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.run.restoring import restore_spec
from sweeper.run.sweeping import Conclude, Outcome
from sweeper.search.records import JournalReader, replicate_study
from sweeper.search.space import Scalar, point
from sweeper.spec.question import Home
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.types import (
    AtEnd,
    ConfiguredTracker,
    Ending,
    Job,
    Progress,
    Report,
    Search,
    State,
    Task,
    Tracker,
    Trainer,
    TrialId,
)

if TYPE_CHECKING:
    from sweeper.search.study import Studies

SHORT = 8.0  # seconds of all trainings in one process below which more processes save no time
RANDOM = Target("optuna.samplers.RandomSampler")

Points = Mapping[TrialId, Mapping[str, Scalar]]


def confirm(
    sweep: StoredSweep,
    subject: Subject,
    tracker: ConfiguredTracker | None,
    asked: ConfirmSpec,
    conclude: Conclude | None = None,
) -> Outcome:
    """Train what a confirmation still needs, and write its verdict to the sweep's folder.

    Called again, it goes on with what is left, and with nothing left it writes the same verdict.

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
    workers = 1 if cost.typical * cost.seconds < SHORT else "auto"
    spec = spec_of(sweep, planned, subject)
    spec = replace(spec, tracker=tracker, trainer=replace(spec.trainer, workers=workers))
    points = _points(spec, planned)

    def stage_search(studies: Studies, tracker: Tracker) -> tuple[Search, AtEnd]:
        confirming = Confirming(studies, planned, points, tracker)
        return confirming, confirming.test if _has_test(spec.task) else _nothing

    def conclude_all(home: Home, tracker: Tracker) -> None:
        _write(home, verdict(StoredSweep(home), planned))
        if conclude is not None:
            conclude(home, tracker)

    stage = sweeping.Stage(
        name=f"checkpoint-confirm-{asked.seed}",
        settings={str(asked.seed): confirm_plan.stored(planned, asked)},
        search=stage_search,
    )
    outcome = sweeping.train(spec, sweep.home, conclude=conclude_all, stage=stage)
    _write(sweep.home, verdict(sweep.refresh(), planned))
    return outcome


def verdict(sweep: StoredSweep, planned: ConfirmationPlan) -> Verdict:
    """Return the verdict as of the trainings so far."""
    names = {replicate_study(study, planned.seed) for study in sweep.config["studies"]}
    replicates = [record for record in sweep.replicates if record.study in names]
    found = verdict_of(planned.confirmation(rows_of(replicates)))
    return {**found, "sentence": words.sentence(found)}


def _write(home: Home, verdict: Verdict) -> None:
    """Write the verdict completely or not at all, unless it is there."""
    path = home.verdict(verdict["confirm_seed"])
    text = json.dumps(verdict, indent=2, allow_nan=False) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


# --- training -----------------------------------------------------------------------------------------


def spec_of(sweep: StoredSweep, planned: ConfirmationPlan, subject: Subject) -> SweepSpec:
    """Return the configuration of the sweep, with a study of replicates for each study that has candidates.

    Raises:
        InputError: If data, model or code are no longer those of the sweep.
    """
    candidates = _trained(planned)
    studies = sorted({candidate.record.study for candidate in candidates})
    norms = "grad_norm" in sweep.trace(candidates[0].record.study, candidates[0].record.number)
    specs = [restore_spec(sweep, study, subject, norms=norms) for study in studies]
    first, plans = specs[0], JournalReader(sweep.home.journal).plans()
    replicates = [
        replace(
            spec.studies[0].resumed_as(plans[study]),
            name=replicate_study(study, planned.seed),
            sampler=RANDOM,
            pruner=None,
            start=(),
            stop=None,
            extends=False,
            replicates=True,
        )
        for study, spec in zip(studies, specs, strict=True)
    ]
    search = replace(first.search, seeds=1, timeout=None, early_stopping=None)
    return replace(first, studies=tuple(replicates), search=search)


def _trained(planned: ConfirmationPlan) -> list[Candidate]:
    """Return every configuration that may be trained."""
    candidates = [one for of_family in planned.candidates.values() for one in of_family]
    return candidates if planned.default_lr is None else [*candidates, planned.default_lr]


def _points(spec: SweepSpec, planned: ConfirmationPlan) -> Points:
    """Return the searched hyperparameters of each candidate, as Optuna stores them."""
    axes = {plan.name: plan.axes for plan in spec.studies}
    found = {}
    for record in (candidate.record for candidate in _trained(planned)):
        of_study = axes[replicate_study(record.study, planned.seed)]
        params = {name: record.params[name] for name in of_study.searched}
        found[TrialId(record.study, record.number)] = point(of_study, params, f"{record.family}:{record.number}")
    return found


def _has_test(task: Task) -> bool:
    """Return whether the data have a test part. A task of the user's own may know none."""
    try:
        return task.size("test", 0) > 0
    except Exception:  # of the task's own code
        return False


def _nothing(ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None: ...


class Confirming:
    """The protocol Search: queues what a confirmation wants, as soon as everything before has ended."""

    def __init__(self, studies: Studies, planned: ConfirmationPlan, points: Points, tracker: Tracker) -> None:
        """Wrap the studies of replicates.

        Args:
            studies: The studies.
            planned: What is confirmed.
            points: The searched hyperparameters of each candidate.
            tracker: Gets tags that say what each training repeats.
        """
        self._studies, self._planned, self._points, self._tracker = studies, planned, points, tracker

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
        of_trial, stage, seed = self._studies.replicate(trial)
        self._tracker.tag(
            trial, {"replicate.trial": str(of_trial), "replicate.stage": stage, "replicate.seed": str(seed)}
        )
        return self._studies.tell(trial, state, reason)

    def commit(self, round: int) -> None:
        self._studies.commit(round)

    def progress(self) -> list[Progress]:
        return self._studies.progress()

    def test(self, ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None:
        """Evaluate the test part of a training that was judged: the only place before `final` that reads it."""
        if self._studies.replicate(ending.trial).stage != "judge":
            return
        found = [trainer.evaluate(job.id, "test") for job in jobs]
        means = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        self._studies.note_tested(ending.trial, means)
        self._tracker.tag(ending.trial, {name: f"{value:.6g}" for name, value in means.items()})

    def _add(self, order: Order) -> None:
        study = replicate_study(order.trial.study, self._planned.seed)
        self._studies.add_replicate(study, order.replicate, self._points[order.trial])
