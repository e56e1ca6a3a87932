"""The pictures of the report: panels narrow enough for a phone, legends in HTML, and thumbnails of LRs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sweeper.results.chosen import Chosen
from sweeper.results.verdict import Verdict
from sweeper.text.columns import clean
from sweeper.types import Floats, extreme
from sweeper.views import curves, panels
from sweeper.views.looks import Look, looks_of
from sweeper.views.report.inline_svg import VARIABLES, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sweeper.results.stored import StoredSweep

WIDTH = 5.4  # inches: 389 px, the width of a phone
LINE_POINTS = 300  # of an LR
THUMB_WIDTH, THUMB_HEIGHT, THUMB_POINTS = 90, 20, 60
STYLE = {"svg.fonttype": "none", "font.size": 9.5}
GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "P": "✚", "v": "▼", "*": "★", "X": "✖"}


@dataclass(frozen=True)
class Entry:
    """An entry of a legend.

    Attributes:
        label: What it is called.
        color: As a style has it.
        glyph: Its marker.
        dashes: Lengths of dashes and gaps of its line, as SVG has them: "" for a whole line, None for no line.
    """

    label: str
    color: str
    glyph: str
    dashes: str | None = None


@dataclass(frozen=True)
class Picture:
    """Panels side by side, or below each other on a phone, with one legend.

    Attributes:
        panels: SVG elements.
        legend: What the lines and markers are.
        caption: What the panels show.
    """

    panels: tuple[str, ...]
    legend: tuple[Entry, ...]
    caption: str


# --- pictures ---------------------------------------------------------------------------------------


def runs(sweep: StoredSweep) -> Picture | None:
    """Return LR above objective, of the whole run and of its end; None if no trial is complete."""
    confirmed, seeds = curves.confirmed(sweep)
    found = confirmed or curves.best_trials(sweep)
    if not found:
        return None
    found = [one if one.lr is None else replace(one, lr=curves.thin(one.lr, LINE_POINTS)) for one in found]
    metric, word = clean(sweep.objective["metric"]), extreme(sweep.objective["direction"])
    whose = "each confirmed configuration" if confirmed else f"each family's {word} trial of the search"
    how = f", the mean over the {seeds} fresh seeds that all share" if seeds else ""
    whole, end = _figure(4.8), _figure(4.8)
    panels.draw_run(_stacked(whole), sweep, found)
    panels.draw_end(_stacked(end), sweep, found)
    return Picture(
        (
            inline_svg(whole, "run-", f"LR and {metric} over the run"),
            inline_svg(end, "end-", f"LR and {metric} at the end"),
        ),
        tuple(_line(one.label, one.look) for one in found),
        f"LR (above) and {metric} (below) of {whose}{how}. The second picture is the last {panels.END:.0%} of the run. "
        f"The numbers are the {'mean' if seeds else word} {metric}.",
    )


def replicates(verdict: Verdict) -> Picture | None:
    """Return the values of a confirmation and the differences to its leader; None if nothing was judged."""
    rows = panels.judged_rows(verdict)
    if not rows:
        return None
    height = 0.9 + 0.34 * len(rows)
    values, differences = _figure(height), _figure(height)
    panels.draw_replicates(values.add_subplot(), verdict)
    panels.draw_differences(differences.add_subplot(), verdict)
    metric = clean(verdict["objective"]["metric"])
    shown = [inline_svg(values, "seeds-", f"{metric} of each configuration at each fresh seed")]
    if panels.leads(verdict):
        shown.append(inline_svg(differences, "leads-", "By how much the leader is better than the others"))
    return Picture(
        tuple(shown),
        (),
        f"{metric} at each fresh seed, with its mean; a cross is a seed that diverged."
        + " The second picture is by how much the leader is better at equal seeds, with its interval: right of 0, it "
        "is better." * (len(shown) == 2),
    )


def peak_lrs(sweep: StoredSweep, marked: Chosen | None) -> Picture | None:
    """Return the objective of every trial against its peak LR; None if there is no trial with a peak LR."""
    figure = _figure(4.0)
    drawn, beyond = panels.draw_peak_lr(figure.add_subplot(), sweep, marked=marked)
    if not drawn:
        return None
    metric = clean(sweep.objective["metric"])
    names, looks = curves.labels(sweep), looks_of(sweep.records)
    entries = [Entry(names[study], _color(looks[study].color), GLYPHS[looks[study].marker]) for study in sorted(looks)]
    ring = [] if marked is None else [Entry(f"{clean(marked.name)}, {marked.words}", "var(--ink)", "◯")]
    key = [
        Entry("hollow: pruned, at its last value", "var(--muted)", "○"),
        Entry("diverged", "var(--muted)", "✕"),
        *([Entry(f"beyond the axis: {beyond} trial{'s' * (beyond > 1)}", "var(--muted)", "▴")] if beyond else []),
    ]
    return Picture(
        (inline_svg(figure, "peak-", f"{metric} of every trial against its peak LR"),),
        (*entries, *ring, *key),
        f"{metric} of every trial of the search against its peak LR. The axis is limited to where the families differ; "
        "the grey band is beyond it."
        if beyond
        else f"{metric} of every trial of the search against its peak LR.",
    )


def best_so_far(sweep: StoredSweep) -> Picture | None:
    """Return the best objective against trials and updates; None if no trial is complete."""
    if not sweep.families["rank"].notna().any():
        return None
    by_trials, by_updates = _figure(3.4), _figure(3.4)
    panels.draw_best_so_far(by_trials.add_subplot(), sweep)
    panels.draw_best_so_far(by_updates.add_subplot(), sweep, updates=True)
    word, metric = extreme(sweep.objective["direction"]), clean(sweep.objective["metric"])
    names, looks = curves.labels(sweep), looks_of(sweep.records)
    return Picture(
        (
            inline_svg(by_trials, "trials-", f"{word} {metric} against the trials of each family"),
            inline_svg(by_updates, "updates-", f"{word} {metric} against the updates trained by each family"),
        ),
        tuple(_line(names[study], looks[study]) for study in sweep.families["study"]),
        f"The {word} {metric} so far in the search of each family, against its trials and the updates they trained.",
    )


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), dpi=72, layout="constrained")


def _stacked(figure: Figure) -> tuple[Axes, Axes]:
    return figure.add_subplot(2, 1, 1), figure.add_subplot(2, 1, 2)


# --- legends and thumbnails -------------------------------------------------------------------------


def _line(label: str, look: Look) -> Entry:
    dashes = "" if isinstance(look.dash, str) else " ".join(f"{1.8 * length:g}" for length in look.dash[1])
    return Entry(label, _color(look.color), GLYPHS[look.marker], dashes)


def _color(color: str) -> str:
    return VARIABLES.get(color, color)


@dataclass(frozen=True)
class Thumbnail:
    """A curve of an LR over the run, from 0 to its highest. `path` is as SVG has it; "" if it is unknown."""

    path: str
    color: str


def thumbnail(lr_S: Floats | None, look: Look) -> Thumbnail:
    """Return a small picture of an LR."""
    if lr_S is None or not len(lr_S) or not np.nanmax(lr_S) > 0:
        return Thumbnail("", _color(look.color))
    places = np.unique(np.linspace(0, len(lr_S) - 1, min(len(lr_S), THUMB_POINTS)).round().astype(np.int64))
    x_S = 1 + (THUMB_WIDTH - 2) * places / max(1, len(lr_S) - 1)
    y_S = 1 + (THUMB_HEIGHT - 2) * (1 - lr_S[places] / np.nanmax(lr_S))
    points = " ".join(f"{x:.0f} {y:.1f}" for x, y in zip(x_S, y_S, strict=True))
    return Thumbnail(f"M{points}", _color(look.color))
