"""The answer of a sweep, the same in every view: the verdict, the settings to use, a line for each family."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from sweeper.results import below
from sweeper.results.chosen import chosen
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import StudyRow, rows_of
from sweeper.results.verdict import Configuration, Verdict
from sweeper.text.columns import Line, clean, duration_text, has_unicode, plain_text, wrap, write
from sweeper.types import Floats, InputError
from sweeper.views import small_print
from sweeper.views.confirmed import grown_note
from sweeper.views.family_lines import FamilyTable, of_search, of_verdict
from sweeper.views.remaining import remaining
from sweeper.views.settings import Settings, settings_of

WIDEST = 100  # cells of a text that is printed from Python
NO_LR: Floats = np.empty(0)


@dataclass(frozen=True)
class Answer:
    """What a sweep says, in the order in which it is shown.

    Attributes:
        sentences: The verdict. Of a search that is not confirmed, what is lowest.
        confirm: The command that confirms a search, after what it costs; ("", "") if it is confirmed or cannot be.
        settings: What to use; None if no trial is complete, and for an earlier verdict.
        heading: What the table shows.
        table: A line for each family; None if there is no trial.
        later: What was found after the verdict: of final models, and beside an earlier sweep.
        cautions: What may be wrong, and what can be done.
        more: What shows the rest.
    """

    sentences: Sequence[str]
    confirm: tuple[str, str]
    settings: Settings | None
    heading: str
    table: FamilyTable | None
    later: Sequence[str]
    cautions: Sequence[str]
    more: str

    def render(self, width: int | None = None, unicode: bool = True) -> list[Line]:
        """Return it as lines of at most `width` cells, by default 100."""
        cost, command = self.confirm
        blank: Line = [("", "")]
        return [
            *(line for text in self.sentences for line in wrap(clean(text), width, "bold")),
            *([*wrap(cost, width), [(f"  {command}", "")]] if command else []),
            *([] if self.settings is None else self.settings.render(width)),
            *([] if self.table is None else
              [blank, *wrap(self.heading, width, "dim"), *self.table.render(width or WIDEST, unicode), blank]),
            *(line for text in (*self.later, *self.cautions) for line in wrap(clean(text), width)),
            *(wrap(self.more, width, "dim") if self.more else []),
        ]  # fmt: skip


def answer_of(sweep: StoredSweep, verdict: Verdict | None = None) -> Answer:
    """Return the answer of a sweep.

    Args:
        sweep: The sweep.
        verdict: One of its verdicts, for the command that made it; None for the last one.
    """
    of_families = sweep.family_verdict
    is_last = verdict in (None, sweep.verdict, of_families)
    settings = _settings(sweep) if is_last else None  # those are of the last verdict
    verdict = sweep.verdict if verdict is None else verdict
    about_families = [] if of_families in (None, verdict) else [of_families["sentence"]]
    more = f"All columns: python -m sweeper status {sweep.name} --columns all"
    if verdict is not None:
        cautions = [*below.cautions(verdict), grown_note(verdict, len(sweep.records), sweep.name)]
        return Answer(
            sentences=[verdict["sentence"], *about_families],
            confirm=("", ""),
            heading=_heading(verdict),
            table=of_verdict(verdict, [_lr_of_configuration(sweep, row) for row in verdict["configurations"]]),
            later=later(sweep),
            cautions=[*filter(None, cautions), *remaining(sweep)],
            settings=settings,
            more=more,
        )
    rows, criterion = rows_of(sweep.families), sweep.criterion
    return Answer(
        sentences=[*about_families, f"{small_print.lowest(rows, criterion)}."],
        confirm=_how_to_confirm(sweep),
        heading=f"{criterion.extreme.capitalize()} {criterion.metric} of each family in the search, {criterion.sense}",
        table=of_search(rows, criterion, [_lr_of_row(sweep, row) for row in rows]) if rows else None,
        later=later(sweep),
        cautions=[*small_print.cautions(rows, criterion), *remaining(sweep)],
        settings=settings,
        more=more,
    )


def show(sweep: StoredSweep, verdict: Verdict | None = None, out: TextIO | None = None) -> None:
    """Print the answer at the width of the terminal. The arguments are those of `answer_of` and `write`."""
    write(answer_of(sweep, verdict).render, out)


def text_of(sweep: StoredSweep) -> str:
    """Return the answer as text, at the width of the terminal if there is one."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST + 1, 24)).columns - 1)
    return "\n".join(map(plain_text, answer_of(sweep).render(width, has_unicode(sys.stdout))))


def later(sweep: StoredSweep) -> list[str]:
    """Return what retuning and the final models found, a sentence or a few each."""
    return [found["sentence"] for found in (sweep.retuned, sweep.final_models) if found is not None]


def _heading(verdict: Verdict) -> str:
    """Return what the table of a verdict shows."""
    objective, trained = verdict["objective"], verdict["trained"]
    sense = "lower" if objective["direction"] == "minimize" else "higher"
    if verdict["level"] == "family":
        searches = len(verdict["seeds"].get("search", []))
        return f"Over {searches} new searches: the mean of each family's {objective['metric']}, {sense} is better"
    count = trained["choose"] + trained["judge"]
    return f"Confirmed on fresh seeds: {objective['metric']}, {sense} is better ({count} trainings)"


def _settings(sweep: StoredSweep) -> Settings | None:
    try:
        return settings_of(sweep, chosen(sweep))
    except InputError:  # no trial is complete, or the sweep no longer has the one of its verdict
        return None


def _how_to_confirm(sweep: StoredSweep) -> tuple[str, str]:
    """Return what a confirmation costs, and the command; nothing while there are trials to train."""
    from sweeper.run import confirm_plan
    from sweeper.run.confirm_spec import ConfirmSpec

    if not sweep.finished:
        return "", ""
    try:
        planned = confirm_plan.plan(sweep, ConfirmSpec())
    except InputError:  # nothing to confirm, or a confirmation was begun with other settings
        return "", ""
    cost = confirm_plan.cost(sweep, planned, ConfirmSpec())
    return (
        f"To confirm it on fresh seeds (about {cost.typical} trainings, {duration_text(cost.typical * cost.seconds)}):",
        "sweep.confirm(task)" if sweep.is_from_python else f"python -m sweeper confirm {sweep.name}",
    )


def _lr_of_row(sweep: StoredSweep, row: StudyRow) -> Floats:
    return NO_LR if row.best_trial is None else _lr(sweep, row.study, row.best_trial)


def _lr_of_configuration(sweep: StoredSweep, row: Configuration) -> Floats:
    """Return its LR. Its hyperparameters decide which trial it is: a wider study renumbers the trials."""
    params = row["params"]
    same = (
        record
        for record in sweep.records
        if record.family == row["family"] and json.loads(json.dumps(dict(record.params))) == params
    )
    record = next(same, None)
    return NO_LR if record is None else _lr(sweep, record.study, record.number)


def _lr(sweep: StoredSweep, study: str, trial: int) -> Floats:
    """Return the LR of a trial; empty if its family is unknown to this process, or its trace is lost."""
    try:
        return sweep.lr(study, trial)
    except InputError:
        return NO_LR
