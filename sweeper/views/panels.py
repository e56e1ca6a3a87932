"""What the figures show, each drawn into axes: of a figure of its own (`figures`), or of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.results import words
from sweeper.results.verdict import Configuration, Contrast, Verdict
from sweeper.text.columns import clean, value_text
from sweeper.types import Direction, Floats, Record, extreme
from sweeper.views.curves import Curve, Points, labels, smooth, thin
from sweeper.views.looks import Look, look, looks_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from sweeper.results.chosen import Chosen
    from sweeper.results.stored import StoredSweep

FLOOR = 1e-6  # lower end of a logarithmic LR axis, relative to the largest LR
WIDE = 4.0  # ratio of the largest to the smallest value from which an axis is logarithmic
CLOSE_UP = 12.0  # median distances from the best value that a close-up shows at most
END = 0.25  # share of the run that the close-up of its end shows
UP, DOWN = 6, 7  # matplotlib's carets, drawn at the edge beyond which a value is
BAND = 0.14  # share of the axes for what is beyond them
GREY = "#888888"


@contextmanager
def plot_style(**changes: Any) -> Iterator[None]:
    """Use matplotlib's defaults and our settings. The user's matplotlibrc is ignored: equal input gives equal bytes."""
    from matplotlib import style

    ours = {
        "font.size": 10,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.6,
        "svg.hashsalt": "sweeper",
    }
    with style.context({**ours, **changes}, after_reset=True):
        yield


# --- lines of single configurations -----------------------------------------------------------------


def draw_lr(axes: Axes, curves: Sequence[Curve], *, log: bool = False) -> None:
    """Draw the LR of each configuration, on a linear axis from 0 or a logarithmic one."""
    largest = 0.0
    for curve in curves:
        if curve.lr is not None:
            step_S, lr_S = thin(curve.lr)
            largest = max(largest, float(lr_S.max()))
            shown_S = np.where(lr_S > 0, lr_S, np.nan) if log else lr_S
            axes.plot(step_S, shown_S, **_line(curve.look), linewidth=1.8, label=curve.label)
    axes.set(xlabel="update", ylabel="LR, logarithmic" if log else "LR")
    if largest > 0 and log:
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(axes.get_ylim()[0], FLOOR * largest))
        label_decades(axes.yaxis)
    elif largest > 0:
        axes.set_ylim(bottom=0)


def draw_losses(axes: Axes, curves: Sequence[Curve], *, train: bool = True) -> None:
    """Draw the validation loss of each configuration, and faintly the training loss, averaged over parts of the run."""
    for curve in curves:
        if train and curve.train is not None:
            axes.plot(*smooth(curve.train), **_line(curve.look), linewidth=0.9, alpha=0.4)
        if curve.valid is not None:
            axes.plot(*curve.valid, **_line(curve.look), marker=curve.look.marker, markersize=3.5, label=curve.label)
    axes.set(xlabel="update", ylabel="validation loss (faint: training loss)" if train else "validation loss")


def draw_objective(axes: Axes, curves: Sequence[Curve], objective: str) -> None:
    """Draw the objective at each report of each configuration. `objective` is the label of the axis."""
    for curve in curves:
        if curve.objective is not None:
            style: dict[str, Any] = {"marker": curve.look.marker, "markersize": 3.5, "label": curve.label}
            axes.plot(*curve.objective, **_line(curve.look), **style)
    axes.set(xlabel="update", ylabel=objective)


def show_end(axes: Axes, lines: Iterable[Points | None], direction: Direction, share: float = END) -> None:
    """Limit the axes to the last share of the run, and to the values where the lines differ."""
    found = [line for line in lines if line is not None]
    if found:
        steps = max(float(step_S[-1]) for step_S, _ in found)
        axes.set_xlim(steps * (1 - share), steps * (1 + share / 50))
        show_where_they_differ(axes, [float(values_S[-1]) for _, values_S in found], direction)


def show_end_of_lr(axes: Axes, curves: Sequence[Curve], share: float = END) -> None:
    """Limit the axes to the last share of the run, and to the LRs there, at most three decades."""
    found = [curve.lr for curve in curves if curve.lr is not None]
    if not found:
        return
    steps = max(float(step_S[-1]) for step_S, _ in found) + 1
    start = steps * (1 - share)
    shown = np.concatenate([lr_S[(step_S >= start) & (lr_S > 0)] for step_S, lr_S in found])
    axes.set_xlim(start, steps * (1 + share / 50))
    if len(shown):
        axes.set_ylim(max(shown.min() / 1.3, shown.max() / 1000), shown.max() * 1.3)
        label_decades(axes.yaxis)


def draw_run(axes: tuple[Axes, Axes], sweep: StoredSweep, curves: Sequence[Curve]) -> None:
    """Draw LR and objective of the whole run into two axes, one above the other."""
    above, below = axes
    draw_lr(above, curves)
    draw_objective(below, curves, metric_label(sweep))
    set_scale(below, [float(value) for curve in curves if curve.objective is not None for value in curve.objective[1]])
    _share_x(above, below)


def draw_end(axes: tuple[Axes, Axes], sweep: StoredSweep, curves: Sequence[Curve]) -> None:
    """Draw LR and objective of the end of the run into two axes, one above the other."""
    above, below = axes
    draw_lr(above, curves, log=True)
    show_end_of_lr(above, curves)
    draw_objective(below, curves, metric_label(sweep))
    show_end(below, [curve.objective for curve in curves], sweep.objective["direction"])
    below.set_xlabel(f"update, the last {END:.0%}")
    _share_x(above, below)


def _share_x(above: Axes, below: Axes) -> None:
    """Label the updates below only, and draw both over the same ones."""
    drawn = [axes.get_xlim() for axes in (above, below) if axes.lines]
    if drawn:
        shared = min(low for low, _ in drawn), max(high for _, high in drawn)
        above.set_xlim(shared)
        below.set_xlim(shared)
    above.set_xlabel("")
    above.tick_params(labelbottom=False)


# --- trials -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """A trial with a value that can be drawn."""

    record: Record
    value: float


def draw_peak_lr(
    axes: Axes, sweep: StoredSweep, study: str | None = None, marked: Chosen | None = None
) -> tuple[int, int]:
    """Draw the objective of every trial against its peak LR, where the families' lowest values differ.

    Pruned trials are hollow, at their last value. Diverged ones are crosses at the bad edge: the top if lower is
    better, else the bottom. Values beyond the axes are carets at the edge.

    Args:
        axes: Where to draw.
        sweep: The sweep.
        study: Draw the trials of this study alone.
        marked: A trial that gets a ring.

    Returns:
        How many trials are drawn, and how many of them are beyond the axes.
    """
    direction = sweep.objective["direction"]
    records = [r for r in sweep.records if study in (None, r.study) and not r.prior_of and peak_lr_of(r)]
    axes.set(xlabel="peak LR", ylabel=metric_label(sweep), xscale="log" if records else "linear")
    trials = [_Trial(record, value) for record in records if (value := _last_value(record)) is not None]
    finals = _finals(trials, direction)
    show_where_they_differ(axes, finals, direction)
    limits = (-math.inf, math.inf) if axes.get_autoscaley_on() else axes.get_ylim()
    if limits[0] == -math.inf:
        set_scale(axes, [trial.value for trial in trials])
        axes.margins(y=0.08)
    else:
        _add_band(axes, is_high=direction == "minimize")
    inside = [trial for trial in trials if limits[0] <= trial.value <= limits[1]]
    names, looks = labels(sweep), looks_of(sweep.records)
    for name in sorted({record.study for record in records}):
        burst = [record for record in records if record.study == name and record.state == "diverged"]
        _draw_trials(axes, [trial for trial in inside if trial.record.study == name], looks[name], names[name])
        if burst:
            _draw_at_edge(axes, burst, looks[name], is_high=direction == "minimize")
    beyond = [trial for trial in trials if not limits[0] <= trial.value <= limits[1]]
    for name in sorted({trial.record.study for trial in beyond}):
        _draw_carets(axes, [trial for trial in beyond if trial.record.study == name], looks[name], limits[1])
    if marked is not None and (lr := peak_lr_of(marked.record)) and marked.record.value is not None:
        ring: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 15, "markerfacecolor": "none"}
        kind = {"winner": "winner", "leader": "leader", "named": "named", "search": extreme(direction)}[marked.reason]
        label = f"{clean(marked.name)}, {kind}"
        axes.plot([lr], [marked.record.value], **ring, markeredgecolor="#000000", markeredgewidth=1.4, label=label)
    if records:
        label_decades(axes.xaxis)
    return len(records), len(beyond)


def _last_value(record: Record) -> float | None:
    """Return the value of a complete trial, or the last one of a pruned trial; None for others."""
    if record.state == "complete":
        return record.value if record.value is not None and math.isfinite(record.value) else None
    return record.intermediate[-1][1] if record.state == "pruned" and record.intermediate else None


def _finals(trials: Sequence[_Trial], direction: Direction) -> list[float]:
    """Return the best value of each study; of a single study the better half of its values."""
    complete = [trial for trial in trials if trial.record.state == "complete"]
    studies = {trial.record.study for trial in complete}
    best_first = sorted((trial.value for trial in complete), reverse=direction == "maximize")
    if len(studies) == 1:
        return best_first[: (len(best_first) + 1) // 2]
    best = min if direction == "minimize" else max
    return [best(trial.value for trial in complete if trial.record.study == study) for study in sorted(studies)]


def _add_band(axes: Axes, *, is_high: bool) -> None:
    """Add a grey band at the bad edge for what is beyond the axis, so that no value lies where carets are."""
    from matplotlib.patches import Rectangle

    low, high = axes.get_ylim()
    band = BAND / (1 - BAND) * (high - low)
    axes.set_ylim(low if is_high else low - band, high + band if is_high else high)
    corner = (0.0, 1 - BAND if is_high else 0.0)
    axes.add_patch(Rectangle(corner, 1.0, BAND, transform=axes.transAxes, color=GREY, alpha=0.15, linewidth=0))


def _draw_trials(axes: Axes, trials: Sequence[_Trial], drawn: Look, label: str) -> None:
    """Draw the trials of a study: pruned ones hollow, complete ones full."""
    mark: dict[str, Any] = {"linestyle": "none", "color": drawn.color, "marker": drawn.marker, "markersize": 6}
    points = {
        state: [(trial.record.params["peak_lr"], trial.value) for trial in trials if trial.record.state == state]
        for state in ("pruned", "complete")
    }
    axes.plot(*_xs_and_ys(points["pruned"]), **mark, markerfacecolor="none", alpha=0.7)
    axes.plot(*_xs_and_ys(points["complete"]), **mark, markeredgecolor="white", markeredgewidth=0.5, label=label)


def _draw_at_edge(axes: Axes, diverged: Sequence[Record], drawn: Look, *, is_high: bool) -> None:
    mark: dict[str, Any] = {"linestyle": "none", "color": drawn.color, "marker": "x", "markersize": 6}
    points = [(record.params["peak_lr"], 1 - 0.25 * BAND if is_high else 0.25 * BAND) for record in diverged]
    axes.plot(*_xs_and_ys(points), **mark, transform=axes.get_xaxis_transform(), clip_on=False)


def _draw_carets(axes: Axes, trials: Sequence[_Trial], drawn: Look, high: float) -> None:
    """Draw the trials of a study whose values are beyond the axes at their edge: pruned ones hollow."""
    mark: dict[str, Any] = {"linestyle": "none", "color": drawn.color, "markersize": 6, "alpha": 0.6}
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    for state, face in (("pruned", "none"), ("complete", drawn.color)):
        for is_high, caret, y in ((True, UP, 1 - 0.75 * BAND), (False, DOWN, 0.75 * BAND)):
            lrs = [
                t.record.params["peak_lr"] for t in trials if t.record.state == state and (t.value > high) == is_high
            ]
            if lrs:
                points = [(lr, y) for lr in lrs]
                axes.plot(*_xs_and_ys(points), **mark, **place, marker=caret, markerfacecolor=face)


def draw_key(axes: Axes, beyond: int) -> None:
    """Add what hollow markers, crosses and carets mean to the legend of `draw_peak_lr`."""
    key: dict[str, Any] = {"linestyle": "none", "color": GREY}
    axes.plot([], [], **key, marker="o", markerfacecolor="none", label="pruned: its last value")
    axes.plot([], [], **key, marker="x", label="diverged")
    if beyond:
        axes.plot([], [], **key, marker=UP, label=f"beyond the axis ({beyond})")


def draw_best_so_far(axes: Axes, sweep: StoredSweep, study: str | None = None, *, updates: bool = False) -> None:
    """Draw the best objective of each family's complete trials against its trials, or the updates they trained."""
    direction, names, looks = sweep.objective["direction"], labels(sweep), looks_of(sweep.records)
    counting = [record for record in sweep.records if not record.prior_of]  # as in the table
    lines = []
    for name in sorted({record.study for record in counting if study in (None, record.study)}):
        records = sorted((r for r in counting if r.study == name), key=lambda record: record.number)
        best_K = _running_best(records, direction)
        if math.isfinite(best_K[-1]):
            spent_K = np.cumsum([r.steps_done * max(1, len(r.seeds)) for r in records])
            lines.append((names[name], looks[name], best_K, spent_K if updates else np.arange(1, len(best_K) + 1)))
    lines.sort(key=lambda line: float(line[2][-1]), reverse=direction == "maximize")
    for label, drawn, best_K, x_K in lines:
        style: dict[str, Any] = {**_line(drawn), "marker": drawn.marker, "drawstyle": "steps-post", "markersize": 4}
        new_K = np.flatnonzero(np.diff(best_K, prepend=math.nan) != 0)
        axes.plot(x_K, best_K, **style, markevery=new_K, label=f"{label}  {value_text(best_K[-1])}")
    what = "updates trained" if updates else "trials"
    axes.set(xlabel=what, ylabel=f"{extreme(direction)} {metric_label(sweep)}")
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", integer=True, nbins=6)
    show_where_they_differ(axes, [float(best_K[-1]) for _, _, best_K, _ in lines], direction)


