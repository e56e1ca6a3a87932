"""Annealing between points, and the points of 1cycle, which LR and momentum share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import half_cosine
from sweeper.schedules.numbers import End
from sweeper.types import Floats

Anneal = Literal["cos", "linear"]


def onecycle_points(decay_steps_L: NDArray[np.int64], warmup: Any, three_phase: bool, end: End) -> list[Any]:
    """Where the phases begin and end, in updates, not rounded: start, peak, (back at the start's value,) end.

    Closed, as in torch's OneCycleLR: peak at pT-1, back at 2pT-2, end at T-1. Open, as in fastai: pT, 2pT, T.
    Where pT <= 1 there is no rise: the run begins at its peak (torch divides by zero there).
    """
    closed = 1.0 if end == "closed" else 0.0
    last_L = decay_steps_L - closed
    peak_L = np.minimum(np.maximum(warmup * decay_steps_L - closed, 0.0), last_L)
    back_L = np.minimum(2.0 * peak_L, last_L)
    return [0.0, peak_L, back_L, last_L] if three_phase else [0.0, peak_L, last_L]


def anneal_between(tau_LS: NDArray[np.int64], points: Sequence[Any], values: Sequence[Any], anneal: Anneal) -> Floats:
    """values[i] at points[i], and half cosines or straight lines between; points ascend, and may coincide."""
    g_LS: Any = values[0]
    for i in range(len(points) - 1):
        length_L = points[i + 1] - points[i]
        x_LS = np.clip((tau_LS - points[i]) / np.where(length_L > 0, length_L, 1.0), 0.0, 1.0)
        x_LS = np.where(length_L > 0, x_LS, 1.0)
        left_LS = half_cosine(x_LS) if anneal == "cos" else 1.0 - x_LS
        between_LS = values[i + 1] + (values[i] - values[i + 1]) * left_LS
        g_LS = np.where(tau_LS > points[i], between_LS, g_LS) if i else between_LS
    return np.asarray(g_LS, dtype=np.float64)
