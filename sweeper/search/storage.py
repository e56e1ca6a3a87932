"""Optuna's journal storage with a fast lookup of trials by state, however many there are.

Optuna reads every trial of the study whenever one is asked for, reported or told. A trial that has ended never changes,
so this storage keeps lists of those, and reads only the few others again.
"""

from __future__ import annotations

import copy
from bisect import insort
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

States = frozenset[TrialState]


@dataclass
class _StudyTrials:
    """The trials of one study.

    Attributes:
        trials: All of them, in the order of their numbers.
        changing: Ids of those that have not ended.
        ended: For each set of states that was requested, the trials that ended in one of them.
    """

    trials: list[FrozenTrial] = field(default_factory=list)
    changing: list[int] = field(default_factory=list)
    ended: dict[States, list[FrozenTrial]] = field(default_factory=dict)


class Storage(JournalStorage):
    """A journal storage with a single writer: every new trial and every end of a trial passes through it."""

    def __init__(self, backend: BaseJournalBackend) -> None:
        super().__init__(backend)
        self._studies: dict[int, _StudyTrials] = {}

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        known = self._trials_of(study_id)
        id = super().create_new_trial(study_id, template_trial)
        known.trials.append(self.get_trial(id))
        known.changing.append(id)
        return id

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._select(self._trials_of(study_id), states)
        return copy.deepcopy(trials) if deepcopy else trials

    def _trials_of(self, study_id: int) -> _StudyTrials:
        """Return the trials of a study, up to date."""
        if study_id not in self._studies:
            trials = super().get_all_trials(study_id, deepcopy=False)
            changing = [trial._trial_id for trial in trials if not trial.state.is_finished()]
            self._studies[study_id] = _StudyTrials(trials, changing)
        known = self._studies[study_id]
        for id in list(known.changing):
            trial = self.get_trial(id)
            known.trials[trial.number] = trial
            if trial.state.is_finished():
                known.changing.remove(id)
                for states, ended in known.ended.items():
                    if trial.state in states:
                        insort(ended, trial, key=_number)
        return known

    def _select(self, known: _StudyTrials, states: Container[TrialState] | None) -> list[FrozenTrial]:
        """Return the trials in one of `states`, in the order of their numbers; None for all.

        Waiting trials alone are returned in the order in which they are asked for.
        """
        if states is None:
            return list(known.trials)
        wanted = frozenset(state for state in TrialState if state in states)
        if wanted == {TrialState.WAITING}:
            return sorted(filter(_is_waiting, map(self.get_trial, known.changing)), key=_queue_place)
        ended = frozenset(state for state in wanted if state.is_finished())
        if ended not in known.ended:
            known.ended[ended] = [trial for trial in known.trials if trial.state in ended]
        others: Iterable[FrozenTrial] = (self.get_trial(id) for id in known.changing if wanted != ended)
        selected = list(known.ended[ended])
        for trial in others:
            if trial.state in wanted:
                insort(selected, trial, key=_number)
        return selected


def _number(trial: FrozenTrial) -> int:
    return trial.number


def _is_waiting(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.WAITING


def _queue_place(trial: FrozenTrial) -> tuple[bool, int]:
    """Return what queued trials are sorted by: retries of failed trials come before start points."""
    return "retry_of" not in trial.user_attrs, trial.number
