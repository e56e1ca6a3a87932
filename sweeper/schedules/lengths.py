"""Cycles of a run: their number, their boundaries, and the position of an update in its cycle.

Cycle i has C m^i updates. All lengths are sums of integer powers. Indices from logarithms are wrong at some boundaries
for m = 3, as in torch (CosineAnnealingWarmRestarts.step(epoch)) and timm.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import stable_power, whole_updates
from sweeper.types import Floats

CycleFit = Literal["fitted", "free"]


def cycle_count(cycle: Any, cycle_mult: Any) -> Floats:
    """Return the real number of cycles x that fill the run. It is below 1 for a cycle longer than the run.

    It solves cycle (m^x - 1)/(m - 1) = 1. For m = 1 it is 1/cycle.

    Args:
        cycle: Length of the first cycle, as a fraction of the run.
        cycle_mult: m, the length of each cycle relative to the one before.
    """
    cycle, m = np.asarray(cycle, dtype=np.float64), np.asarray(cycle_mult, dtype=np.float64)
    grown = np.log1p((m - 1.0) / cycle) / np.log(np.where(m > 1.0, m, 2.0))
    x: Floats = np.where(m > 1.0, grown, 1.0 / cycle)
    return x


def fitted_count(decay_steps_L: NDArray[np.int64], cycle: Any, cycle_mult: Any) -> NDArray[np.int64]:
    """Return the number of whole cycles nearest to `cycle_count`, at least 1, the first at least one update long."""
    most_L = np.floor(cycle_count(1.0 / decay_steps_L, cycle_mult) + 1e-9)  # the logarithm is not exact
    nearest_L = np.floor(cycle_count(cycle, cycle_mult) + 0.5)
    return np.maximum(np.minimum(nearest_L, most_L), 1.0).astype(np.int64)


def fitted_length(decay_steps: int, cycle: float, cycle_mult: float) -> float:
    """Return the length of the first of the fitted cycles, in updates; it need not be whole."""
    count_L = fitted_count(np.array([[decay_steps]]), cycle, cycle_mult)
    return float((decay_steps / _geometric_sum(cycle_mult, count_L))[0, 0])


def shortest_fit(decay_steps: int, ticks: int, cycle_mult: float) -> float:
    """Return the smallest `cycle` that is fitted to at least so many updates, if the run has as many."""
    most = np.floor(cycle_count(ticks / decay_steps, cycle_mult) + 1e-9)  # the logarithm is not exact
    return float(1.0 / _geometric_sum(cycle_mult, np.array([[int(most)]]))[0, 0])


def wave_count(cycle: Any, fit: CycleFit) -> Floats:
    """Return the number of waves (fall and rise) of that length: 1/cycle, or (fitted) the nearest k + 1/2."""
    waves_L = 1.0 / np.asarray(cycle, dtype=np.float64)
    return np.asarray(np.floor(waves_L) + 0.5) if fit == "fitted" else waves_L


def shortest_wave(decay_steps: int, ticks: int) -> float:
    """Return the smallest `cycle` whose fitted waves have at least so many updates, if the run has half as many."""
    return float(1.0 / (np.floor(decay_steps / ticks - 0.5) + 0.5))


def cycle_position(
    tau_LS: NDArray[np.int64], decay_steps_L: NDArray[np.int64], cycle: Any, cycle_mult: Any, fit: CycleFit
) -> tuple[Floats, Floats, Floats]:
    """Return the position of each update in its cycle.

    Boundaries, not lengths, are rounded to whole updates, so that fitted cycles end exactly at decay_steps.

    Args:
        tau_LS: Updates since the warmup, int64 [L, S].
        decay_steps_L: Updates after the warmup, int64 [L, 1].
        cycle: Length of the first cycle, as a fraction of decay_steps.
        cycle_mult: m, the length of each cycle relative to the one before.
        fit: Whether the length is fitted to whole cycles.

    Returns:
        The index of the cycle from 0, the progress through it in [0, 1), and its length in updates; each [L, S].
    """
    first_L, counts_L = _first_length(decay_steps_L, cycle, cycle_mult, fit)
    power_K = np.arange(int(counts_L.max()))
    with np.errstate(over="ignore"):  # boundaries far after the run, where other rows have more cycles
        length_LK = first_L * stable_power(cycle_mult, power_K)
        edges = np.minimum(np.floor(np.cumsum(length_LK, axis=1) + 0.5), 2.0**52)
    edge_LK = np.concatenate([np.zeros((len(edges), 1)), edges], axis=1)
    index_LS = _index(edge_LK, tau_LS)
    start_LS = np.take_along_axis(edge_LK, index_LS, axis=1)
    stop_LS = np.take_along_axis(edge_LK, index_LS + 1, axis=1)
    length_LS = stop_LS - start_LS
    return index_LS.astype(np.float64), (tau_LS - start_LS) / length_LS, length_LS


def _first_length(
    decay_steps_L: NDArray[np.int64], cycle: Any, cycle_mult: Any, fit: CycleFit
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the length of cycle 0 in updates, and a number of cycles that covers the run."""
    if fit == "free":
        first_L = whole_updates(cycle, decay_steps_L)
        return first_L.astype(np.float64), np.ceil(cycle_count(first_L / decay_steps_L, cycle_mult)).astype(
            np.int64
        ) + 1
    count_L = fitted_count(decay_steps_L, cycle, cycle_mult)
    return decay_steps_L / _geometric_sum(cycle_mult, count_L), count_L


def _geometric_sum(m: Any, count_L: NDArray[np.int64]) -> Floats:
    """Return 1 + m + ... + m^(count-1)."""
    power_LK = np.arange(int(count_L.max())) * np.ones_like(count_L)
    terms_LK = np.where(power_LK < count_L, stable_power(m, np.minimum(power_LK, count_L)), 0.0)
    total_L: Floats = np.cumsum(terms_LK, axis=1)[:, -1:]
    return total_L


def _index(edge_LK: Floats, tau_LS: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cycle of each update: the number of boundaries at or before it, minus one."""
    each_LS = np.broadcast_to(tau_LS, (len(edge_LK), tau_LS.shape[-1]))
    rows = [np.searchsorted(edge_K, tau_S, side="right") - 1 for edge_K, tau_S in zip(edge_LK, each_LS, strict=True)]
    return np.stack(rows).astype(np.int64)
