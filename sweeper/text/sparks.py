"""Sparklines: curves one line high."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sweeper.types import Floats

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = '_.-*"'
THINNED = 240  # values kept of an LR: the live view redraws it four times a second
DECADES = 2.0  # of the distance from the best value that have different heights


def best_so_far(values: Sequence[float | None], cells: int, unicode: bool = True) -> str:
    """Draw the best objective after each trial.

    A cell's height is the distance from the final best value, on a logarithmic scale of two decades. A linear scale
    would show the first improvement and none of the small ones after it. The final best value is the lowest cell if
    lower is better, else the highest.

    Args:
        values: The best objective after each trial that ended; None, drawn as a blank, before the first complete one.
        cells: Characters at most. With more trials than that, each character stands for several.
        unicode: Whether to use blocks, else ASCII.
    """
    ends = [(cell + 1) * len(values) // cells - 1 for cell in range(cells)] if len(values) > cells else []
    sampled = [values[end] for end in ends] or list(values)
    last = sampled[-1] if sampled else None
    if last is None:
        return ""
    gaps = [None if value is None else abs(value - last) for value in sampled]
    rises = any(value is not None and value < last for value in sampled)
    heights = [None if gap is None else _log_height(gap, max(filter(None, gaps), default=0.0)) for gap in gaps]
    return "".join(
        _character(None if height is None else 1 - height if rises else height, unicode) for height in heights
    )


def lr_curve(lr_S: Floats, cells: int, unicode: bool = True) -> str:
    """Draw the LR over the run: each of `cells` characters shows the mean of its part, linear from 0 to the highest.

    The scale starts at 0 because schedules are usually drawn so: a constant is a full bar, and a cosine looks like one.
    """
    means = _means(lr_S, cells)
    top = max(means, default=0.0)
    return "".join(_character(mean / top if top > 0 else 0.0, unicode) for mean in means)


def thin(lr_S: Floats) -> Floats:
    """Return the means of at most 240 parts of the LR. `lr_curve` draws nearly the same from them."""
    return lr_S if len(lr_S) <= THINNED else np.array(_means(lr_S, THINNED))


def _log_height(gap: float, widest: float) -> float:
    """Return 0 for no gap, 1 for the widest, and between them its logarithm, above the cell reserved for no gap."""
    if gap == 0:
        return 0.0
    lowest = 1 / len(ASCII)
    return lowest + (1 - lowest) * max(0.0, 1 + (math.log10(gap) - math.log10(widest)) / DECADES)


def _means(lr_S: Floats, parts: int) -> list[float]:
    """Return the means of equal parts, or the values themselves if there are fewer than `parts`."""
    edges = np.linspace(0, len(lr_S), min(parts, len(lr_S)) + 1).round().astype(int)
    return [float(lr_S[start:end].mean()) for start, end in pairwise(edges)]


def _character(height: float | None, unicode: bool) -> str:
    """Return the character for a height from 0 to 1; a blank for none."""
    if height is None:
        return " "
    levels = BLOCKS if unicode else ASCII
    return levels[min(len(levels) - 1, max(0, int(height * len(levels))))]
