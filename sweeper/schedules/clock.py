"""How fractions become updates, and how far along an update is."""

from __future__ import annotations

from fractions import Fraction
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


def epochs(steps: int, epoch: float) -> NDArray[np.int64]:
    """The epoch, from 0, in which each of `steps` updates begins: int64 [steps].

    epoch: updates of one, whole or not (examples / batch size): the batches run on from one epoch into the next.
    Counted in whole numbers, so that an update which begins with an epoch's first example is never put before it.
    """
    length = Fraction(epoch).limit_denominator(10**6)
    update_S = np.arange(steps, dtype=np.int64)
    return update_S * length.denominator // length.numerator


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


def stable_power(base: Any, exponent: Any) -> Floats:
    """base ** exponent, equal bit for bit alone and among others.

    NumPy squares, which differs from pow in the last bit, where an exponent of 2 is broadcast along its inner loop,
    and that depends on how many rows there are. Whole arrays leave it no choice.
    """
    base, exponent = np.broadcast_arrays(np.asarray(base, np.float64), np.asarray(exponent, np.float64))
    power: Floats = np.power(np.ascontiguousarray(base), np.ascontiguousarray(exponent))
    return power


def affine(floor: Floats | float, shape: Floats) -> Floats:
    """A(s) = f + (1 - f) s: a shape from 1 to 0 becomes one from 1 to f."""
    g: Floats = floor + (1.0 - floor) * shape
    return g
