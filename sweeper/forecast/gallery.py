"""Drawings of previews: families side by side in one picture, and below each other in a terminal.

Each family is drawn twice: LR / its maximum on a linear axis, and the LR on a logarithmic axis. Thin lines are
candidates of a random sampler. A thick line has one searched hyperparameter at an end of its range, which gives the
line its color, and the others at their middle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.forecast.preview import Preview, as_json, space_text, value_word
from sweeper.text.columns import Column, Line, clean, lay_out, plain_text, total_width, width_of, wrap, write
from sweeper.text.drawing import Curve, draw_curves
from sweeper.text.numbers import lr_text, share_text
from sweeper.types import Floats
from sweeper.views import figures, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colors of the searched hyperparameters for matplotlib and Rich. Those that are not named share OTHERS.
NAMED = {
    "peak_lr": ("#0072b2", "blue"),
    "warmup": ("#e69f00", "yellow"),
    "decay": ("#009e73", "green"),
    "cycle": ("#d55e00", "red"),
}
OTHERS = (("#cc79a7", "magenta"), ("#56b4e9", "cyan"), ("#882255", "bright_magenta"), ("#999933", "bright_yellow"))
FLOOR = 1e-6  # lower end of a logarithmic LR axis, relative to the largest LR
POINTS = 300  # of a line in the picture
TEXT_WIDTH, TEXT_HEIGHT, WIDEST = 80, 5, 100  # of a family's drawing: default width, lines, largest width
KEY = (
    "Lines: one searched hyperparameter at an end of its range, the others at their middle. In the picture, solid is "
    "the high end and dashed the low end."
)
SHADE = "Shaded: candidates of a random sampler."


def show(previews: Sequence[Preview], paths: Sequence[Path], *, for_programs: bool = False) -> None:
    """Write the pictures, then print the families or JSON.

    The JSON is {"steps": int, "families": `preview.as_json`, "pictures": [path, ...]}.

    Args:
        previews: The families.
        paths: The pictures to write.
        for_programs: Whether to print JSON.
    """
    figure = picture(previews)
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        figures.save(figure, path)
    written = [str(path) for path in paths]
    if for_programs:
        whole = {"steps": previews[0].steps, "families": as_json(previews), "pictures": written}
        print(json.dumps(whole, indent=2, allow_nan=False))
        return
    write(lambda width, unicode: render(previews, width=width, unicode=unicode))
    print(f"\nPictures: {', '.join(written)}")


# --- in the terminal --------------------------------------------------------------------------------


def render(previews: Sequence[Preview], *, width: int | None = None, unicode: bool = True) -> list[Line]:
    """Return the drawings, as many side by side as fit, then the table, then notes and warnings."""
    room = TEXT_WIDTH if width is None else width
    across = max(1, room // TEXT_WIDTH)
    each = min(WIDEST, (room - 4 * (across - 1)) // across)
    blocks = [_block(one, each, unicode) for one in previews]
    lines: list[Line] = []
    for start in range(0, len(blocks), across):
        lines += [*_side_by_side(blocks[start : start + across], each), [("", "")]]
    lines += [line for text in (KEY, SHADE) for line in wrap(text, room, "dim")] + [[("", "")]]
    lines += table(previews, width, unicode)
    for note in (one.note for one in previews if one.note):
        lines += wrap(note, room, "dim")
    for warning in (one.warning for one in previews if one.warning):
        lines += wrap(warning, room, "yellow")
    return lines


def table(previews: Sequence[Preview], width: int | None, unicode: bool = True) -> list[Line]:
    """Return a table with one row per family. The search spaces are included if they fit."""
    cycles = ["-" if one.cycles is None else f"{one.cycles[0]:.3g}-{one.cycles[2]:.3g}" for one in previews]
    columns = [
        Column("family", [clean(one.family) for one in previews], 100, right=False, min_width=19),
        Column("candidates", [str(one.candidates) for one in previews], 20),
        Column("end high", [share_text(round(one.ends_high, 3)) for one in previews], 90),
        Column("largest LR", [lr_text(one.largest_lr) for one in previews], 80),
        Column("cycles", cycles, 70),
    ]
    ranges = [
        ", ".join(f"{name} {space_text(dimension)}" for name, dimension in one.searched.items()) or "-"
        for one in previews
    ]
    names = [", ".join(one.searched) or "-" for one in previews]
    searched = Column("searched", ranges, 60, right=False)
    if width is not None and total_width([*columns, searched]) > width:
        searched = Column("searched (ranges above)", names, 60, right=False, min_width=20)
    styles = {row: "yellow" for row, one in enumerate(previews) if one.warning}
    return lay_out([*columns, searched], width, styles=styles, unicode=unicode)


def _block(one: Preview, width: int, unicode: bool) -> list[Line]:
    """Return one family: its name and search space, then both drawings side by side."""
    left = (width - 2) // 2
    right = width - 2 - left
    low, high = _lr_range(one)
    styles = {name: color for name, (_, color) in _colors(one).items()}
    lines = []
    for columns, log in ((left, False), (right, True)):
        curves = [
            Curve(_heights(extreme.lr_S, low, high, log), styles.get(extreme.name, "bold")) for extreme in one.extremes
        ]
        behind = [_heights(lr_S, low, high, log) for lr_S in one.lr_LS] if one.searched else []
        lines.append(draw_curves(curves, behind, columns, TEXT_HEIGHT, unicode=unicode))
    caption = f"LR / its maximum, 0..1{'':{max(0, left - 20)}}LR {lr_text(low)}..{lr_text(high)}, log"
    return [
        *_heading(one, styles, width),
        *([*first, ("  ", ""), *second] for first, second in zip(*lines, strict=True)),
        [(caption[:width], "dim")],
    ]


def _heading(one: Preview, styles: dict[str, str], width: int) -> list[Line]:
    """Return the family and its search space, in as many lines as needed."""
    lines: list[Line] = [[(clean(one.family), "bold")]]
    for name, dimension in one.searched.items():
        piece = f"  {name} {space_text(dimension)}"
        if width_of(plain_text(lines[-1])) + width_of(piece) > width:
            lines.append([])
        lines[-1].append((piece, styles[name]))
    return lines if one.searched else [[*lines[0], ("  nothing searched", "dim")]]


def _side_by_side(blocks: Sequence[list[Line]], width: int) -> list[Line]:
    """Return blocks of lines side by side, each `width` cells wide."""
    lines = []
    for row in zip_longest(*blocks, fillvalue=[("", "")]):
        line: Line = []
        for place, piece in enumerate(row):
            if place:
                line.append((" " * 4, ""))
            line += piece
            if place < len(row) - 1:
                line.append((" " * (width - sum(width_of(text) for text, _ in piece)), ""))
        lines.append(line)
    return lines


# --- shared -----------------------------------------------------------------------------------------


def _colors(one: Preview) -> dict[str, tuple[str, str]]:
    """Return the color of each searched hyperparameter, for matplotlib and Rich."""
    others = [name for name in one.searched if name not in NAMED]
    return {**NAMED, **{name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}}


def _lr_range(one: Preview) -> tuple[float, float]:
    """Return the ends of the logarithmic axis."""
    lrs = np.concatenate([one.lr_LS.ravel(), *(extreme.lr_S for extreme in one.extremes)])
    high = float(lrs.max())
    return max(float(lrs[lrs > 0].min(initial=high)), FLOOR * high), high


def _heights(lr_S: Floats, low: float, high: float, log: bool) -> Floats:
    """Return heights from 0 to 1: the LR over its maximum, or its position on the logarithmic axis."""
    if not log:
        linear: Floats = lr_S / (lr_S.max() or 1.0)
        return linear
    if low == high:
        return np.full(len(lr_S), 0.5)
    with np.errstate(divide="ignore"):
        height: Floats = np.log(lr_S / low) / math.log(high / low)
    return np.where(np.isfinite(height), height, np.nan)


# --- the picture ------------------------------------------------------------------------------------


def picture(previews: Sequence[Preview]) -> Figure:
    """Draw all families in a grid, each on two axes."""
    from matplotlib.figure import Figure

    across = 1 if len(previews) == 1 else 2 if len(previews) <= 12 else 3
    rows = math.ceil(len(previews) / across)
    wide, high, top = (9.0, 4.2, 0.7) if across == 1 else (4.7, 2.4, 0.7)  # inches
    width, height = wide * across, high * rows + top
    with panels.plot_style():
        figure = Figure(figsize=(width, height), dpi=100)
        figure.text(0.15 / width, 1 - 0.1 / height, _title(previews), va="top", fontsize=10)
        for place, one in enumerate(previews):
            row, column = divmod(place, across)
            left, bottom = column * wide, height - top - (row + 1) * high
            boxes = [(left + 0.45, wide / 2 - 0.65), (left + wide / 2 + 0.4, wide / 2 - 0.55)]
            linear, log = (
                figure.add_axes((x / width, (bottom + 0.4) / height, w / width, (high - 1.05) / height))
                for x, w in boxes
            )
            _draw(one, linear, log)
            corner = ((left + 0.1) / width, (bottom + high - 0.1) / height)
            name = clean(one.family) + ("" if one.controller is None else " (multiplier at 1)")
            figure.text(*corner, name, va="top", fontsize=10, fontweight="bold")
            _add_legend(figure, one, ((left + 0.02) / width, (bottom + high - 0.22) / height))
    return figure


def _title(previews: Sequence[Preview]) -> str:
    count = max(len(one.lr_LS) for one in previews)
    return (
        f"Left: LR / its maximum.  Right: LR, logarithmic.  {previews[0].steps} updates.\n"
        f"Thin: {count} candidates of a random sampler.  Thick: one hyperparameter at its highest (solid)\n"
        "or lowest (dashed) value, the others at their middle."
    )


def _draw(one: Preview, linear: Axes, log: Axes) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    colors = _colors(one)
    low, high = _lr_range(one)
    places = np.unique(np.linspace(0, one.lr_LS.shape[1] - 1, POINTS).round().astype(np.int64))
    update_S = (places + 1) * one.steps / one.lr_LS.shape[1]
    thick = 2.0 if one.searched else 2.5
    for axes, relative in ((linear, True), (log, False)):
        thin_LS = one.lr_LS / one.lr_LS.max(axis=1, keepdims=True) if relative else one.lr_LS
        if one.searched:
            axes.plot(update_S, thin_LS[:, places].T, color="#999999", linewidth=0.5, alpha=0.6)
        for extreme in one.extremes:
            style: dict[str, Any] = {"color": colors.get(extreme.name, ("#222222", ""))[0], "linewidth": thick}
            lr_S = extreme.lr_S / extreme.lr_S.max() if relative else extreme.lr_S
            axes.plot(update_S, lr_S[places], **style, linestyle="dashed" if extreme.end == "low" else "solid")
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=4)
    linear.set_ylim(0, 1.05)
    log.set_yscale("log")
    log.yaxis.set_minor_formatter(NullFormatter())
    log.set_ylim(min(low / 1.5, high / 20), high * 2)
    log.yaxis.set_minor_locator(NullLocator())


def _add_legend(figure: Figure, one: Preview, corner: tuple[float, float]) -> None:
    """Add a legend of the searched hyperparameters with the ends of their ranges, in their colors."""
    from matplotlib.lines import Line2D

    ends = {(extreme.name, extreme.end): value_word(extreme.value) for extreme in one.extremes}
    colors = _colors(one)
    handles = [Line2D([], [], color=colors[name][0], linewidth=2) for name in one.searched]
    labels = [f"{name} {ends[name, 'low']} to {ends[name, 'high']}" for name in one.searched]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": corner, "borderpad": 0.2}
    shape: dict[str, Any] = {"ncols": 2, "fontsize": 7, "handlelength": 1.2, "columnspacing": 1.0, "labelspacing": 0.2}
    figure.legend(handles, labels, **place, **shape)
