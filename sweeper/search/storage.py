"""Optuna's journal storage, in which retries of failed trials are asked for before start points."""

from __future__ import annotations

from collections.abc import Container

from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState


class Storage(JournalStorage):
    """A journal storage whose queue has an order of its own. Optuna asks for the first waiting trial it returns."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return trials in the order of their numbers; if only waiting ones are wanted, retries come first."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        return sorted(trials, key=_queue_place) if states == (TrialState.WAITING,) else trials


def _queue_place(trial: FrozenTrial) -> tuple[bool, int]:
    return "retry_of" not in trial.user_attrs, trial.number
