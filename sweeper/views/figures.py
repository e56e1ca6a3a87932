"""Matplotlib figures of a stored sweep: LRs, losses, objective against peak LR, best so far.

Each is a pure function of the sweep, running or finished. A family looks the same in all figures and all sweeps.
Related families share a color and differ in dash and marker. matplotlib is imported when a figure is drawn. pyplot is
never imported, because it has global state and may open windows.
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
from sweeper.types import Floats, InputError, Record, extreme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sweeper.results.stored import StoredSweep

WIDTH, HEIGHT = 9.0, 4.6  # inches; 900 px at 100 dots an inch
DPI = 150
BEST_OF_STUDY = 5  # trials in a figure of one study
MOST_POINTS = 2000  # of a line
FLOOR = 1e-6  # lower end of a logarithmic LR axis, relative to the largest LR
WIDE = 4.0  # ratio of the largest to the smallest value from which an axis is logarithmic
SMOOTH = 50  # parts of a run, over each of which the training loss is averaged
CLOSE_UP = 6.0  # median distances from the best value that a close-up shows
BESIDE, ACROSS, ROW_HEIGHT = 14, 4, 0.2  # entries of a legend next to the axes; per row below them; inches
FORMATS = (".png", ".svg")

# --- how a family looks -----------------------------------------------------------------------------

DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "P")


@dataclass(frozen=True)
class Look:
    """Color, dash pattern and marker, as matplotlib takes them."""

    color: str
    dash: Any
    marker: str


def look(family: str) -> Look:
    """Return how a family is drawn. A custom family has a color by its name, and the last dash and marker."""
    color, place = kin_of(family)
    return Look(color, DASHES[place], MARKERS[place])


# --- the figures of a sweep -------------------------------------------------------------------------


def draw_all(sweep: StoredSweep, study: str | None = None) -> dict[str, Figure]:
    """Return every figure by its name.

    Args:
        sweep: The sweep.
        study: A study whose BEST_OF_STUDY best trials are drawn; None to draw the best trial of each family. The other
            figures have the same argument.
    """
    drawings = {"schedules": schedules, "losses": losses, "peak_lr": peak_lr, "best_so_far": best_so_far}
    return {name: draw(sweep, study) for name, draw in drawings.items()}


def schedules(sweep: StoredSweep, study: str | None = None) -> Figure:
    """Draw the LR of the best trials, on a linear and a logarithmic axis."""
    lines = _best_trials(sweep, study)
    with plot_style():
        figure, (linear, log) = _new_figure(f"{sweep.name}: LR of {_subject(sweep, study)}", columns=2)
        largest = 0.0
        for one in lines:
            trace = _trace(sweep, one.record, 0)
            if trace is None or "lr/group0" not in trace:
                continue
            used = trace[["step", "lr/group0"]].dropna()
            step_S, lr_S = _thin(used["step"], used["lr/group0"])
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
    """Draw the validation loss of the best trials over the whole run, and a close-up of the second half.

    The training loss is faint, and averaged over parts of the run.
    """
    lines = _best_trials(sweep, study)
    with plot_style():
        figure, (whole, end) = _new_figure(f"{sweep.name}: losses of {_subject(sweep, study)}", columns=2)
        values, ends = [math.nan], []
        for one in lines:
            style: dict[str, Any] = {"color": one.color, "linestyle": one.dash}
            train, valid = (_median_trace(sweep, one.record, name) for name in ("train/loss", "valid/loss"))
            if train is not None:
                whole.plot(*_smooth(*train), **style, linewidth=0.9, alpha=0.4)
            if valid is not None:
                for axes in (whole, end):
                    axes.plot(*valid, **style, marker=one.marker, markersize=3.5, label=one.label)
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
    """Draw the objective of every trial against its peak LR.

    Pruned trials are hollow, at their last value. Diverged ones are crosses at the bad edge: the top if lower is
    better, else the bottom.
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
        _add_legend(figure, axes, None, "" if records else "No trials yet.")
    return figure


