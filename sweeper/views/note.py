"""The note on a study that trackers show, in Markdown: answer, setup, tables, next steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sweeper.results import below
from sweeper.spec.question import Question, StoredConfig, node_name
from sweeper.text.columns import Column, clean
from sweeper.views import confirmed, end_table
from sweeper.views.setting import members, subject
from sweeper.views.small_print import small_print

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep
    from sweeper.results.verdict import Verdict

LONGEST = 8000  # characters that trackers show
NUMBER_COLUMNS = (
    "family",
    "lowest",
    "highest",
    "spread",
    "gain",
    "to target",
    "trial",
    "peak LR",
    "warmup",
    "decay",
    "cycle",
    "others",
)
SELECTION = ("complete", "pruned", "diverged", "failed", "running", "stable LR", "diverged LR")


def study_note(sweep: StoredSweep, study: str) -> str:
    """Return the note of one study, at most LONGEST characters.

    If the tables are too long for that, rows at the end are left out, but not this study's. families.csv has all rows.
    """
    studies = sweep.families["study"].tolist()
    columns = end_table.columns(sweep.families, sweep.criterion)
    for count in range(len(studies), 0, -1):
        rows = [row for row in range(len(studies)) if row < count or studies[row] == study]
        text = "\n\n".join(_paragraphs(sweep, study, columns, rows)) + "\n"
        if len(text) <= LONGEST:
            return text
    return text[:LONGEST]


def _paragraphs(sweep: StoredSweep, study: str, columns: Sequence[Column], rows: Sequence[int]) -> Iterable[str]:
    question = sweep.config["question"]
    answer, *small = small_print(sweep.families, sweep.criterion)
    place = sweep.families["study"].tolist().index(study)
    family = clean(str(sweep.families["family"].iloc[place]))
    # MLflow's page shows three lines until the user expands the note, so the answer comes first.
    if sweep.verdict is not None:
        yield f"**Confirmed:** {_escape(sweep.verdict['sentence'])}"
        yield _confirmed_table(sweep.verdict)
        yield "\n".join(f"- {_escape(line)}" for line in below.lines(sweep.verdict))
    yield f"**{'Result of the search' if sweep.finished else 'So far'}:** {_escape(' '.join([answer, *small[:1]]))}"
    yield f"**This family, {_escape(family)}:** {_escape(_row_text(columns, sweep.criterion.extreme, place))}"
    yield f"**Setup:** {_escape(describe_setup(question))}"
    if how := trainer_note(sweep.config):
        yield f"**Trained:** {_escape(how)}."
    yield f"### {end_table.heading(sweep.criterion)}"
    yield _table(columns, NUMBER_COLUMNS, rows, place)
    yield "### Trials of each family"
    yield _table(columns, ("family", *SELECTION), rows, place)
    if len(rows) < len(sweep.families):
        yield f"{len(rows)} of {len(sweep.families)} rows are shown. families.csv in this run's artifacts has all."
    yield "\n".join(f"- {_escape(paragraph)}" for paragraph in small[1:])
    yield f"### Next steps\n\n{_commands(sweep)}"


def describe_setup(question: Question) -> str:
    """Return one sentence on a sweep: what is trained, how long, and how trials are compared."""
    train, objective = question["train"], question["objective"]
    what = f"{subject(question)} with {node_name(question['optimizer']) or 'the optimizer'}"
    return (
        f"{what}, trained for {train['steps']} updates of {train['batch_size']} examples. Trials are compared by "
        f"{objective['metric']} (objective.at={objective['at']}), with {members(question)} per trial."
    )


def trainer_note(config: StoredConfig) -> str:
    """Return how the trials of a sweep are trained and why, in one line; "" if the user chose the trainer."""
    why: str = config["trainer"].get("why", "")
    return why


def _row_text(columns: Sequence[Column], extreme: str, place: int) -> str:
    """Return value, trial and hyperparameters of one row."""
    cells = {column.head: column.cells[place] for column in columns}
    if cells["trial"] == "-":
        return "no trial is complete."
    common = [f"{name} {cells[name]}" for name in ("peak LR", "warmup", "decay", "cycle") if cells[name] != "-"]
    params = ", ".join([*common, *filter(None, [cells.get("others", "")])])
    return f"{extreme} {cells[extreme]} in trial {cells['trial']} ({params})."


def _table(columns: Sequence[Column], heads: Sequence[str], rows: Sequence[int], bold: int) -> str:
    """Return a Markdown table of the columns with these headings, as far as they exist, and of these rows.

    The row `bold` is bold.
    """
    selected = [column for head in heads for column in columns if column.head == head]
    lines = ["| " + " | ".join(column.head for column in selected) + " |"]
    lines.append("|" + "|".join("---:" if column.right else "---" for column in selected) + "|")
    for row in rows:
        cells = [_escape(column.cells[row]) for column in selected]
        lines.append("| " + " | ".join(f"**{cell}**" if row == bold and cell else cell for cell in cells) + " |")
    return "\n".join(lines)


def _confirmed_table(verdict: Verdict) -> str:
    columns = confirmed.columns(verdict)
    return _table(columns, [column.head for column in columns], range(len(verdict["configurations"])), 0)


def _commands(sweep: StoredSweep) -> str:
    more = "run the same command with a larger search.n_trials (finished trials are kept)"
    lines = [
        f"- more trials: {more}" if sweep.finished else "- finish this sweep: run the same command again",
        *([] if sweep.verdict else [f"- confirm it on fresh seeds: `python -m sweeper confirm {sweep.name}`"]),
        f"- see the table in a terminal: `python -m sweeper status {sweep.name}`",
        f"- see the curves of the trials: `python -m sweeper ui {sweep.name}`",
        "- read the LR and the loss of every update: Parquet files in this run's artifacts",
    ]
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Escape the characters that have a meaning in Markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in clean(text))
