"""Annealing between points, and the points of 1cycle, for both LR and momentum."""

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
    """Return the boundaries of the phases in updates, not rounded: start, peak, (start value again,) end.

    With a closed end, as in torch's OneCycleLR, they are pT-1, 2pT-2 and T-1 after the start. With an open end, as in
    fastai, they are pT, 2pT and T. If pT <= 1, there is no rise and the run starts at its peak; torch divides by zero
    there.

    Args:
        decay_steps_L: T, updates of the run, int64 [L, 1].
        warmup: p, the length of the rise as a fraction of T.
        three_phase: Whether the second phase ends at the start value, before a third one.
        end: Whether the final value is reached after the run (open) or at its last update (closed).
    """
    closed = 1.0 if end == "closed" else 0.0
    last_L = decay_steps_L - closed
    peak_L = np.minimum(np.maximum(warmup * decay_steps_L - closed, 0.0), last_L)
    back_L = np.minimum(2.0 * peak_L, last_L)
    return [0.0, peak_L, back_L, last_L] if three_phase else [0.0, peak_L, last_L]


def anneal_between(tau_LS: NDArray[np.int64], points: Sequence[Any], values: Sequence[Any], anneal: Anneal) -> Floats:
    """Return values[i] at points[i], with half cosine waves or straight lines between them.

    Args:
        tau_LS: Updates, int64 [L, S].
        points: Increasing updates. Two may be equal.
        values: The value at each point.
        anneal: "cos" or "linear".
    """
    g_LS: Any = values[0]
    for i in range(len(points) - 1):
        length_L = points[i + 1] - points[i]
        x_LS = np.clip((tau_LS - points[i]) / np.where(length_L > 0, length_L, 1.0), 0.0, 1.0)
        x_LS = np.where(length_L > 0, x_LS, 1.0)
        left_LS = half_cosine(x_LS) if anneal == "cos" else 1.0 - x_LS
        between_LS = values[i + 1] + (values[i] - values[i + 1]) * left_LS
        g_LS = np.where(tau_LS > points[i], between_LS, g_LS) if i else between_LS
    return np.asarray(g_LS, dtype=np.float64)
