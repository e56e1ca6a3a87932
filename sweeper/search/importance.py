"""The importance of searched hyperparameters: what separates the better half of a study's trials from all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from sweeper.types import Direction

LEAST = 10  # complete trials; among fewer, chance dominates
BETTER = 0.5  # the fraction of the trials that is compared with all of them


def importances(trials: Sequence[FrozenTrial], direction: Direction) -> Mapping[str, float]:
    """Return the importance of each searched hyperparameter, as shares that sum to 1, the largest first.

    It measures how far the distribution of a hyperparameter among the better trials is from that among all trials, for
    one hyperparameter at a time and within the range that was searched. It says nothing about values outside that
    range.

    Args:
        trials: The complete trials of one study.
        direction: Whether smaller or larger objectives are better.

    Returns:
        {} for fewer than LEAST trials, or if no trial is worse than the better half.

    Source:
        PED-ANOVA, arXiv 2304.10255.
    """
    searched = sorted({name for trial in trials for name in trial.params})
    if len(trials) < LEAST or not searched or not _has_better_half(trials, direction):
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator  # imports scikit-learn, which takes a second

    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    study.add_trials(trials)
    shares = PedAnovaImportanceEvaluator(target_quantile=BETTER).evaluate(study, params=searched)
    total = sum(shares.values()) or 1.0
    return {name: shares[name] / total for name in sorted(shares, key=lambda name: (-shares[name], name))}


def _has_better_half(trials: Sequence[FrozenTrial], direction: Direction) -> bool:
    """Return whether some trials are worse than the last one of the better half."""
    values = sorted((trial.value or 0.0 for trial in trials), reverse=direction == "maximize")
    return values[math.ceil(BETTER * len(values)) - 1] != values[-1]
