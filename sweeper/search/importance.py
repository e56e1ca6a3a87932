"""The importance of searched hyperparameters: what separates the better half of a study's trials from all of them.

Optuna's evaluator of the same method gives the same shares (a test compares them). Its package imports scikit-learn for
another method, and that takes more time than the whole table of a sweep with thousands of trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from sweeper.types import Direction, Floats

LEAST = 10  # complete trials; among fewer, chance dominates
BETTER = 0.5  # the fraction of the trials that is compared with all of them
CELLS = 50  # of the grid on which two densities of a hyperparameter are compared
NARROWEST = 0.5 / 1.64  # cells; a kernel has 90% of its weight in its own cell
NOTHING = 1e-12  # added to a density, because densities are divided

Counts = np.ndarray[Any, np.dtype[np.int64]]


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
        PED-ANOVA, arXiv 2304.10255, algorithm 1, with gamma' = BETTER and gamma = 1.
    """
    ranges = {name: trial.distributions[name] for trial in trials for name in sorted(trial.params)}
    better = _better_half(trials, direction)
    if len(trials) < LEAST or not ranges or len(better) == len(trials):
        return {}
    distances = {name: _divergence(name, ranges[name], better, trials) for name in sorted(ranges)}
    total = sum(distances.values()) or 1.0
    return {name: distances[name] / total for name in sorted(distances, key=lambda name: (-distances[name], name))}


def _better_half(trials: Sequence[FrozenTrial], direction: Direction) -> list[FrozenTrial]:
    """Return the better half of the trials, with all that are as good as its last one."""
    sign = 1 if direction == "minimize" else -1
    values = sorted(sign * (trial.value or 0.0) for trial in trials)
    worst = values[math.ceil(BETTER * len(values)) - 1] if values else 0.0
    return [trial for trial in trials if sign * (trial.value or 0.0) <= worst]


def _divergence(
    name: str, range: BaseDistribution, better: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]
) -> float:
    """Return the Pearson divergence of a hyperparameter's density in the better trials from that in all trials."""
    if range.single():
        return 0.0
    of_better_K, of_all_K = (_density(name, range, group) + NOTHING for group in (better, trials))
    return float(of_all_K @ (of_better_K / of_all_K - 1) ** 2)


def _density(name: str, range: BaseDistribution, trials: Sequence[FrozenTrial]) -> Floats:
    """Return the probability of each cell of a hyperparameter's range, or of each choice, [K]."""
    values = [trial.params[name] for trial in trials if name in trial.params]
    if isinstance(range, CategoricalDistribution):
        count_K = np.bincount([int(range.to_internal_repr(value)) for value in values], minlength=len(range.choices))
        return _smooth_choices(count_K)
    assert isinstance(range, FloatDistribution | IntDistribution)
    low, high, values_T = float(range.low), float(range.high), np.array(values, dtype=np.float64)
    if range.log:
        low, high, values_T = math.log(low), math.log(high), np.log(values_T)
    cells = _cell_count(range)
    place_T = np.ceil((values_T - low) / ((high - low) / (cells - 1)) - 0.5).astype(np.int64)
    return _smooth_cells(np.bincount(place_T.clip(0, cells - 1), minlength=cells))


def _cell_count(range: FloatDistribution | IntDistribution) -> int:
    """Return the number of cells: at most CELLS, and no more than the range has values."""
    if isinstance(range, IntDistribution) and range.log:
        return min(CELLS, math.ceil(math.log2(range.high - range.low + 1)) + 1)
    return CELLS if range.step is None else min(CELLS, round((range.high - range.low) / range.step) + 1)


def _smooth_choices(count_K: Counts) -> Floats:
    """Return the probability of each choice: a kernel on each choice that occurs, and a uniform one as the prior."""
    (observed_N,) = np.nonzero(count_K)
    prior = 1 / (len(observed_N) + 1)
    kernels_NK = np.full((len(observed_N) + 1, len(count_K)), prior)
    kernels_NK[np.arange(len(observed_N)), observed_N] += 1
    kernels_NK /= kernels_NK.sum(1, keepdims=True)
    weight_N = np.append(count_K[observed_N], 1.0)
    return np.asarray(weight_N @ kernels_NK / weight_N.sum())


def _smooth_cells(count_K: Counts) -> Floats:
    """Return the probability of each cell: a normal kernel on each cell that occurs, and a wide one as the prior.

    Source:
        D. W. Scott, Multivariate Density Estimation, 1992: the width of the kernels.
    """
    from scipy.special import ndtr

    center_N: Counts = np.flatnonzero(count_K)
    weight_N, total, last = count_K[center_N], int(count_K.sum()), len(count_K) - 1
    mean = (center_N @ weight_N) / total
    deviation = math.sqrt(((center_N - mean) ** 2 @ weight_N) / max(1, total - 1))
    reached_N = np.cumsum(weight_N)
    lower = center_N[np.searchsorted(reached_N, total // 4, side="left")]
    upper = center_N[min(len(center_N) - 1, int(np.searchsorted(reached_N, total * 3 // 4, side="right")))]
    width = max(NARROWEST, 1.059 * min((upper - lower) / 1.34, deviation) * total**-0.2)
    center_N1 = np.append(center_N, last / 2)[:, None]
    width_N1 = np.append(np.full(len(center_N), width), last + 1.0)[:, None]
    edge_K = np.arange(len(count_K) + 1) - 0.5
    below_NK = ndtr((edge_K - center_N1) / width_N1)
    kernels_NK = np.diff(below_NK, axis=1) / (below_NK[:, -1:] - below_NK[:, :1])  # truncated to the range
    prior_weight_N = np.append(weight_N, 1.0)
    return np.asarray(prior_weight_N @ kernels_NK / prior_weight_N.sum())
