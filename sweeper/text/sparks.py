"""Sparklines and bars: drawings one line high."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sweeper.types import Floats

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = '_.-*"'
THINNED = 240  # values kept of an LR: the live view redraws it four times a second
Estimate = tuple[float | None, float | None, float | None]  # a mean, and the ends of its interval; None if unknown
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


def gain_bar(gain: Estimate, top: float, cells: int, unicode: bool = True) -> str:
    """Draw a gain from 0: heavy up to where it surely is, thin through its interval, with a dot at its mean.

    Args:
        gain: The gain, and the ends of its interval, the lower first; None where unknown. A gain whose whole interval
            is below 0 is drawn as nothing.
        top: The gain at which the bar is full.
        cells: Characters of a full bar.
        unicode: Whether to use lines and a dot, else ASCII.
    """
    heavy, half, line, dot = ("━", "╸", "─", "●") if unicode else ("=", "", "-", "o")
    mean, low, high = gain
    if mean is None or top <= 0:
        return ""
    if low is None or high is None:
        halves = max(0, math.floor(2 * cells * min(mean / top, 1.0)))
        return heavy * (halves // 2) + half * (halves % 2)
    start, middle, end = (min(cells, max(0, round(cells * part / top))) for part in (low, mean, high))
    drawn = heavy * start + line * (end - start)
    return drawn if mean <= 0 or not drawn else drawn[: max(middle, 1) - 1] + dot + drawn[max(middle, 1) :]


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
