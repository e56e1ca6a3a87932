"""Warmup ramps before a factor, from just above 0 to just below the peak. Update W is the first one at the peak.

A ramp is `ramp(t_LS, warmup_steps_L) -> g_LS`. Only its values at t < warmup_steps are used. No ramp starts at 0, which
would waste the first update; the linear one starts at 1/(W+1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import half_cosine, stable_power
from sweeper.types import Floats

Ramp = Callable[[NDArray[np.int64], NDArray[np.int64]], Floats]


def linear(t_LS: NDArray[np.int64], warmup_steps_L: NDArray[np.int64]) -> Floats:
    """Return (t+1)/(W+1), which is torch's LinearLR(start_factor=1/(W+1), total_iters=W)."""
    x_LS: Floats = (t_LS + 1) / (warmup_steps_L + 1)
    return x_LS


def cosine(t_LS: NDArray[np.int64], warmup_steps_L: NDArray[np.int64]) -> Floats:
    """Return (1 - cos(pi x)) / 2 of the linear ramp x, which is slow at both ends."""
    return 1.0 - half_cosine(linear(t_LS, warmup_steps_L))


def one_minus_sqrt(t_LS: NDArray[np.int64], warmup_steps_L: NDArray[np.int64]) -> Floats:
    """Return 1 - sqrt(1 - x) of the linear ramp x, slow, then steep (transformers' warmup_type "1-sqrt")."""
    g_LS: Floats = 1.0 - np.sqrt(np.maximum(1.0 - linear(t_LS, warmup_steps_L), 0.0))
    return g_LS


def exponential(t_LS: NDArray[np.int64], warmup_steps_L: NDArray[np.int64]) -> Floats:
    """Return s^(1 - t/W) with s = 1/(W+1), which grows by the same factor at every update."""
    return stable_power(1.0 / (warmup_steps_L + 1), 1.0 - t_LS / np.maximum(warmup_steps_L, 1))


SHAPES: dict[str, Ramp] = {"linear": linear, "cosine": cosine, "1-sqrt": one_minus_sqrt, "exponential": exponential}

# prefix: the ramp, then the factor, which starts after the ramp. overlay: the factor starts with the run, and the ramp
# replaces its first updates (timm's warmup_prefix=False). product: the factor starts with the run, times the ramp.
JOINS = ("prefix", "overlay", "product")
