"""Matplotlib figures of a stored sweep, each with a title and a legend, and their files.

Each is a pure function of the sweep, running or finished. `panels` draws them, `looks` says how a family looks.
matplotlib is imported when a figure is drawn. pyplot is never imported, because it has global state and may open
windows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.files import writing
from sweeper.results.chosen import Chosen, chosen
from sweeper.text.columns import clean, join
from sweeper.types import InputError, extreme
from sweeper.views import curves, panels
from sweeper.views.panels import plot_style
from sweeper.views.setting import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sweeper.results.stored import StoredSweep

Curves = Sequence[curves.Curve]

WIDTH, HEIGHT = 9.0, 4.6  # inches; 900 px at 100 dots an inch
DPI = 150
NONE_COMPLETE = "No trial is complete yet."
BESIDE, ACROSS, ROW_HEIGHT = 14, 4, 0.2  # entries of a legend next to the axes; per row below them; inches
# Each kind of file, with the metadata that would make equal figures differ.
FORMATS: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


# --- the figures of a sweep -------------------------------------------------------------------------


def draw_all(sweep: StoredSweep, study: str | None = None) -> dict[str, Figure]:
    """Return every figure by its name.

    Args:
        sweep: The sweep.
        study: A study whose best trials are drawn; None to draw the best trial of each family. The other figures have
            the same argument. `known` are the curves of those trials, if they were read before.
    """
    found = curves.best_trials(sweep, study)
    drawn = {
        "schedules": schedules(sweep, study, found),
        "losses": losses(sweep, study, found),
        "lr_above_objective": lr_above_objective(sweep, study, found),
        "peak_lr": peak_lr(sweep, study),
        "best_so_far": best_so_far(sweep, study),
    }
    return drawn if study is not None or sweep.verdict is None else {**drawn, "replicates": replicates(sweep)}


def schedules(sweep: StoredSweep, study: str | None = None, known: Curves | None = None) -> Figure:
    """Draw the LR of the best trials, on a linear and a logarithmic axis."""
    found = curves.best_trials(sweep, study) if known is None else known
    with plot_style():
        figure, (linear, log) = _new_figure(f"{title(sweep)}\nLR of {_whose(sweep, study)}", columns=2)
        panels.draw_lr(linear, found)
        panels.draw_lr(log, found, log=True)
        _add_legend(figure, linear, _lowest(sweep))
    return figure


def losses(sweep: StoredSweep, study: str | None = None, known: Curves | None = None) -> Figure:
    """Draw the validation loss of the best trials over the whole run, and a close-up of the second half.

    The training loss is faint, and averaged over parts of the run.
    """
    found = curves.best_trials(sweep, study) if known is None else known
    with plot_style():
        figure, (whole, end) = _new_figure(f"{title(sweep)}\nlosses of {_whose(sweep, study)}", columns=2)
        panels.draw_losses(whole, found)
        panels.draw_losses(end, found, train=False)
        panels.set_scale(
            whole, [float(value) for curve in found if curve.valid is not None for value in curve.valid[1]]
        )
        panels.show_end(end, [curve.valid for curve in found], "minimize", share=0.5)
        end.set(xlabel="update, second half", ylabel="")
        _add_legend(figure, whole, _lowest(sweep))
    return figure


def lr_above_objective(sweep: StoredSweep, study: str | None = None, known: Curves | None = None) -> Figure:
    """Draw the LR above the objective of the confirmed configurations, else of the best trials, with a close-up.

    The objective of confirmed configurations is the mean over the seeds that all of them share.
    """
    confirmed, seeds = curves.confirmed(sweep) if study is None else ([], 0)
    what = "the confirmed configurations" if confirmed else _whose(sweep, study)
    found = confirmed or (curves.best_trials(sweep, study) if known is None else known)
    metric = clean(sweep.objective["metric"])
    with plot_style():
        heading = f"{title(sweep, curves.seeds_text(seeds))}\nLR and {metric} of {what}"
        figure, (lr, lr_end, objective, objective_end) = _new_figure(heading, columns=2, rows=2)
        panels.draw_run((lr, objective), sweep, found)
        panels.draw_end((lr_end, objective_end), sweep, found)
        objective_end.set_ylabel("")
        _add_legend(figure, lr, f"mean {metric}" if seeds else _lowest(sweep))
    return figure


def peak_lr(sweep: StoredSweep, study: str | None = None) -> Figure:
    """Draw the objective of every trial against its peak LR, with a ring around the trial that verbs take."""
    with plot_style():
        figure, (axes,) = _new_figure(f"{title(sweep)}\nevery trial")
        drawn, beyond = panels.draw_peak_lr(axes, sweep, study, trial_to_use(sweep) if study is None else None)
        panels.draw_key(axes, beyond)
        _add_legend(figure, axes, empty="" if drawn else "No trials yet.")
    return figure


def best_so_far(sweep: StoredSweep, study: str | None = None) -> Figure:
    """Draw the best objective of each family's complete trials against the number of trials, and of updates."""
    with plot_style():
        heading = f"{title(sweep)}\n{extreme(sweep.objective['direction'])} so far"
        figure, (by_trials, by_updates) = _new_figure(heading, columns=2)
        panels.draw_best_so_far(by_trials, sweep, study)
        panels.draw_best_so_far(by_updates, sweep, study, updates=True)
        by_updates.set_ylabel("")
        _add_legend(figure, by_trials, _lowest(sweep))
    return figure


