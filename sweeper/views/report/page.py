"""The report of a sweep: one HTML file that needs nothing else, for the user and whom they show it to.

It says what the other views say, in their words. Equal sweeps give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import sweeper
from sweeper.files import replace_file
from sweeper.results import below
from sweeper.results.chosen import Chosen
from sweeper.results.final import Final
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import rows_of
from sweeper.results.verdict import Verdict
from sweeper.text.columns import Column, clean
from sweeper.types import Floats, InputError
from sweeper.views import confirmed, end_table, figures, final_models, looks
from sweeper.views import settings as settings_view
from sweeper.views.note import describe_setup
from sweeper.views.panels import plot_style
from sweeper.views.remaining import remaining
from sweeper.views.report import pictures, sections
from sweeper.views.report.pictures import Thumbnail
from sweeper.views.setting import subject_of
from sweeper.views.small_print import small_print

if TYPE_CHECKING:
    from jinja2 import Environment

NAME = "report.html"
FOLDER = files("sweeper.views.report")


@dataclass(frozen=True)
class Table:
    """A table with a row for each family, configuration or metric.

    Attributes:
        columns: The columns, the names of the rows first.
        thumbnails: The LR of each row; [] for rows without one.
        strong: The rows that are bold.
    """

    columns: list[Column]
    thumbnails: list[Thumbnail]
    strong: frozenset[int]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


@dataclass(frozen=True)
class Trials:
    """The table of trials: `count` of them, of which it shows the first."""

    columns: list[Column]
    count: int

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def write(sweep: StoredSweep) -> Path:
    """Write the report of a sweep to its folder, whole or not at all, and return its path."""
    path = sweep.home.path / NAME
    replace_file(path, render(sweep))
    return path


def write_with_figures(sweep: StoredSweep) -> Path:
    """Write the report and, for papers and slides, every figure as SVG and PDF. Returns the path of the report."""
    path = write(sweep)
    figures.save_all(sweep, sweep.home.path / "figures", ".svg", ".pdf")
    return path


def render(sweep: StoredSweep) -> str:
    """Return the report of a sweep, finished or not, as HTML."""
    taken = figures.trial_to_use(sweep)
    script = _text("report.js")
    rows = rows_of(sweep.families)
    hyperparameters, importances = sections.importances(rows)
    columns, count = sections.trial_columns(sweep)
    with plot_style(**pictures.STYLE):
        drawn = {
            "runs": pictures.runs(sweep),
            "replicates": None if sweep.verdict is None else pictures.replicates(sweep.verdict),
            "peak_lrs": pictures.peak_lrs(sweep, taken),
            "best_so_far": pictures.best_so_far(sweep),
        }
    return _environment().get_template("report.html.jinja").render(
        about_final=final_models.ABOUT_INTERVAL,
        answer=_answer(sweep),
        shown_trial=shown_trial(sweep),
        commands=sections.commands(sweep, taken),
        confirm=sections.how_to_confirm(sweep),
        confirmed=None if sweep.verdict is None else _confirmed(sweep, sweep.verdict),
        ended_early=sections.ended_early(sweep),
        facts=sections.question(sweep),
        families=_families(sweep) if rows else None,
        final=sweep.final_models,
        final_table=None if sweep.final_models is None else _final(sweep.final_models),
        heading=f"Learning rate schedules for {subject_of(sweep)}",
        hyperparameters=hyperparameters,
        importances=importances,
        pictures=drawn,
        remaining=remaining(sweep),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        settings=[] if taken is None else sections.settings(taken),
        setup=describe_setup(sweep.config["question"]),
        small_print=small_print(sweep.families, sweep.criterion)[1:] if rows else [],
        snippet="" if taken is None else sections.snippet(sweep, taken),
        style=_text("report.css"),
        sweep=sweep,
        trials=Trials(columns, count),
        version=sweeper.__version__,
        words="" if taken is None else _overrides(sweep, taken),
    )  # fmt: skip


def shown_trial(sweep: StoredSweep) -> str:
    """Return whose settings the report shows, and why: "linear:17, the winner on fresh seeds"; "" for none."""
    taken = figures.trial_to_use(sweep)
    return "" if taken is None else f"{clean(taken.name)}, {taken.words}"


def _environment() -> Environment:
    """Return where templates are read and escaped: names of users may hold any character."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("sweeper.views.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


# --- words ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What the sweep says.

    Attributes:
        heading: Of the section.
        sentences: The answer.
        beside: How sure it is, and what else there is to know.
    """

    heading: str
    sentences: list[str]
    beside: list[str]


def _answer(sweep: StoredSweep) -> Answer:
    """Return the verdict; of a search, which value is lowest."""
    verdict, of_families = sweep.verdict, sweep.family_verdict
    about_families = [] if of_families is None else [of_families["sentence"]]
    about_earlier = [] if sweep.retuned is None else [sweep.retuned["sentence"]]
    beside = [] if of_families is None else below.lines(of_families)
    if verdict is not None:
        grown = confirmed.grown_note(verdict, len(sweep.records), sweep.name)
        sentences = [verdict["sentence"], *about_families, *about_earlier]
        return Answer("Verdict", sentences, [*below.lines(verdict), *beside, *([grown] if grown else [])])
    answer, *small = small_print(sweep.families, sweep.criterion) if len(sweep.families) else ["No trials yet."]
    return Answer(
        "Result of the search" if sweep.finished else "So far", [answer, *about_families], [*small[:1], *beside]
    )


def _overrides(sweep: StoredSweep, taken: Chosen) -> str:
    """Return the settings as overrides for the command line, or as numbers for Python."""
    return " ".join(settings_view.settings_of(sweep, taken).words)


# --- tables -----------------------------------------------------------------------------------------


def _confirmed(sweep: StoredSweep, verdict: Verdict) -> Table:
    """Return the table of the confirmed configurations."""
    rows = verdict["configurations"]
    thumbnails = [
        pictures.thumbnail(_lr(sweep, row["family"], row["trial"]), looks.look(row["family"])) for row in rows
    ]
    columns = confirmed.columns(verdict)
    first = next(place for place, column in enumerate(columns) if column.head == "configuration")
    columns.insert(0, columns.pop(first))
    return Table(columns, thumbnails, frozenset(i for i, row in enumerate(rows) if row["status"] == "best"))


def _final(found: Final) -> Table:
    """Return the table of test metrics."""
    return Table(final_models.columns(found), [], frozenset())


def _families(sweep: StoredSweep) -> Table:
    """Return the table of families in the search."""
    shown = looks.looks_of(sweep.records)
    thumbnails = [
        pictures.thumbnail(None if row.best_trial is None else _lr(sweep, row.study, row.best_trial), shown[row.study])
        for row in rows_of(sweep.families)
    ]
    return Table(end_table.columns(sweep.families, sweep.criterion), thumbnails, frozenset())


def _lr(sweep: StoredSweep, name: str, trial: int) -> Floats | None:
    """Return the LR of a trial of a study or family; None if it is unknown to this process, or its trace is lost."""
    try:
        return sweep.lr(name, trial)
    except InputError:
        return None
