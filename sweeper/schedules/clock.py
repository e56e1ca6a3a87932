"""Conversion of fractions to updates, and the progress of an update through the run."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.numbers import End
from sweeper.types import Floats

EPOCH_DENOMINATOR = 10**6  # largest denominator of the length of an epoch in updates


def whole_updates(fraction: Floats | float, steps: NDArray[np.int64] | Floats | int) -> NDArray[np.int64]:
    """Return a fraction of the run as a number of updates: the nearest whole number, at least 1; 0 if fraction <= 0.

    It is floor(x + 1/2), not int(x), because 0.29 * 100 is 28.999999999999996 in binary and means 29.

    Args:
        fraction: Fraction of `steps`.
        steps: Updates of the whole.
    """
    updates = np.maximum(1, np.floor(np.asarray(fraction) * steps + 0.5))
    return np.where(np.asarray(fraction) <= 0, 0, updates).astype(np.int64)


def epochs(steps: int, epoch: float) -> NDArray[np.int64]:
    """Return the epoch in which each update starts, counted from 0, int64 [steps].

    The calculation uses integers, so that rounding cannot move an update that starts with the first example of an epoch
    to the epoch before.

    Args:
        steps: Updates of the run.
        epoch: Updates of one epoch (examples / batch size). It need not be whole, because a batch may span two epochs.
    """
    length = Fraction(epoch).limit_denominator(EPOCH_DENOMINATOR)
    update_S = np.arange(steps, dtype=np.int64)
    return update_S * length.denominator // length.numerator


def tick_count(steps: int, epoch: float | None) -> int:
    """Return the number of ticks of a run: its updates, or with `epoch` the epochs that it starts."""
    return steps if epoch is None else int(epochs(steps, epoch)[-1]) + 1


def last_update(decay_steps_L: NDArray[np.int64], end: End) -> NDArray[np.int64]:
    """Return the update at which the final value is reached: one after the run (open), or its last (closed)."""
    return decay_steps_L if end == "open" else np.maximum(decay_steps_L - 1, 1)


def progress(tau_LS: NDArray[np.int64], decay_steps_L: NDArray[np.int64], end: End) -> Floats:
    """Return u in [0, 1], linear in the updates since the end of the warmup."""
    u_LS: Floats = np.clip(tau_LS / last_update(decay_steps_L, end), 0.0, 1.0)
    return u_LS


def half_cosine(x: Any) -> Floats:
    """Return c(x) = (1 + cos(pi x)) / 2, from 1 at x = 0 to 0 at x = 1."""
    c: Floats = (1.0 + np.cos(np.pi * x)) / 2.0
    return c


def stable_power(base: Any, exponent: Any) -> Floats:
    """Return base ** exponent, where each row has the same bits alone and in a larger array.

    If an exponent of 2 is broadcast along NumPy's inner loop, NumPy squares the base. The result may differ from pow in
    the last bit, and whether this happens depends on the number of rows. Contiguous arrays of equal shape prevent it.
    """
    base, exponent = np.broadcast_arrays(np.asarray(base, np.float64), np.asarray(exponent, np.float64))
    power: Floats = np.power(np.ascontiguousarray(base), np.ascontiguousarray(exponent))
    return power


def affine(floor: Floats | float, shape: Floats) -> Floats:
    """Return A(s) = f + (1 - f) s, which rescales a shape from 1 to 0 to one from 1 to f."""
    g: Floats = floor + (1.0 - floor) * shape
    return g