def _draw_trials(axes: Axes, family: str, records: Sequence[Record], edge: float) -> list[float]:
    """Draw the trials of one family, and return the drawn values."""
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
    """Draw the best objective of each family's complete trials against the number of trials."""
    direction = sweep.objective["direction"]
    labels = _labels(sweep)
    lines = []
    counting = [record for record in sweep.records if not record.prior_of]  # as in the table
    for name in sorted({record.study for record in counting if study in (None, record.study)}):
        records = sorted((r for r in counting if r.study == name), key=lambda record: record.number)
        best_K = _running_best(records, direction)
        if math.isfinite(best_K[-1]):
            lines.append((labels[name], look(records[0].family), best_K))
    lines.sort(key=lambda line: float(line[2][-1]), reverse=direction == "maximize")
    with plot_style():
        figure, (axes,) = _new_figure(f"{sweep.name}: {extreme(direction)} so far")
        for label, looks, best_K in lines:
            style: dict[str, Any] = {"color": looks.color, "linestyle": looks.dash, "marker": looks.marker}
            new_K = np.flatnonzero(np.diff(best_K, prepend=math.nan) != 0)
            count_K = np.arange(1, len(best_K) + 1)
            label = f"{label}  {value_text(best_K[-1])}"
            axes.plot(count_K, best_K, **style, drawstyle="steps-post", markersize=4, markevery=new_K, label=label)
        axes.set(xlabel="trials", ylabel=f"{extreme(direction)} {_metric_label(sweep)}")
        axes.locator_params(axis="x", integer=True)
        _set_close_up(axes, [float(best_K[-1]) for _, _, best_K in lines], direction)
        _add_legend(figure, axes, sweep)
    return figure


def _running_best(records: Sequence[Record], direction: str) -> Floats:
    """Return the best value of the complete trials up to each record, float64 [K]; NaN before the first."""
    values_K = [r.value if r.state == "complete" and r.value is not None else math.nan for r in records]
    best_K: Floats = (np.fmin if direction == "minimize" else np.fmax).accumulate(np.array(values_K, dtype=np.float64))
    return best_K


# --- files ------------------------------------------------------------------------------------------


def save(figure: Figure, path: Path) -> None:
    """Write a PNG or SVG, by the path's suffix, completely or not at all. Equal figures give equal bytes."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(image(figure, suffix(path)))
    partial.replace(path)


def image(figure: Figure, kind: str = ".png") -> bytes:
    """Return a figure as the bytes of a file of that kind, ".png" or ".svg"."""
    metadata = {"Software": None} if kind == ".png" else {"Date": None}
    file = io.BytesIO()
    with plot_style():
        figure.savefig(file, format=kind.removeprefix("."), metadata=metadata, dpi=DPI)
    return file.getvalue()


def suffix(path: Path, key: str = "out") -> str:
    """Return ".png" or ".svg".

    Args:
        path: The path of a figure.
        key: How the user gave the path; errors name it.

    Raises:
        InputError: If it has another suffix.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(key, path, "not the name of a picture", "End it with .png or .svg")
    return path.suffix.lower()


def picture_paths(out: str | None, name: str) -> list[Path]:
    """Return the files to write of a picture that the user asked for with `--out`.

    Args:
        out: A folder, new or existing, for `name`.png and `name`.svg; or one file that ends with .png or .svg. None for
            the working folder.
        name: What the files are called in a folder.

    Raises:
        InputError: If a file has another suffix, or the parent folder does not exist.
    """
    path = Path(out or ".")
    files = [path] if path.suffix and not path.is_dir() else [path / f"{name}{kind}" for kind in FORMATS]
    for file in files:
        suffix(file, "--out")
        if file.is_dir():
            raise InputError("--out", out, f"{file} is a folder", "Choose another file")
    if not path.parent.is_dir() or (path not in files and path.exists() and not path.is_dir()):
        problem = "a file that is not a picture" if path.exists() else f"there is no folder {path.parent}"
        raise InputError("--out", out, problem, "Choose an existing folder, or a file in one, such as lr.png")
    return files


# --- which trials -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrialLine:
    """A trial drawn as a line."""

    record: Record
    label: str
    color: str
    dash: Any
    marker: str


