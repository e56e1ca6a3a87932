"""Which searched numbers matter: what separates the better half of a study's complete trials from all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from sweeper.types import Direction

LEAST = 10  # complete trials: of fewer, chance says more than the numbers do
BETTER = 0.5  # the share of the trials that is compared with all of them


def importances(trials: Sequence[FrozenTrial], direction: Direction) -> Mapping[str, float]:
    """The share of each searched number, the largest first, 1 in all; {} of fewer than LEAST trials, or of equal ones.

    trials: the complete ones of one study. PED-ANOVA (arXiv 2304.10255): how far the distribution of a number among
    the better trials is from that among all. It looks at one number at a time, as far as the search went; that a
    number matters little here does not say that it would far outside its range.
    """
    searched = sorted({name for trial in trials for name in trial.params})
    if len(trials) < LEAST or not searched or not _has_better_half(trials, direction):
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator  # brings scikit-learn, which takes a second

    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    study.add_trials(trials)
    found = PedAnovaImportanceEvaluator(target_quantile=BETTER).evaluate(study, params=searched)
    total = sum(found.values()) or 1.0
    return {name: found[name] / total for name in sorted(found, key=lambda name: (-found[name], name))}


def _has_better_half(trials: Sequence[FrozenTrial], direction: Direction) -> bool:
    """Whether some trials are worse than the last of the better half."""
    values = sorted((trial.value or 0.0 for trial in trials), reverse=direction == "maximize")
    return values[math.ceil(BETTER * len(values)) - 1] != values[-1]