def replicates(sweep: StoredSweep) -> Figure:
    """Draw the trainings of the confirmation: every value, and by how much the leader is better. It needs a verdict."""
    verdict = sweep.verdict
    assert verdict is not None
    with plot_style():
        figure, (values, differences) = _new_figure(f"{title(sweep, 'fresh seeds')}\nconfirmation", columns=2)
        panels.draw_replicates(values, verdict)
        panels.draw_differences(differences, verdict)
        differences.tick_params(labelleft=False)
    return figure


def trial_to_use(sweep: StoredSweep) -> Chosen | None:
    """Return the trial that verbs take if none is named; None if there is none."""
    try:
        return chosen(sweep)
    except InputError:
        return None


def _whose(sweep: StoredSweep, study: str | None) -> str:
    """Return whose curves a figure shows, for its title."""
    word = extreme(sweep.objective["direction"])
    return f"each family's {word} trial" if study is None else f"the {word} trials of {clean(study)}"


# --- files ------------------------------------------------------------------------------------------


def save_all(sweep: StoredSweep, folder: Path, *kinds: str) -> list[Path]:
    """Write every figure of a sweep in these kinds of FORMATS. Returns the paths."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
    paths = []
    for name, figure in draw_all(sweep).items():
        for kind in kinds:
            paths.append(folder / f"{name}{kind}")
            save(figure, paths[-1])
    return paths


def save(figure: Figure, path: Path) -> None:
    """Write a picture, its kind by the path's suffix, whole or not at all. Equal figures give equal bytes."""
    content = image(figure, suffix(path))
    with writing(path):
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)


def image(figure: Figure, kind: str = ".png") -> bytes:
    """Return a figure as the bytes of a file of that kind, one of FORMATS."""
    file = io.BytesIO()
    with plot_style():
        figure.savefig(file, format=kind.removeprefix("."), metadata=FORMATS[kind], dpi=DPI)
    return file.getvalue()


def suffix(path: Path, key: str = "out") -> str:
    """Return the kind of a picture, one of FORMATS.

    Args:
        path: The path of a figure.
        key: How the user gave the path; errors name it.

    Raises:
        InputError: If it has another suffix.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise InputError(key, path, "not the name of a picture", f"End it with {join([*FORMATS], 'or')}")
    return kind


def picture_paths(out: str | None, name: str) -> list[Path]:
    """Return the files to write of a picture that the user asked for with `--out`.

    Args:
        out: A folder, new or existing, for `name`.png and `name`.svg; or one file that ends with .png, .svg or .pdf.
            None for the working folder.
        name: What the files are called in a folder.

    Raises:
        InputError: If a file has another suffix, or the parent folder does not exist.
    """
    path = Path(out or ".")
    files = [path] if path.suffix and not path.is_dir() else [path / f"{name}.png", path / f"{name}.svg"]
    for file in files:
        suffix(file, "--out")
        if file.is_dir():
            raise InputError("--out", out, f"{file} is a folder", "Choose another file")
    if not path.parent.is_dir() or (path not in files and path.exists() and not path.is_dir()):
        problem = "a file that is not a picture" if path.exists() else f"there is no folder {path.parent}"
        raise InputError("--out", out, problem, "Choose an existing folder, or a file in one, such as lr.png")
    return files


# --- a figure and its legend ------------------------------------------------------------------------


def _new_figure(heading: str, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a title, and its axes, row by row."""
    from matplotlib.figure import Figure

    size = (WIDTH, HEIGHT if rows == 1 else HEIGHT * 1.5)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    figure.suptitle(heading, fontsize=11)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]


def _add_legend(figure: Figure, axes: Axes, heading: str | None = None, empty: str = NONE_COMPLETE) -> None:
    """Add a legend next to the axes; if it has many entries, below them in a taller figure.

    Args:
        figure: The figure.
        axes: The axes whose lines are listed.
        heading: What the values in the labels are.
        empty: The text for axes without lines; "" if they have some.
    """
    handles, labels = axes.get_legend_handles_labels()
    if empty and (not handles or heading is None):
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", va="center", color="#666666")
    if not handles:
        return
    if len(handles) <= BESIDE:
        figure.legend(handles, labels, loc="outside right upper", title=heading, alignment="left")
        return
    rows = math.ceil(len(handles) / ACROSS)
    figure.set_size_inches(WIDTH, figure.get_figheight() + ROW_HEIGHT * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=ACROSS, title=heading)


def _lowest(sweep: StoredSweep) -> str:
    """Return what the values of trials in a legend are."""
    return f"{extreme(sweep.objective['direction'])} {clean(sweep.objective['metric'])}"
