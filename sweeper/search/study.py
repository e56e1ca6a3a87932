"""All studies of one sweep in one journal. Optuna works in memory, and each round is made durable at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from sweeper.search.family import FamilyStudy
from sweeper.search.journal import MARK, Journal, replaying
from sweeper.search.plan import StudyPlan, Terms
from sweeper.search.records import JournalReader
from sweeper.search.replicates import ReplicateStudy
from sweeper.search.space import Scalar
from sweeper.search.storage import Storage
from sweeper.types import Ending, Floats, Job, Progress, Record, Replicate, Report, State, TrialId

__all__ = ["AllTrialsFailedError", "Studies", "StudyPlan"]

ROUNDS = "rounds"  # reserved name: the study without trials whose attribute marks each round
FAILURES = 3  # so many failed trials and no good one: the sweep cannot work


class AllTrialsFailedError(RuntimeError):
    """All first trials of a sweep failed, so the others would fail the same way."""


def build_studies(plans: Sequence[StudyPlan], terms: Terms, journal: Path | None = None) -> list[FamilyStudy]:
    """Return the studies in the order in which they ask, none of them started. Writes nothing.

    Args:
        plans: One for each study.
        terms: What all trials have in common.
        journal: The journal in which they are resumed; None, or no file, for a new one.

    Raises:
        InputError: A space, sampler, pruner or start point cannot be used.
        ValueError: Two studies have the same name, or one has the reserved name.
    """
    ordered = sorted(_as_started(plans, journal), key=lambda plan: (plan.family.name, plan.name))
    names = {plan.name for plan in ordered}
    if len(names) < len(ordered) or ROUNDS in names:
        raise ValueError(f"plans: study names must be unique, and none may be {ROUNDS!r}. Rename a study")
    return [(ReplicateStudy if plan.replicates else FamilyStudy)(plan, terms) for plan in ordered]


class Studies:
    """The protocol Search, with one study for each family. The only writer of the journal."""

    def __init__(self, journal: Path, plans: Sequence[StudyPlan], terms: Terms, committed: int | None = None) -> None:
        """Start the studies of a sweep, or resume them as of the last committed round.

        Args:
            journal: The file. It may hold other studies, which do not change.
            plans: One for each study.
            terms: What all trials have in common.
            committed: The last round that is known to be committed; None for a new sweep.

        Raises:
            InputError: As from `build_studies`, or the journal is damaged, or a study was started with another space,
                sampler or pruner. Nothing is written.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._studies = {study.plan.name: study for study in build_studies(plans, terms, journal)}
        self._journal = Journal(journal, committed=committed)
        with replaying(journal):
            storage = Storage(self._journal)
        self._rounds = _rounds(storage)
        for study in self._studies.values():
            study.attach(storage)

    @property
    def round(self) -> int:
        """The last committed round; 0 before the first."""
        round: int = self._rounds.user_attrs.get(MARK, 0)
        return round

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        return [trial for study in self._studies.values() for trial in study.resume()]

    def ask(self) -> tuple[Job, ...] | None:
        """Return the jobs of the next trial; None if every family has its open trials, or all its trials.

        Raises:
            AllTrialsFailedError: All first trials failed. Everything that happened is committed.
        """
        self._check_failures()
        return next((study.ask() for study in self._studies.values() if study.can_ask), None)

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        """Record reports, all members of a trial together, and return the running trials to prune.

        Raises:
            InputError: The objective's metric is not among the reported ones.
        """
        trials: dict[TrialId, list[Report]] = {}
        for report in reports:
            trials.setdefault(report.id.of, []).append(report)
        in_order = [
            (study, TrialId(name, number))
            for name, study in self._studies.items()
            for number in sorted(trial.trial for trial in trials if trial.study == name)
        ]
        return {trial for study, trial in in_order if study.report(trial.trial, trials[trial])}

    def tell(self, trial: TrialId, state: State, reason: str = "") -> Ending:
        return self._studies[trial.study].tell(trial.trial, state, reason)

    def commit(self, round: int) -> None:
        self._rounds.set_user_attr(MARK, round)
        self._journal.commit()

    def jobs(self, trial: TrialId) -> tuple[Job, ...]:
        """Return the jobs of an existing trial, ended or not."""
        return self._studies[trial.study].jobs(trial.trial)

    @property
    def resumed_as_written(self) -> list[str]:
        """The families that an earlier version started in the space as it is written (`StudyPlan.resumed_as`)."""
        plans = [study.plan for study in self._studies.values()]
        return [plan.family.name for plan in plans if plan.is_as_written]

    @property
    def is_idle(self) -> bool:
        """Whether no trial is open or queued."""
        return not any(study.open or study.waiting for study in self._studies.values())

    def add_replicate(self, study: str, replicate: Replicate, stored: Mapping[str, Scalar]) -> None:
        """Queue a training of a confirmation (`ReplicateStudy.add`)."""
        self._replicate_study(study).add(replicate, stored)

    def note_tested(self, trial: TrialId, metrics: Mapping[str, float]) -> None:
        """Store the metrics of the test part of a training of a confirmation."""
        self._replicate_study(trial.study).note_tested(trial.trial, metrics)

    def replicate(self, trial: TrialId) -> Replicate:
        """Return what a training of a confirmation repeats."""
        return self._replicate_study(trial.study).replicate(trial.trial)

    def replicates(self) -> list[Record]:
        """Return the trainings of confirmations that were started."""
        studies = [self._replicate_study(name) for name in self._studies]
        return [record for study in studies for record in study.records()]

    def _replicate_study(self, name: str) -> ReplicateStudy:
        study = self._studies[name]
        assert isinstance(study, ReplicateStudy)
        return study

    @property
    def is_pending(self) -> bool:
        """Whether something is not committed. A command that trains nothing may still take over trials."""
        return self._journal.is_pending

    @property
    def trials_taken_over(self) -> dict[str, list[TrialId]]:
        """The earlier trials that studies started by this process took over (`StudyPlan.extends`), by study."""
        return {study.plan.name: study.trials_taken_over for study in self._studies.values() if study.trials_taken_over}

    def progress(self) -> list[Progress]:
        return [study.progress() for study in self._studies.values()]

    def histories(self) -> dict[str, tuple[tuple[float | None, ...], Floats]]:
        """Return the history of each study that has a best trial.

        Returns:
            By study: the objective of every ended trial, in the order of ending (None unless complete), and the LR of
            the best trial, float64 [S], empty if its family is reactive.
        """
        studies = [study for study in self._studies.values() if study.progress().best_trial is not None]
        return {study.plan.name: study.history() for study in studies}

    def _check_failures(self) -> None:
        failures = [failure for study in self._studies.values() for failure in study.failures]
        studies = self._studies.values()
        if not failures or any(study.has_succeeded for study in studies):
            return
        is_over = not any(study.open or study.can_ask for study in studies)
        if len(failures) >= FAILURES or is_over:
            raise AllTrialsFailedError(
                f"All {len(failures)} trials that were started failed. The first was {failures[0]}. "
                "Fix the cause, then resume with the same command."
            )


def _as_started(plans: Sequence[StudyPlan], journal: Path | None) -> list[StudyPlan]:
    """Return the plans, those of stored studies with the space with which these were started."""
    if journal is None or not journal.exists() or not any(plan.searches_otherwise for plan in plans):
        return list(plans)
    stored = JournalReader(journal).plans()
    return [plan.resumed_as(stored[plan.name]) if plan.name in stored else plan for plan in plans]


def _rounds(storage: Storage) -> optuna.Study:
    """Return the study without trials whose attribute marks the end of each round."""
    options: dict[str, Any] = {"sampler": optuna.samplers.RandomSampler(seed=0), "pruner": optuna.pruners.NopPruner()}
    if any(study.study_name == ROUNDS for study in storage.get_all_studies()):
        return optuna.load_study(study_name=ROUNDS, storage=storage, **options)
    return optuna.create_study(study_name=ROUNDS, storage=storage, **options)
