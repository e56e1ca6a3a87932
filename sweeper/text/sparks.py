"""Sparklines: a row of numbers as a curve one line high."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sweeper.types import Floats

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = '_.-*"'
THINNED = 240  # values kept of an LR: a million updates are not looked at four times a second
DECADES = 2.0  # of the distance from the best that are told apart


def best_so_far(values: Sequence[float | None], cells: int, unicode: bool = True) -> str:
    """How the best objective came to be: one cell a trial, or, of many trials, one for each part of them.

    values: the best after each trial that ended, None (a blank) as long as there was none. A cell's height is its
    distance from the best of today on a logarithmic scale, up to two decades: a linear one would show the first
    fall and none of the small steps after it. Today's best is the lowest cell, or, where more is better, the highest.
    """
    ends = [(cell + 1) * len(values) // cells - 1 for cell in range(cells)] if len(values) > cells else []
    shown = [values[end] for end in ends] or list(values)
    last = shown[-1] if shown else None
    if last is None:
        return ""
    gaps = [None if value is None else abs(value - last) for value in shown]
    rises = any(value is not None and value < last for value in shown)
    heights = [None if gap is None else _log_height(gap, max(filter(None, gaps), default=0.0)) for gap in gaps]
    return "".join(
        _character(None if height is None else 1 - height if rises else height, unicode) for height in heights
    )


def lr_curve(lr_S: Floats, cells: int, unicode: bool = True) -> str:
    """The LR over the run, each cell the mean of its part of the updates; linear, from 0 to the highest cell.

    Linear from 0, because that is how schedules are drawn: a constant is a full bar, a cosine looks like one.
    """
    means = _means(lr_S, cells)
    top = max(means, default=0.0)
    return "".join(_character(mean / top if top > 0 else 0.0, unicode) for mean in means)


def thin(lr_S: Floats) -> Floats:
    """The LR as means of at most 240 parts, from which `lr_curve` draws nearly the same."""
    return lr_S if len(lr_S) <= THINNED else np.array(_means(lr_S, THINNED))


def _log_height(gap: float, widest: float) -> float:
    """0 for no gap, 1 for the widest; between them its logarithm, the lowest cell kept for no gap."""
    if gap == 0:
        return 0.0
    lowest = 1 / len(ASCII)
    return lowest + (1 - lowest) * max(0.0, 1 + (math.log10(gap) - math.log10(widest)) / DECADES)


def _means(lr_S: Floats, parts: int) -> list[float]:
    """The mean of each of that many equal parts; the values themselves where there are fewer."""
    edges = np.linspace(0, len(lr_S), min(parts, len(lr_S)) + 1).round().astype(int)
    return [float(lr_S[start:end].mean()) for start, end in pairwise(edges)]


def _character(height: float | None, unicode: bool) -> str:
    """The character of a height in 0 .. 1; a blank for none."""
    if height is None:
        return " "
    levels = BLOCKS if unicode else ASCII
    return levels[min(len(levels) - 1, max(0, int(height * len(levels))))]
