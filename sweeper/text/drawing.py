"""Curves drawn as text, in Braille dots if the terminal can show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.text.columns import Line
from sweeper.types import Floats

DOT_ROWS, DOT_COLUMNS = 4, 2  # of a Braille character
# The bit of each dot in the code of a Braille character, by row and column.
BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
BLANK = 0x2800


@dataclass(frozen=True)
class Curve:
    """A curve.

    Attributes:
        height_S: Heights from 0 (bottom) to 1 (top), evenly spaced from left to right, float64 [S]. NaN is not drawn.
        style: A Rich style.
    """

    height_S: Floats
    style: str = ""


def draw_curves(
    curves: Sequence[Curve], behind: Sequence[Floats], width: int, height: int, *, unicode: bool = True
) -> list[Line]:
    """Draw curves over a shaded background.

    Args:
        curves: The curves. The last one is on top, and a character has the style of the topmost curve in it.
        behind: Heights of curves whose characters are shaded, each float64 [S].
        width: Characters of a line.
        height: Number of lines.
        unicode: Whether to use Braille dots, else ASCII.
    """
    size = (height, width)
    code, owner = np.zeros(size, np.int64), np.full(size, -1)
    for place, curve in enumerate(curves):
        curve_code = _braille_codes(curve.height_S, width, height)
        code |= curve_code
        owner[curve_code > 0] = place
    shade = np.zeros(size, bool)
    for height_S in behind:
        shade |= _braille_codes(height_S, width, height) > 0
    return [
        [_cell(int(code[y, x]), bool(shade[y, x]), curves, int(owner[y, x]), unicode) for x in range(width)]
        for y in range(height)
    ]


def _cell(code: int, is_shaded: bool, curves: Sequence[Curve], owner: int, unicode: bool) -> tuple[str, str]:
    if code:
        return chr(BLANK + code) if unicode else "*", curves[owner].style
    return ("░" if unicode else ".", "dim") if is_shaded else (" ", "")


def _braille_codes(height_S: Floats, width: int, height: int) -> NDArray[np.int64]:
    """Return the Braille code of each character that the curve runs through, 0 elsewhere, int64 [height, width]."""
    rows, columns = height * DOT_ROWS, width * DOT_COLUMNS
    dots = np.zeros((rows, columns), bool)
    edges = np.linspace(0, len(height_S), columns + 1)
    for x in range(columns):
        start, stop = int(edges[x]), int(np.ceil(edges[x + 1]))
        within = height_S[max(0, start - 1) : max(stop, start + 1)]  # with the previous one, to leave no gaps
        within = within[np.isfinite(within)]
        if len(within):
            top, bottom = (
                round((1.0 - float(end)) * (rows - 1)) for end in np.clip((within.max(), within.min()), 0, 1)
            )
            dots[top : bottom + 1, x] = True
    cells = dots.reshape(height, DOT_ROWS, width, DOT_COLUMNS)
    codes: NDArray[np.int64] = np.einsum("yrxc,rc->yx", cells.astype(np.int64), BITS)
    return codes
