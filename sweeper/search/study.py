"""All studies of one sweep in one journal: which trial next, which to stop. Optuna in memory, durable once a round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage

from sweeper.search.family import FamilyStudy
from sweeper.search.journal import MARK, Journal
from sweeper.search.plan import StudyPlan, Terms
from sweeper.search.storage import Storage
from sweeper.types import Ending, Floats, Job, Progress, Report, State, TrialId

__all__ = ["AllTrialsFailedError", "Studies", "StudyPlan"]

ROUNDS = "rounds"  # the study without trials whose attribute ends each round
FAILURES = 3  # that many at the start, and no trial that ended well: the sweep cannot work


class AllTrialsFailedError(RuntimeError):
    """The first trials of a sweep failed, all of them: something is wrong with all there are to come."""


def build_studies(plans: Sequence[StudyPlan], terms: Terms) -> list[FamilyStudy]:
    """Return the studies in the order in which they ask, none of them begun. Writes nothing.

    Raises InputError for a space, sampler, pruner or start point that cannot be used.
    """
    ordered = sorted(plans, key=lambda plan: (plan.family.name, plan.name))
    names = {plan.name for plan in ordered}
    if len(names) < len(ordered) or ROUNDS in names:
        raise ValueError(f"studies need names of their own, none of them {ROUNDS!r}")
    return [FamilyStudy(plan, terms) for plan in ordered]


class Studies:
    """The protocol Search, for one study a family. The only writer of the journal."""

    def __init__(self, journal: Path, plans: Sequence[StudyPlan], terms: Terms) -> None:
        """Begin a sweep's studies, or take them up as of the last committed round.

        journal: the file; it may hold other studies, which stay as they are.
        Raises InputError before anything is written, as `checked` does, and for a study that was begun with another
        space, sampler or pruner.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._studies = {study.plan.name: study for study in build_studies(plans, terms)}
        self._journal = Journal(journal)
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
        """Raises AllTrialsFailedError if it makes no sense to go on; all that happened is committed by then."""
        self._check_failures()
        return next((study.ask() for study in self._studies.values() if study.can_ask), None)

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        """Raises InputError if the objective's metric is not among the reported ones."""
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
        """The jobs of a trial there is, ended or not."""
        return self._studies[trial.study].jobs(trial.trial)

    @property
    def is_pending(self) -> bool:
        """Whether something was noted since the last round: a command that trains nothing may take over trials."""
        return self._journal.is_pending

    @property
    def trials_taken_over(self) -> dict[str, list[TrialId]]:
        """The trials that studies begun by this process took over from earlier ones (`StudyPlan.extends`)."""
        return {study.plan.name: study.trials_taken_over for study in self._studies.values() if study.trials_taken_over}

    def progress(self) -> list[Progress]:
        return [study.progress() for study in self._studies.values()]

    def histories(self) -> dict[str, tuple[tuple[float | None, ...], Floats]]:
        """How each study that has a best trial came to it: the objective of every trial that ended, in the order of
        ending (None unless it is complete), and the LR of the best.
        """  # fmt: skip
        studies = [study for study in self._studies.values() if study.progress().best_trial is not None]
        return {study.plan.name: study.history() for study in studies}

    def _check_failures(self) -> None:
        failures = [failure for study in self._studies.values() for failure in study.failures]
        studies = self._studies.values()
        if not failures or any(study.has_succeeded for study in studies):
            return
        over = not any(study.open or study.can_ask for study in studies)
        if len(failures) >= FAILURES or over:
            raise AllTrialsFailedError(
                f"{len(failures)} trials were started, and all of them failed; the first: {failures[0]}. "
                "Mend that; the same command then goes on."
            )


def _rounds(storage: JournalStorage) -> optuna.Study:
    given: dict[str, Any] = {"sampler": optuna.samplers.RandomSampler(seed=0), "pruner": optuna.pruners.NopPruner()}
    if any(study.study_name == ROUNDS for study in storage.get_all_studies()):
        return optuna.load_study(study_name=ROUNDS, storage=storage, **given)
    return optuna.create_study(study_name=ROUNDS, storage=storage, **given)
