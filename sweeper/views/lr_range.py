"""How an LR range test is shown: a table, what to type, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweeper.results.lr_range import DIVERGENCE, MINIMUM, STEEPEST, VALLEY, RangeTest
from sweeper.text.columns import Column, Line, clean, lay_out, wrap, write
from sweeper.text.numbers import lr_text
from sweeper.views import figures, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"off": "#0072b2", "on": "#d55e00"}  # of the ramps without and with warmup
MARKERS = {STEEPEST: "v", MINIMUM: "s", VALLEY: "o"}
MEANINGS = (
    "steepest: where the loss falls fastest. minimum / 10: a tenth of the LR of the lowest loss. valley: the middle of "
    "the longest descent. divergence: from where the loss stays above that of the untrained model. Losses are "
    "smoothed and are the median over the seeds; the last column is what single seeds say."
)
NO_DESCENT = "The loss fell clearly at no LR, so there is no suggestion. Try other LRs, or more updates or seeds."
NOT_BEST = (
    "This is where to search, not which LR is best: that depends on the schedule and on the length of the training."
)


class LRRange(RangeTest):
    """An LR range test in Python: `table`, `interval` and `figure`. A notebook shows the figure."""

    @cached_property
    def figure(self) -> Figure:
        """The smoothed losses against the LR, with suggestions and divergence points. A matplotlib Figure."""
        drawn = draw(self)
        vars(drawn)["_repr_png_"] = partial(figures.image, drawn)  # notebooks show only pyplot's figures by themselves
        return drawn

    def __repr__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in lines(self))

    def _repr_png_(self) -> bytes:
        return figures.image(self.figure)


def show(test: RangeTest, paths: Sequence[Path], *, for_programs: bool = False) -> None:
    """Write the pictures, then print the table or JSON.

    The JSON is {"label": str, "seeds": int, "updates": int, "points": [Point, ...], "interval": [low, high] | null,
    "pictures": [path, ...]}.

    Args:
        test: The range test.
        paths: The pictures to write.
        for_programs: Whether to print JSON.
    """
    figure = draw(test)
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        figures.save(figure, path)
    written = [str(path) for path in paths]
    if for_programs:
        print(json.dumps({**as_json(test), "pictures": written}, indent=2, allow_nan=False))
        return
    write(lambda width, unicode: lines(test, width, unicode))
    print(f"\nPictures: {', '.join(written)}")


def as_json(test: RangeTest) -> dict[str, object]:
    """Return what a range test says, for programs."""
    return {
        "label": test.label,
        "seeds": test.seeds,
        "updates": test.updates,
        "points": test.points,
        "interval": test.interval,
    }


def override(interval: tuple[float, float]) -> str:
    """Return what to type to search the interval, in quotes for a shell."""
    low, high = interval
    return f"'optimizer.peak_lr={{low: {low:g}, high: {high:g}, log: true}}'"


def lines(test: RangeTest, width: int | None = None, unicode: bool = True) -> list[Line]:
    """Return the table, and what to do with it."""
    lr_S = test.ramps[0].lr_S
    ends = f"LR {lr_text(lr_S[0])} to {lr_text(lr_S[-1])}"
    head = f"LR range test of {clean(test.label)}: {_seeds(test)}, {test.updates} updates, {ends}"
    points = test.points
    columns = [
        Column("warmup", [point["warmup"] for point in points], 100, right=False),
        Column("point", [point["point"] for point in points], 100, right=False),
        Column("LR", [lr_text(point["lr"]) for point in points], 100),
        Column("seeds", [_between(point["lowest"], point["highest"]) for point in points], 50, right=False),
    ]
    found = test.interval
    answer = [] if any(point["lr"] for point in points if point["point"] != DIVERGENCE) else [NO_DESCENT]
    answer += [] if found is None else [f"To search there: {override(found)}", NOT_BEST]
    paragraphs = [line for text in (*answer, MEANINGS) for line in wrap(text, width)]
    return [*wrap(head, width), [("", "")], *lay_out(columns, width, unicode=unicode), [("", "")], *paragraphs]


def _seeds(test: RangeTest) -> str:
    return "1 seed" if test.seeds == 1 else f"{test.seeds} seeds"


def _between(lowest: float | None, highest: float | None) -> str:
    return "-" if lowest is None else f"{lr_text(lowest)} to {lr_text(highest)}"


# --- the picture ------------------------------------------------------------------------------------


def draw(test: RangeTest) -> Figure:
    """Draw the smoothed losses against the LR: thin for each seed, thick for their median. Shaded: where to search."""
    from matplotlib.figure import Figure

    with panels.plot_style():
        figure = Figure(figsize=(figures.WIDTH, figures.HEIGHT), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        figure.suptitle(f"{clean(test.label)}: LR range test, {_seeds(test)}", fontsize=11)
        axes.set(xlabel="LR", ylabel="training loss, smoothed", xscale="log")
        for warmup in test.readings:
            _draw_reading(axes, test, warmup)
        if test.interval is not None:
            axes.axvspan(*test.interval, color="#888888", alpha=0.12, linewidth=0, label="to search")
        untrained = max(reading.curve.untrained for reading in test.readings.values())
        lowest = min(float(reading.curve.loss_S.min()) for reading in test.readings.values())
        room = max(untrained - lowest, 1e-3 * abs(untrained)) / 4
        axes.set_ylim(lowest - room, untrained + room)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _draw_reading(axes: Axes, test: RangeTest, warmup: str) -> None:
    reading, color = test.readings[warmup], COLORS[warmup]
    curve = reading.curve
    for one in reading.of_seeds:
        axes.plot(one.lr_S, one.loss_S, color=color, linewidth=0.7, alpha=0.5)
    axes.plot(curve.lr_S, curve.loss_S, color=color, linewidth=2, label=f"warmup {warmup}")
    for point in test.points:
        lr = point["lr"]
        if point["warmup"] != warmup or lr is None:
            continue
        if point["point"] == DIVERGENCE:
            axes.axvline(lr, color=color, linestyle=(0, (5, 1.5)), linewidth=1, label=f"divergence {lr_text(lr)}")
            continue
        loss = float(np.interp(np.log(lr), np.log(curve.lr_S), curve.loss_S))
        label = f"{point['point']} {lr_text(lr)}"
        mark = MARKERS[point["point"]]
        axes.plot([lr], [loss], mark, color=color, markeredgecolor="white", markersize=8, label=label)
