"""Pictures of a stored sweep, as matplotlib Figures: LRs, losses, peak LR against the objective, the best so far.

Each is a pure function of the sweep, running or finished. A family looks the same in all pictures and all sweeps:
the color says its kin, dash and marker which of them. matplotlib is imported where a picture is made, and pyplot
never: no window, no global state.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.text.colors import KIN, kin_of
from sweeper.text.columns import clean, value_text
from sweeper.types import Floats, InputError, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sweeper.results.stored import StoredSweep

WIDTH, HEIGHT = 9.0, 4.6  # inches; 900 px at 100 dots an inch
DPI = 150
BEST_OF_STUDY = 5  # trials of one study that are shown
MOST_POINTS = 2000  # of a line
FLOOR = 1e-6  # of the largest LR: below it a logarithmic axis ends
WIDE = 4.0  # largest over smallest from which positive values get a logarithmic axis
SMOOTH = 50  # parts of a run over each of which the training loss is averaged
CLOSE_UP = 6.0
BESIDE, ACROSS, ROW_HEIGHT = 14, 4, 0.2  # entries of a legend beside the axes; of a row below them; inches
FORMATS = (".png", ".svg")

# --- how a family looks -----------------------------------------------------------------------------

DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "P")


@dataclass(frozen=True)
class Look:
    """Colour, dash pattern and marker, as matplotlib takes them."""

    color: str
    dash: Any
    marker: str


def look(family: str) -> Look:
    """How a family is drawn, always. One of a person's own gets a color by its name and the last dash and marker."""
    color, place = kin_of(family)
    return Look(color, DASHES[place], MARKERS[place])


# --- the pictures of a sweep ------------------------------------------------------------------------


def draw_all(sweep: StoredSweep, study: str | None = None) -> dict[str, Figure]:
    """Every picture by its name. study: of that one alone, its five best trials in place of one a family."""
    pictures = {"schedules": schedules, "losses": losses, "peak_lr": peak_lr, "best_so_far": best_so_far}
    return {name: picture(sweep, study) for name, picture in pictures.items()}


def schedules(sweep: StoredSweep, study: str | None = None) -> Figure:
    """The LR of each family's best trial (of a study: its five best), on a linear and on a logarithmic axis."""
    shown = _best_trials(sweep, study)
    with plot_style():
        figure, (linear, log) = _new_figure(f"{sweep.name}: LR of {_subject(study)}", columns=2)
        largest = 0.0
        for one in shown:
            trace = _trace(sweep, one.record, 0)
            if trace is None or "lr/group0" not in trace:
                continue
            step_S, lr_S = _thin(trace["step"], trace["lr/group0"])
            largest = max(largest, float(lr_S.max()))
            for axes, values_S in ((linear, lr_S), (log, np.where(lr_S > 0, lr_S, np.nan))):
                axes.plot(step_S, values_S, color=one.color, linestyle=one.dash, linewidth=1.8, label=one.label)
        linear.set(xlabel="update", ylabel="LR")
        log.set(xlabel="update", ylabel="LR, logarithmic")
        if largest > 0:
            linear.set_ylim(bottom=0)
            log.set_yscale("log")
            log.set_ylim(bottom=max(log.get_ylim()[0], FLOOR * largest))
        _add_legend(figure, linear, sweep)
    return figure


def losses(sweep: StoredSweep, study: str | None = None) -> Figure:
    """Validation loss of each family's best trial, its training loss faint and averaged over 1/50 of the run.

    Beside the whole run the validation in its second half, at a scale that tells the best apart.
    """
    shown = _best_trials(sweep, study)
    with plot_style():
        figure, (whole, end) = _new_figure(f"{sweep.name}: losses of {_subject(study)}", columns=2)
        values, ends = [math.nan], []
        for one in shown:
            drawn: dict[str, Any] = {"color": one.color, "linestyle": one.dash}
            train, valid = (_median_trace(sweep, one.record, name) for name in ("train/loss", "valid/loss"))
            if train is not None:
                whole.plot(*_smooth(*train), **drawn, linewidth=0.9, alpha=0.4)
            if valid is not None:
                for axes in (whole, end):
                    axes.plot(*valid, **drawn, marker=one.marker, markersize=3.5, label=one.label)
                values += valid[1].tolist()
                ends.append(valid)
        whole.set(xlabel="update", ylabel="validation loss (faint: training loss)")
        end.set(xlabel="update, second half")
        _set_scale(whole, values)
        if ends:
            steps = max(float(step_S[-1]) for step_S, _ in ends)
            end.set_xlim(steps / 2, steps * 1.01)
            _set_close_up(end, [float(loss_S[-1]) for _, loss_S in ends], "minimize")
        _add_legend(figure, whole, sweep)
    return figure


