"""Which points of a trace are sent to MLflow: as few as show it, and the same ones whenever they are chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sweeper.types import Floats

Indices = NDArray[np.int64]

MOST_POINTS = 320  # what MLflow's charts ask for
FEW_POINTS = 100  # of a loss in a run under FEW_STEPS updates
FEW_STEPS = 1000
TOLERANCE = 0.002  # of the peak
KNEES = 100
KNEE_SLOPE = 0.05  # change of slope, in peaks a run, from which a knee is looked at
KNEE_SHARPNESS = 10.0  # how much sharper than its surroundings a knee is


def indices_by_shape(values_S: Floats, tolerance: float = TOLERANCE) -> Indices:
    """Increasing indices [K] whose polyline is nowhere further than tolerance * max|values| from the trace.

    The first, the last and the knees are always among them. A trace that would need more than MOST_POINTS gets the
    tolerance doubled until it does not. One with values that are not finite is taken evenly.
    """
    count = len(values_S)
    if count <= 2 or not np.isfinite(values_S).all():
        return even_indices(count, MOST_POINTS)
    peak = float(np.abs(values_S).max())
    scaled_S = values_S / peak if peak > 0 else values_S  # so that no slope overflows
    knees_K = knees(scaled_S)
    allowed = tolerance
    while True:
        chosen = _polyline(scaled_S, knees_K, allowed)
        if chosen is not None:
            return chosen
        allowed *= 2


def knees(values_S: Floats) -> Indices:
    """Where the slope changes at once: the end of a warmup, a milestone, a restart. At most KNEES, the sharpest.

    A knee's second difference stands out from those two updates away (a corner between two updates shows at both),
    and it turns the trace by KNEE_SLOPE peaks a run or more, else nobody would see it.
    """
    bends_S = np.zeros(len(values_S) + 4)
    bends_S[3:-3] = np.abs(np.diff(values_S, n=2))  # of update i at 2 + i
    bend_S, before_S, after_S = bends_S[2:-2], bends_S[:-4], bends_S[4:]
    peak = float(np.abs(values_S).max(initial=0.0))
    sharp_S = bend_S > KNEE_SHARPNESS * np.maximum(before_S, after_S)
    seen_S = bend_S * len(values_S) > KNEE_SLOPE * peak
    found = np.flatnonzero(sharp_S & seen_S)
    if len(found) > KNEES:
        found = np.sort(found[np.argsort(-bend_S[found], kind="stable")[:KNEES]])
    return found.astype(np.int64)


def indices_by_stride(steps: int, report_steps: tuple[int, ...]) -> Indices:
    """Update indices at a fixed stride, with the first, the last and, where that is few, the last of each report."""
    most = FEW_POINTS if steps < FEW_STEPS else MOST_POINTS
    if steps <= most:
        return np.arange(steps, dtype=np.int64)
    ends = np.asarray([step - 1 for step in report_steps], dtype=np.int64)
    if len(ends) > most // 2:
        ends = np.asarray([steps - 1], dtype=np.int64)
    return np.union1d(even_indices(steps, most - len(ends)), ends)


def even_indices(count: int, most: int) -> Indices:
    """0, k, 2k, ... below `count`, at most `most` of them."""
    return np.arange(0, count, max(1, -(-count // max(1, most))), dtype=np.int64)


def _polyline(values_S: Floats, knees_K: Indices, allowed: float) -> Indices | None:
    """From each point the longest chord that stays within `allowed`; None when that is too many."""
    last = len(values_S) - 1
    chosen = [0]
    for stop in [*(int(knee) for knee in knees_K if 0 < knee < last), last]:
        while chosen[-1] < stop:
            if len(chosen) >= MOST_POINTS:
                return None
            chosen.append(_longest_chord(values_S, chosen[-1], stop, allowed))
    return np.asarray(chosen, dtype=np.int64)


def _longest_chord(values_S: Floats, start: int, stop: int, allowed: float) -> int:
    """The furthest point <= stop that a chord from `start` reaches within `allowed` of every point between.

    A chord of slope m passes within `allowed` of point k if m lies in (values[k] - values[start] -+ allowed) /
    (k - start); the intersection over k only shrinks, so the search ends where it is empty. In growing windows.
    """
    reached = start + 1
    low, high = -np.inf, np.inf
    begin, width = start + 1, 32
    while begin <= stop:
        at_K = np.arange(begin, min(begin + width, stop + 1))
        rise_K, run_K = values_S[at_K] - values_S[start], at_K - start
        low_K = np.maximum.accumulate(np.concatenate(([low], (rise_K - allowed) / run_K)))
        high_K = np.minimum.accumulate(np.concatenate(([high], (rise_K + allowed) / run_K)))
        slope_K = rise_K / run_K
        fits = np.flatnonzero((slope_K >= low_K[:-1]) & (slope_K <= high_K[:-1]))
        if len(fits):
            reached = int(at_K[fits[-1]])
        low, high = low_K[-1], high_K[-1]
        if low > high:
            break
        begin, width = begin + width, width * 2
    return reached
