"""Momentum of each update, for families that cycle it against the LR (`momentum: cycled`).

Each function has the name of its LR factor and takes the same hyperparameters. It returns the momentum itself. The
defaults of base_momentum and max_momentum are torch's.

Source: arXiv 1708.07120 and 1803.09820.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules import cycles
from sweeper.schedules.lengths import CycleFit
from sweeper.schedules.numbers import BelowOne, End, OpenFraction, Positive, PositiveFraction
from sweeper.schedules.phases import Anneal, anneal_between, onecycle_points
from sweeper.types import Floats


def clr(
    tau_LS: NDArray[np.int64],
    decay_steps_L: NDArray[np.int64],
    *,
    decay: PositiveFraction = 1.0,
    cycle: Positive = 0.25,
    up_share: OpenFraction = 0.5,
    scale_mode: cycles.ScaleMode = "cycle",
    cycle_fit: CycleFit = "fitted",
    base_momentum: BelowOne = 0.8,
    max_momentum: BelowOne = 0.9,
) -> Floats:
    """Return momentum that cycles between max_momentum, at the lowest LR, and base_momentum, at the first peak.

    Later cycles shrink as those of the LR do.
    """
    height_LS = cycles.clr(
        tau_LS,
        decay_steps_L,
        decay=decay,
        cycle=cycle,
        base_factor=0.0,
        up_share=up_share,
        scale_mode=scale_mode,
        cycle_fit=cycle_fit,
    )
    momentum_LS: Floats = max_momentum - (max_momentum - base_momentum) * height_LS
    return momentum_LS


def onecycle(
    tau_LS: NDArray[np.int64],
    decay_steps_L: NDArray[np.int64],
    *,
    warmup: OpenFraction = 0.3,
    anneal: Anneal = "cos",
    three_phase: bool = False,
    end: End = "closed",
    base_momentum: BelowOne = 0.85,
    max_momentum: BelowOne = 0.95,
) -> Floats:
    """Return momentum that falls from max_momentum to base_momentum while the LR rises, then rises again."""
    points = onecycle_points(decay_steps_L, warmup, three_phase, end)
    values = [max_momentum, base_momentum, max_momentum, max_momentum][: len(points)]
    return anneal_between(tau_LS, points, values, anneal)