def _best_trials(sweep: StoredSweep, study: str | None) -> list[TrialLine]:
    """Return the best complete trial of each study, the best first; or the best ones of a given study."""
    if study is not None:
        return _best_of_study(sweep, study)
    by_id = {(record.study, record.number): record for record in sweep.records}
    labels = _labels(sweep)
    ranked = sweep.families.dropna(subset=["rank"]).sort_values("rank", kind="stable")
    lines = []
    for study, trial in zip(ranked["study"], ranked["best_trial"], strict=True):
        record = by_id[study, int(trial)]
        looks = look(record.family)
        label = f"{labels[study]}  {value_text(record.value)}"
        lines.append(TrialLine(record, label, looks.color, looks.dash, looks.marker))
    return lines


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
    """Return the label of each study: its family, or its own name if the family has several studies."""
    families = {record.study: record.family for record in sweep.records if not record.prior_of}
    studies = Counter(families.values())
    return {study: clean(family if studies[family] == 1 else study) for study, family in families.items()}


def _subject(sweep: StoredSweep, study: str | None) -> str:
    """Return whose curves a figure shows, for its title."""
    word = extreme(sweep.objective["direction"])
    return f"each family's {word} trial" if study is None else f"the {word} trials of {clean(study)}"


def _peak_lr(record: Record) -> float | None:
    lr = record.params.get("peak_lr")
    return float(lr) if isinstance(lr, int | float) and lr > 0 else None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _xs_and_ys(points: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [x for x, _ in points], [y for _, y in points]


# --- traces -----------------------------------------------------------------------------------------


def _trace(sweep: StoredSweep, record: Record, member: int) -> Any:
    """Return the traces of one member; None if there are none."""
    try:
        return sweep.trace(record.study, record.number, member)
    except InputError:
        return None


def _median_trace(sweep: StoredSweep, record: Record, name: str) -> tuple[Floats, Floats] | None:
    """Return steps and values of a trace, the median over the trial's members; None if there are none."""
    members = [_trace(sweep, record, member) for member in range(max(1, len(record.seeds)))]
    traces = [trace[["step", name]].dropna() for trace in members if trace is not None and name in trace]
    if not traces or not len(traces[0]):
        return None
    values_MS = np.array([trace[name].to_numpy() for trace in traces if len(trace) == len(traces[0])])
    return traces[0]["step"].to_numpy(dtype=np.float64), np.median(values_MS, axis=0)


def _thin(step: Any, values: Any) -> tuple[Floats, Floats]:
    """Return at most MOST_POINTS evenly spaced points, including the first and the last."""
    step_S, values_S = np.asarray(step, dtype=np.float64), np.asarray(values, dtype=np.float64)
    places = np.unique(np.linspace(0, len(step_S) - 1, min(len(step_S), MOST_POINTS)).round().astype(np.int64))
    return step_S[places], values_S[places]


def _smooth(step_S: Floats, values_S: Floats) -> tuple[Floats, Floats]:
    """Return the mean of each of SMOOTH parts of the run, at the middle of the part."""
    parts = np.array_split(np.arange(len(step_S)), min(SMOOTH, len(step_S)))
    return np.array([step_S[part].mean() for part in parts]), np.array([values_S[part].mean() for part in parts])


# --- axes -------------------------------------------------------------------------------------------


@contextmanager
def plot_style() -> Iterator[None]:
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
    with style.context(ours, after_reset=True):
        yield


def _new_figure(title: str, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a title, and its axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=100, layout="constrained")
    figure.suptitle(clean(title), fontsize=11)
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _add_legend(
    figure: Figure, axes: Axes, sweep: StoredSweep | None, empty: str = "No trial is complete yet."
) -> None:
    """Add a legend next to the axes; if it has many entries, below them in a taller figure.

    Args:
        figure: The figure.
        axes: The axes whose lines are listed.
        sweep: The sweep whose objective is part of the labels; None if they have no values.
        empty: The text for axes without lines.
    """
    handles, labels = axes.get_legend_handles_labels()
    if not handles or (sweep is None and empty):
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", va="center", color="#666666")
    if not handles:
        return
    title = None if sweep is None else f"{extreme(sweep.objective['direction'])} {clean(sweep.objective['metric'])}"
    if len(handles) <= BESIDE:
        figure.legend(handles, labels, loc="outside right upper", title=title, alignment="left")
        return
    rows = math.ceil(len(handles) / ACROSS)
    figure.set_size_inches(WIDTH, HEIGHT + ROW_HEIGHT * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=ACROSS, title=title)


def _set_scale(axes: Axes, values: Iterable[float]) -> None:
    """Make the y axis logarithmic, with plain ticks, if the values are positive and span a wide range."""
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
    """Limit the y axis on its bad side to CLOSE_UP times the median distance of the final values from the best."""
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
