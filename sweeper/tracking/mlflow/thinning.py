"""Choose the points of a trace that are sent to MLflow: as few as show its shape, and the same ones every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sweeper.types import Floats

Indices = NDArray[np.int64]

MOST_POINTS = 320  # MLflow's charts load so many
FEW_POINTS = 100  # for a loss in a run of fewer than FEW_STEPS updates
FEW_STEPS = 1000
TOLERANCE = 0.002  # relative to the peak
KNEES = 100
KNEE_SLOPE = 0.05  # smallest change of slope at a knee, in peaks per run
KNEE_SHARPNESS = 10.0  # how much sharper than its surroundings a knee is


def indices_by_shape(values_S: Floats, tolerance: float = TOLERANCE) -> Indices:
    """Return indices whose polyline stays within tolerance * max|values| of the trace.

    They include the first, the last and the knees. If a trace would need more than MOST_POINTS, the tolerance is
    doubled until it does not. If some values are not finite, the indices are evenly spaced.

    Args:
        values_S: The trace, float64 [S].
        tolerance: Allowed distance, relative to the largest absolute value.

    Returns:
        Increasing indices, int64 [K].
    """
    count = len(values_S)
    if count <= 2 or not np.isfinite(values_S).all():
        return even_indices(count, MOST_POINTS)
    peak = float(np.abs(values_S).max())
    scaled_S = values_S / peak if peak > 0 else values_S  # no slope overflows then
    knees_K = knees(scaled_S)
    allowed = tolerance
    while True:
        chosen = _polyline(scaled_S, knees_K, allowed)
        if chosen is not None:
            return chosen
        allowed *= 2


def knees(values_S: Floats) -> Indices:
    """Return where the slope changes abruptly: the end of a warmup, a milestone, a restart.

    The second difference at a knee is much larger than two updates away (a corner between two updates shows at both).
    The slope changes by KNEE_SLOPE peaks per run or more; a smaller change is not visible.

    Returns:
        Increasing indices, int64 [K]. At most KNEES, the sharpest.
    """
    bends_S = np.zeros(len(values_S) + 4)
    bends_S[3:-3] = np.abs(np.diff(values_S, n=2))  # of update i at 2 + i
    bend_S, before_S, after_S = bends_S[2:-2], bends_S[:-4], bends_S[4:]
    peak = float(np.abs(values_S).max(initial=0.0))
    sharp_S = bend_S > KNEE_SHARPNESS * np.maximum(before_S, after_S)
    visible_S = bend_S * len(values_S) > KNEE_SLOPE * peak
    knees_K = np.flatnonzero(sharp_S & visible_S)
    if len(knees_K) > KNEES:
        knees_K = np.sort(knees_K[np.argsort(-bend_S[knees_K], kind="stable")[:KNEES]])
    return knees_K.astype(np.int64)


def indices_by_stride(steps: int, report_steps: tuple[int, ...]) -> Indices:
    """Return indices of updates at a fixed stride, with the first and the last.

    Args:
        steps: Updates of the run.
        report_steps: Updates after which the run reports. The last update before each is included if they are few.

    Returns:
        Increasing indices, int64 [K].
    """
    most = FEW_POINTS if steps < FEW_STEPS else MOST_POINTS
    if steps <= most:
        return np.arange(steps, dtype=np.int64)
    ends = np.asarray([step - 1 for step in report_steps], dtype=np.int64)
    if len(ends) > most // 2:
        ends = np.asarray([steps - 1], dtype=np.int64)
    return np.union1d(even_indices(steps, most - len(ends)), ends)


def even_indices(count: int, most: int) -> Indices:
    """Return 0, k, 2k, ... below `count`, at most `most` of them."""
    return np.arange(0, count, max(1, -(-count // max(1, most))), dtype=np.int64)


def _polyline(values_S: Floats, knees_K: Indices, allowed: float) -> Indices | None:
    """Connect the points by the longest chords within `allowed`; None if that takes too many points."""
    last = len(values_S) - 1
    chosen = [0]
    for stop in [*(int(knee) for knee in knees_K if 0 < knee < last), last]:
        while chosen[-1] < stop:
            if len(chosen) >= MOST_POINTS:
                return None
            chosen.append(_longest_chord(values_S, chosen[-1], stop, allowed))
    return np.asarray(chosen, dtype=np.int64)


def _longest_chord(values_S: Floats, start: int, stop: int, allowed: float) -> int:
    """Return the furthest point <= stop that a chord from `start` reaches within `allowed` of every point between.

    A chord of slope m is within `allowed` of point k if m is in (values[k] - values[start] -+ allowed) / (k - start).
    The intersection over k only shrinks, so the search ends when it is empty. It looks ahead in growing windows.
    """
    reached = start + 1
    low, high = -np.inf, np.inf
    first, width = start + 1, 32
    while first <= stop:
        index_K = np.arange(first, min(first + width, stop + 1))
        rise_K, run_K = values_S[index_K] - values_S[start], index_K - start
        low_K = np.maximum.accumulate(np.concatenate(([low], (rise_K - allowed) / run_K)))
        high_K = np.minimum.accumulate(np.concatenate(([high], (rise_K + allowed) / run_K)))
        slope_K = rise_K / run_K
        fits = np.flatnonzero((slope_K >= low_K[:-1]) & (slope_K <= high_K[:-1]))
        if len(fits):
            reached = int(index_K[fits[-1]])
        low, high = low_K[-1], high_K[-1]
        if low > high:
            break
        first, width = first + width, width * 2
    return reached
