"""How fractions become updates, and how far along an update is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.numbers import End
from sweeper.types import Floats


def whole_updates(fraction: Floats | float, steps: NDArray[np.int64] | Floats | int) -> NDArray[np.int64]:
    """0 where fraction <= 0, else the nearest whole number of updates, at least 1.

    floor(x + 1/2) and not int(x): 0.29 * 100 is 28.999999999999996 in binary and means 29.
    """
    updates = np.maximum(1, np.floor(np.asarray(fraction) * steps + 0.5))
    return np.where(np.asarray(fraction) <= 0, 0, updates).astype(np.int64)


def last_update(decay_steps_L: NDArray[np.int64], end: End) -> NDArray[np.int64]:
    """The update at which the final value is reached: the first one after the run (open), or its last (closed)."""
    return decay_steps_L if end == "open" else np.maximum(decay_steps_L - 1, 1)


def progress(tau_LS: NDArray[np.int64], decay_steps_L: NDArray[np.int64], end: End) -> Floats:
    """u in [0, 1], linear in the updates since the end of the warmup."""
    u_LS: Floats = np.clip(tau_LS / last_update(decay_steps_L, end), 0.0, 1.0)
    return u_LS


def half_cosine(x: Any) -> Floats:
    """c(x) = (1 + cos(pi x)) / 2: from 1 at x = 0 to 0 at x = 1."""
    c: Floats = (1.0 + np.cos(np.pi * x)) / 2.0
    return c


def affine(floor: Floats | float, shape: Floats) -> Floats:
    """A(s) = f + (1 - f) s: a shape from 1 to 0 becomes one from 1 to f."""
    g: Floats = floor + (1.0 - floor) * shape
    return g