def peak_lr(sweep: StoredSweep, study: str | None = None) -> Figure:
    """The objective against the peak LR, every trial: pruned ones hollow, at their last value.

    Diverged ones are crosses at the edge where bad values lie: the top, or the bottom of a metric to maximise.
    """
    records = [record for record in sweep.records if study in (None, record.study) and _peak_lr(record)]
    edge = 0.98 if sweep.objective["direction"] == "minimize" else 0.02
    with plot_style():
        figure, (axes,) = _new_figure(f"{sweep.name}: every trial")
        values = [math.nan]
        for family in sorted({record.family for record in records}):
            values += _draw_trials(axes, family, [record for record in records if record.family == family], edge)
        key: dict[str, Any] = {"linestyle": "none", "color": "#888888"}
        axes.plot([], [], **key, marker="o", markerfacecolor="none", label="pruned: its last value")
        axes.plot([], [], **key, marker="x", label="diverged")
        axes.set(xlabel="peak LR", ylabel=_metric_label(sweep), xscale="log" if records else "linear")
        _set_scale(axes, values)
        axes.margins(y=0.08)
        _add_legend(figure, axes, None, "" if records else "No trial yet.")
    return figure


def _draw_trials(axes: Axes, family: str, records: Sequence[Record], edge: float) -> list[float]:
    """Draw the trials of one family; the values there are."""
    looks = look(family)
    full = [(_peak_lr(r), float(r.value)) for r in records if r.state == "complete" and r.value is not None]
    last = [(_peak_lr(r), r.intermediate[-1][1]) for r in records if r.state == "pruned" and r.intermediate]
    burst = [(_peak_lr(r), edge) for r in records if r.state == "diverged"]
    mark: dict[str, Any] = {"linestyle": "none", "color": looks.color, "markersize": 6}
    axes.plot(*_xs_and_ys(last), **mark, marker=looks.marker, markerfacecolor="none", alpha=0.7)
    solid: dict[str, Any] = {**mark, "marker": looks.marker, "markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.plot(*_xs_and_ys(full), **solid, label=clean(family))
    axes.plot(*_xs_and_ys(burst), **mark, marker="x", transform=axes.get_xaxis_transform(), clip_on=False)
    return [value for _, value in (*full, *last)]


def best_so_far(sweep: StoredSweep, study: str | None = None) -> Figure:
    """The best objective of each family's complete trials, against the trials asked."""
    direction = sweep.objective["direction"]
    labels = _labels(sweep)
    lines = []
    for name in sorted({record.study for record in sweep.records if study in (None, record.study)}):
        records = sorted((r for r in sweep.records if r.study == name), key=lambda record: record.number)
        best_K = _running_best(records, direction)
        if math.isfinite(best_K[-1]):
            lines.append((labels[name], look(records[0].family), best_K))
    lines.sort(key=lambda line: float(line[2][-1]), reverse=direction == "maximize")
    with plot_style():
        figure, (axes,) = _new_figure(f"{sweep.name}: the best so far")
        for label, looks, best_K in lines:
            drawn: dict[str, Any] = {"color": looks.color, "linestyle": looks.dash, "marker": looks.marker}
            new_K = np.flatnonzero(np.diff(best_K, prepend=math.nan) != 0)
            asked_K = np.arange(1, len(best_K) + 1)
            label = f"{label}  {value_text(best_K[-1])}"
            axes.plot(asked_K, best_K, **drawn, drawstyle="steps-post", markersize=4, markevery=new_K, label=label)
        axes.set(xlabel="trials asked", ylabel=f"best {_metric_label(sweep)}")
        axes.locator_params(axis="x", integer=True)
        _set_close_up(axes, [float(best_K[-1]) for _, _, best_K in lines], direction)
        _add_legend(figure, axes, sweep)
    return figure


def _running_best(records: Sequence[Record], direction: str) -> Floats:
    """The best value of a complete trial up to each of them; NaN before the first."""
    values_K = [r.value if r.state == "complete" and r.value is not None else math.nan for r in records]
    best_K: Floats = (np.fmin if direction == "minimize" else np.fmax).accumulate(np.array(values_K, dtype=np.float64))
    return best_K


# --- files ------------------------------------------------------------------------------------------


def save(figure: Figure, path: Path) -> None:
    """Write a PNG or SVG, by the path's suffix, whole or not at all; equal figures give equal bytes."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(image(figure, suffix(path)))
    partial.replace(path)


def image(figure: Figure, kind: str = ".png") -> bytes:
    """The bytes of a figure's file, PNG or SVG."""
    metadata = {"Software": None} if kind == ".png" else {"Date": None}
    written = io.BytesIO()
    with plot_style():
        figure.savefig(written, format=kind.removeprefix("."), metadata=metadata, dpi=DPI)
    return written.getvalue()


def suffix(path: Path, key: str = "out") -> str:
    """ ".png" or ".svg". Raises InputError for any other. key: by which a person gave the path."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(key, path, "not the name of a picture", "End it with .png or .svg")
    return path.suffix.lower()


# --- which trials -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrialLine:
    """A trial that is drawn as a line."""

    record: Record
    label: str
    color: str
    dash: Any
    marker: str


def _best_trials(sweep: StoredSweep, study: str | None) -> list[TrialLine]:
    """The best complete trial of each study, the best first; or the five best of one study."""
    if study is not None:
        return _best_of_study(sweep, study)
    by_id = {(record.study, record.number): record for record in sweep.records}
    labels = _labels(sweep)
    ranked = sweep.families.dropna(subset=["rank"]).sort_values("rank", kind="stable")
    shown = []
    for study, trial in zip(ranked["study"], ranked["best_trial"], strict=True):
        record = by_id[study, int(trial)]
        looks = look(record.family)
        label = f"{labels[study]}  {value_text(record.value)}"
        shown.append(TrialLine(record, label, looks.color, looks.dash, looks.marker))
    return shown


def _best_of_study(sweep: StoredSweep, study: str) -> list[TrialLine]:
    sign = 1 if sweep.objective["direction"] == "minimize" else -1
    complete = [r for r in sweep.records if r.study == study and r.state == "complete" and _is_finite(r.value)]
    complete.sort(key=lambda record: (sign * float(record.value or 0.0), record.number))
    colors = [color for color, _ in KIN]
    return [
        TrialLine(record, f"trial {record.number}  {value_text(record.value)}", colors[i], DASHES[i], MARKERS[i])
        for i, record in enumerate(complete[:BEST_OF_STUDY])
    ]


def _labels(sweep: StoredSweep) -> dict[str, str]:
    """What to call each study: by its family, or where the family has several, by its own name."""
    families = {record.study: record.family for record in sweep.records}
    studies = Counter(families.values())
    return {study: clean(family if studies[family] == 1 else study) for study, family in families.items()}


def _subject(study: str | None) -> str:
    return "each family's best trial" if study is None else f"the best trials of {clean(study)}"


def _peak_lr(record: Record) -> float | None:
    lr = record.params.get("peak_lr")
    return float(lr) if isinstance(lr, int | float) and lr > 0 else None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _xs_and_ys(points: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [x for x, _ in points], [y for _, y in points]


# --- their traces -----------------------------------------------------------------------------------


def _trace(sweep: StoredSweep, record: Record, member: int) -> Any:
    """What was logged of one member; None where nothing is left of it."""
    try:
        return sweep.trace(record.study, record.number, member)
    except KeyError:
        return None


def _median_trace(sweep: StoredSweep, record: Record, name: str) -> tuple[Floats, Floats] | None:
    """Steps and values of a trace, the median over the trial's members; None where nothing is left of it."""
    traces = [_trace(sweep, record, member) for member in range(max(1, len(record.seeds)))]
    known = [trace[["step", name]].dropna() for trace in traces if trace is not None and name in trace]
    if not known or not len(known[0]):
        return None
    values_MS = np.array([one[name].to_numpy() for one in known if len(one) == len(known[0])])
    return known[0]["step"].to_numpy(dtype=np.float64), np.median(values_MS, axis=0)


def _thin(step: Any, values: Any) -> tuple[Floats, Floats]:
    """At most MOST_POINTS of the points, the first and the last among them."""
    step_S, values_S = np.asarray(step, dtype=np.float64), np.asarray(values, dtype=np.float64)
    places = np.unique(np.linspace(0, len(step_S) - 1, min(len(step_S), MOST_POINTS)).round().astype(np.int64))
    return step_S[places], values_S[places]


def _smooth(step_S: Floats, values_S: Floats) -> tuple[Floats, Floats]:
    """The mean of each SMOOTH-th of the run, at its middle."""
    parts = np.array_split(np.arange(len(step_S)), min(SMOOTH, len(step_S)))
    return np.array([step_S[part].mean() for part in parts]), np.array([values_S[part].mean() for part in parts])


# --- axes -------------------------------------------------------------------------------------------


@contextmanager
def plot_style() -> Iterator[None]:
    """matplotlib's own settings and ours, whatever the person's matplotlibrc says: equal input, equal bytes."""
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
    with style.context(ours, after_reset=True):
        yield


def _new_figure(title: str, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of that title with so many axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=100, layout="constrained")
    figure.suptitle(clean(title), fontsize=11)
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _add_legend(
    figure: Figure, axes: Axes, sweep: StoredSweep | None, empty: str = "No trial is complete yet."
) -> None:
    """What the lines are, beside the axes, or where they are many, below them and the figure higher.

    sweep: where the labels carry its objective. empty: what is said in axes without a line.
    """
    handles, labels = axes.get_legend_handles_labels()
    if not handles or (sweep is None and empty):
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", va="center", color="#666666")
    if not handles:
        return
    title = None if sweep is None else f"best {clean(str(sweep.objective['metric']))}"
    if len(handles) <= BESIDE:
        figure.legend(handles, labels, loc="outside right upper", title=title, alignment="left")
        return
    rows = math.ceil(len(handles) / ACROSS)
    figure.set_size_inches(WIDTH, HEIGHT + ROW_HEIGHT * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=ACROSS, title=title)


def _set_scale(axes: Axes, values: Iterable[float]) -> None:
    """A logarithmic y axis where all values are positive and far apart, its ticks in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finite = [value for value in values if math.isfinite(value)]
    if not finite or min(finite) <= 0 or max(finite) < WIDE * min(finite):
        return
    axes.set_yscale("log")
    few_decades = max(finite) < 100 * min(finite)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if few_decades else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _set_close_up(axes: Axes, finals: Sequence[float], direction: str) -> None:
    """End the y axis, on its bad side, at CLOSE_UP times the median distance of the finals from the best one."""
    finite = [value for value in finals if math.isfinite(value)]
    best = (min if direction == "minimize" else max)(finite, default=0.0)
    distances = sorted(abs(value - best) for value in finite)
    reach = CLOSE_UP * float(np.median(distances)) if distances else 0.0
    if reach == 0.0:
        return
    good, bad = best - 0.1 * reach, best + reach
    axes.set_ylim((good, bad) if direction == "minimize" else (best - reach, best + 0.1 * reach))


def _metric_label(sweep: StoredSweep) -> str:
    sense = "lower" if sweep.objective["direction"] == "minimize" else "higher"
    return f"{clean(str(sweep.objective['metric']))} ({sense} is better)"
