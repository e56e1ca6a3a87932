"""The note on a study that trackers show, in markdown: what was asked, what came out, the table, how to go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sweeper.spec.question import Question, StoredConfig, seeds_and_folds
from sweeper.text.columns import Column, clean
from sweeper.views import end_table
from sweeper.views.small_print import small_print

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep

LONGEST = 8000  # characters that trackers show
NUMBER_COLUMNS = (
    "rank",
    "family",
    "best",
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
    """The note of one study of a sweep, finished or not, at most LONGEST characters.

    A table that is too long for that ends earlier, with this study's row in it; it is whole in families.csv.
    """
    rows = sweep.families["study"].tolist()
    columns = end_table.columns(sweep.families)
    for shown in range(len(rows), 0, -1):
        kept = [place for place in range(len(rows)) if place < shown or rows[place] == study]
        text = "\n\n".join(_paragraphs(sweep, study, columns, kept)) + "\n"
        if len(text) <= LONGEST:
            return text
    return text[:LONGEST]


def _paragraphs(sweep: StoredSweep, study: str, columns: Sequence[Column], kept: Sequence[int]) -> Iterable[str]:
    question = sweep.config["question"]
    answer, *small = small_print(sweep.families, sweep.criterion)
    place = sweep.families["study"].tolist().index(study)
    family = clean(str(sweep.families["family"].iloc[place]))
    # The page shows three lines before one asks for more: the answer comes first.
    yield f"**{'Answer' if sweep.finished else 'So far'}:** {_escape(' '.join([answer, *small[:1]]))}"
    yield f"**This family, {_escape(family)}:** {_escape(_rank_text(columns, place))}"
    yield f"**Asked:** {_escape(describe_question(question))}"
    if how := trainer_note(sweep.config):
        yield f"**Trained:** {_escape(how)}."
    yield f"### Best {sweep.criterion.metric} of each family, {sweep.criterion.sense}"
    yield _table(columns, NUMBER_COLUMNS, kept, place)
    yield "### Trials of each family"
    yield _table(columns, ("family", *SELECTION), kept, place)
    if len(kept) < len(sweep.families):
        yield f"Shown are {len(kept)} of {len(sweep.families)} rows; families.csv among this run's files has all."
    yield "\n".join(f"- {_escape(paragraph)}" for paragraph in small[1:])
    yield f"### How to go on\n\n{_commands(sweep)}"


def describe_question(question: Question) -> str:
    """The question of a sweep in a sentence: what is trained, how long, judged by what."""
    train, objective = question["train"], question["objective"]
    nodes = (node or {} for node in (question.get("model"), question.get("data"), question["optimizer"]))
    model, data, optimizer = (str(node.get("_target_", "")).rpartition(".")[2] for node in nodes)
    what = f"{model or 'a model'} on {data or 'the data'}, {optimizer or 'the optimizer'}"
    counts = zip(seeds_and_folds(question), ("seed", "fold"), strict=True)
    of_a_trial = " x ".join(f"{count} {word}s" for count, word in counts if count > 1) or "one seed"
    return (
        f"which learning-rate schedule is best for {what}, trained for {train['steps']} updates of "
        f"{train['batch_size']} examples, judged by {objective['metric']} ({objective['at']}), {of_a_trial} a trial?"
    )


def trainer_note(config: StoredConfig) -> str:
    """How the trials of a sweep are trained, in a line; "" where nothing had to be found out."""
    why: str = config["trainer"].get("why", "")
    return why


def _rank_text(columns: Sequence[Column], place: int) -> str:
    """Rank, best value and numbers of one row."""
    said = {column.head: column.cells[place] for column in columns}
    if said["rank"] == "-":
        return "no trial is complete."
    named = [f"{name} {said[name]}" for name in ("peak LR", "warmup", "decay", "cycle") if said[name] != "-"]
    numbers = ", ".join([*named, *filter(None, [said.get("others", "")])])
    return f"rank {said['rank']} of {len(columns[0].cells)}, {said['best']} in trial {said['trial']} ({numbers})."


def _table(columns: Sequence[Column], heads: Sequence[str], kept: Sequence[int], bold: int) -> str:
    """A markdown table of those columns that there are, the row `bold` in bold."""
    shown = [column for head in heads for column in columns if column.head == head]
    lines = ["| " + " | ".join(column.head for column in shown) + " |"]
    lines.append("|" + "|".join("---:" if column.right else "---" for column in shown) + "|")
    for place in kept:
        cells = [_escape(column.cells[place]) for column in shown]
        lines.append("| " + " | ".join(f"**{cell}**" if place == bold and cell else cell for cell in cells) + " |")
    return "\n".join(lines)


def _commands(sweep: StoredSweep) -> str:
    """What to type next."""
    more = "the same command, with a larger search.n_trials: what is done is kept"
    lines = [
        f"- more trials: {more}" if sweep.finished else "- this sweep is not finished: the same command goes on",
        f"- the table in a terminal: `python -m sweeper status {sweep.name}`",
        f"- the curves of the best trials: `python -m sweeper ui {sweep.name}`",
        "- the LR and the loss of every update: the Parquet files in this run's artifacts",
    ]
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Text whose signs mean nothing to markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in clean(text))