def _running_best(records: Sequence[Record], direction: Direction) -> Floats:
    """Return the best value of the complete trials up to each record, float64 [K]; NaN before the first."""
    values_K = [r.value if r.state == "complete" and r.value is not None else math.nan for r in records]
    best_K: Floats = (np.fmin if direction == "minimize" else np.fmax).accumulate(np.array(values_K, dtype=np.float64))
    return best_K


def peak_lr_of(record: Record) -> float | None:
    """Return the peak LR of a trial; None if it has none that a logarithmic axis can show."""
    lr = record.params.get("peak_lr")
    return float(lr) if isinstance(lr, int | float) and lr > 0 else None


def _xs_and_ys(points: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [x for x, _ in points], [y for _, y in points]


# --- the trainings of a confirmation ----------------------------------------------------------------


def draw_replicates(axes: Axes, verdict: Verdict) -> None:
    """Draw the objective of each configuration at each fresh seed as dots, with its mean; diverged seeds as crosses.

    The configurations are rows, the first at the top, in the order of the verdict.
    """
    rows = judged_rows(verdict)
    bad = 0.99 if verdict["objective"]["direction"] == "minimize" else 0.01
    for place, row in enumerate(rows):
        drawn, by_seed = look(row["family"]), values_by_seed(verdict, row)
        values = [value for value in by_seed.values() if value is not None]
        spots: dict[str, Any] = {"linestyle": "none", "color": drawn.color, "marker": "o", "markeredgewidth": 0}
        axes.plot(values, place + _spread(len(values)), **spots, markersize=4, alpha=0.7)
        diverged = sum(value is None for value in by_seed.values())
        across: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        crosses: dict[str, Any] = {"linestyle": "none", "color": drawn.color, "marker": "x", "markersize": 6}
        if diverged:  # an empty line that is not clipped would widen the margins
            axes.plot([bad] * diverged, place + _spread(diverged), **crosses, **across)
        if row["mean"] is not None:
            axes.plot([row["mean"]] * 2, [place - 0.33, place + 0.33], color="#000000", linewidth=1.8)
    _name_rows(axes, rows)
    axes.set(xlabel=f"{clean(verdict['objective']['metric'])}, a dot a seed; bars: means")


def draw_differences(axes: Axes, verdict: Verdict) -> None:
    """Draw by how much the leader is better than each other configuration at equal seeds, with the interval."""
    rows = judged_rows(verdict)
    contrasts = leads(verdict)
    for place, row in enumerate(rows):
        contrast = contrasts.get(words.name(row))
        if contrast is None:
            continue
        mean, low, high = words.gain(verdict, contrast)
        drawn = look(row["family"])
        if mean is not None and low is not None and high is not None:
            axes.plot([low, high], [place, place], color=drawn.color, linewidth=2.2, solid_capstyle="butt")
        if mean is not None:
            axes.plot([mean], [place], linestyle="none", color=drawn.color, marker=drawn.marker, markersize=6)
    axes.axvline(0, color=GREY, linewidth=1)
    _name_rows(axes, rows)
    leader = verdict["leader"]
    name = "the leader" if leader is None else f"{clean(leader['family'])}:{leader['trial']}"
    axes.set(xlabel=f"by how much {name} is better, with its interval")


def judged_rows(verdict: Verdict) -> list[Configuration]:
    """Return the configurations that were trained on the seeds that judge."""
    return [row for row in verdict["configurations"] if values_by_seed(verdict, row)]


def leads(verdict: Verdict) -> dict[str, Contrast]:
    """Return the contrast of the leader with each other configuration, by its name."""
    return {words.name(one["b"]): one for one in verdict["contrasts"] if one["question"] == "best"}


def values_by_seed(verdict: Verdict, row: Configuration) -> dict[int, float | None]:
    """Return the value of a configuration at each seed that judges, the mean over its folds; None if it diverged."""
    found: dict[int, list[float | None]] = {}
    for one in verdict["values"]:
        if one["stage"] == "judge" and (one["family"], one["trial"]) == (row["family"], row["trial"]):
            found.setdefault(one["seed"], []).append(one["value"] if one["state"] == "complete" else None)
    return {seed: _mean(values) for seed, values in found.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _spread(count: int) -> Floats:
    """Return the heights of so many dots within a row, in a fixed order, so that few of them hide each other."""
    heights_K: Floats = np.asarray(0.26 * (2 * ((np.arange(1, count + 1) * 0.618034) % 1.0) - 1), np.float64)
    return heights_K


def _name_rows(axes: Axes, rows: Sequence[Configuration]) -> None:
    names = [f"{clean(row['family'])}:{row['trial']}" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")


# --- axes -------------------------------------------------------------------------------------------


def set_scale(axes: Axes, values: Iterable[float]) -> None:
    """Make the y axis logarithmic if the values are positive and span a wide range."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) >= WIDE * min(finite):
        axes.set_yscale("log")
        label_decades(axes.yaxis)


def label_decades(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, such as 0.01: decades, and parts of them if there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else math.inf
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 1 else (1.0, 2.0, 5.0) if decades < 2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def show_where_they_differ(axes: Axes, finals: Sequence[float], direction: Direction) -> None:
    """Limit the y axis to the final values, except those that are too far on the bad side.

    Too far is more than CLOSE_UP times the median distance from the best: one bad value would flatten all the others.
    """
    finite = [value for value in finals if math.isfinite(value)]
    best = (min if direction == "minimize" else max)(finite, default=0.0)
    distances = sorted(abs(value - best) for value in finite)
    if not distances or distances[-1] == 0.0:
        return
    reach = min(CLOSE_UP * float(np.median(distances)), 1.15 * distances[-1]) or 1.15 * distances[-1]
    good, bad = best - 0.1 * reach, best + reach
    axes.set_ylim((good, bad) if direction == "minimize" else (best - reach, best + 0.1 * reach))


def metric_label(sweep: StoredSweep) -> str:
    """Return the objective's metric and which values are better."""
    sense = "lower" if sweep.objective["direction"] == "minimize" else "higher"
    return f"{clean(str(sweep.objective['metric']))} ({sense} is better)"


def _line(drawn: Look) -> dict[str, Any]:
    return {"color": drawn.color, "linestyle": drawn.dash}
