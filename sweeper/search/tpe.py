"""Optuna's TPE, with an ask that stays fast: ten thousand trials cost hardly more than two thousand.

TPE compares the density of the best trials (25 at most) with that of all others. A sample of 2,000 others, evenly
spread over the study, gives practically the same density: each trial contributes a bump that is at least a hundredth of
the range wide.
"""

from __future__ import annotations

import heapq
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

BEST = 25  # as many as optuna.samplers._tpe.sampler.default_gamma takes at most
OTHERS = 2000


class TPE(TPESampler):
    """TPESampler that reads the best trials and at most OTHERS of the rest."""

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        subset: Any = _Subset(study)
        return super()._sample(subset, trial, search_space)


class _Subset:
    """A study that shows only some of its trials."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def _get_trials(self, *args: Any, **options: Any) -> list[FrozenTrial]:
        return select_trials(self._study._get_trials(*args, **options), self._study.direction)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def select_trials(trials: list[FrozenTrial], direction: StudyDirection, others: int = OTHERS) -> list[FrozenTrial]:
    """Return the trials that TPE reads, in the order of their numbers.

    They are the BEST complete trials, all running ones, and `others` of all that ended, evenly spread and with the last
    one. With fewer than BEST complete trials, or few others, all trials are returned.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    ended = [trial for trial in trials if trial.state is not TrialState.RUNNING]
    if len(complete) < BEST or len(ended) <= BEST + others:
        return trials
    first = heapq.nsmallest if direction is StudyDirection.MINIMIZE else heapq.nlargest
    selected = [ended[-1 - len(ended) * k // others] for k in range(others)]
    selected += first(BEST, complete, key=_value)
    selected += [trial for trial in trials if trial.state is TrialState.RUNNING]
    by_number = {trial.number: trial for trial in selected}
    return [by_number[number] for number in sorted(by_number)]


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
