"""The sections of the report as plain data: facts, tables, commands. What they say comes from the other views."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.export.subject import Exported
from sweeper.export.targets import TARGETS
from sweeper.results.chosen import Chosen
from sweeper.results.tables import COMMON, STATES, StudyRow, names_of, rows_of
from sweeper.spec.question import node_name
from sweeper.text.columns import Column, clean, duration_text, join, value_text
from sweeper.text.numbers import lr_text, param_text, share_text
from sweeper.tracking.events import COMMIT, DIRTY
from sweeper.tracking.summaries import read_summaries
from sweeper.types import InputError, Record, Summary
from sweeper.views.note import trainer_note
from sweeper.views.setting import members

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep

MOST_TRIALS = 1500  # rows of the table of trials
MOST_LISTED = 12  # trials of a family in a list
COMMIT_LENGTH = 12
NAMES = {"peak_lr": "peak LR"}  # of hyperparameters, where a table has another


@dataclass(frozen=True)
class Fact:
    """A term and what it is."""

    term: str
    text: str


# --- the question -----------------------------------------------------------------------------------


def question(sweep: StoredSweep) -> list[Fact]:
    """Return what was trained, how long, on what, and with which versions."""
    asked, summaries = sweep.config["question"], list(read_summaries(sweep.home.spool).values())
    train, objective = asked["train"], asked["objective"]
    epochs = _shared(summaries, "epochs")
    sense = sweep.criterion.sense
    facts = [
        Fact("Model", _shared(summaries, "model") or node_name(asked.get("model")) or "defined in Python"),
        Fact("Data", _shared(summaries, "data") or node_name(asked.get("data")) or "defined in Python"),
        Fact("Optimizer", _shared(summaries, "optimizer") or node_name(asked["optimizer"]) or "defined in Python"),
        Fact("Length", f"{train['steps']:,} updates of {train['batch_size']:,} examples"
             + (f", {epochs} epochs" if epochs not in ("", "0.0") else "")),
        Fact("Precision", train["precision"]),
        *(Fact(name.capitalize(), str(value)) for name, value in train.items()
          if name not in ("steps", "batch_size", "precision") and value),
        Fact("Compared by", f"{objective['metric']}, {sense} (objective.at={objective['at']})"),
        Fact("Each trial", f"{members(asked)}"),
        Fact("Search", _search_text(sweep)),
    ]  # fmt: skip
    if sweep.verdict is not None:
        trained = sweep.verdict["trained"]
        facts.append(Fact("Confirmation", f"{trained['choose'] + trained['judge']} trainings on fresh seeds"))
    if how := trainer_note(sweep.config):
        facts.append(Fact("Trained", how))
    return [*facts, *_machines(sweep), *_commits(summaries)]


def _shared(summaries: Iterable[Summary], name: str) -> str:
    """Return what every study has under this name; "" if it was not recorded."""
    values = dict.fromkeys(clean(str(one.params[name])) for one in summaries if name in one.params)
    return " or ".join(values)


def _search_text(sweep: StoredSweep) -> str:
    rows = rows_of(sweep.families)
    counts = {state: sum(row.counts[state] for row in rows) for state in STATES}
    seconds = sum(record.seconds for record in sweep.records)
    of_each = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    families = len({row.family for row in rows})
    total = f"{sum(counts.values())} trial{'s' * (sum(counts.values()) != 1)}"
    return (
        f"{total} of {families} famil{'y' if families == 1 else 'ies'}"
        + (f" ({of_each})" if of_each else "")
        + (f"; {duration_text(seconds)} of training" if seconds else "")
    )


def _machines(sweep: StoredSweep) -> list[Fact]:
    """Return versions and hardware, a fact for each machine that differs."""
    machines = sweep.config.get("machines", [])
    hardware = ("processor", "gpu")
    versions = dict.fromkeys(
        ", ".join(f"{name} {text}" for name, text in machine.items() if name not in hardware) for machine in machines
    )
    parts = dict.fromkeys(", ".join(machine[name] for name in hardware if name in machine) for machine in machines)
    return [
        *(Fact("Versions", clean(text)) for text in versions),
        *(Fact("Hardware", clean(text)) for text in parts if text),
    ]


def _commits(summaries: Iterable[Summary]) -> list[Fact]:
    commits = dict.fromkeys(
        clean(one.tags[COMMIT])[:COMMIT_LENGTH] + (", with changes" if one.tags.get(DIRTY) == "true" else "")
        for one in summaries
        if COMMIT in one.tags
    )
    return [Fact("Commit", "; ".join(commits) or "not known: the working folder was no git repository")]


# --- the settings -----------------------------------------------------------------------------------


def settings(chosen: Chosen) -> list[Fact]:
    """Return the hyperparameters of the chosen trial: the common ones, then all others that were searched."""
    record = chosen.record
    names = [name for name in COMMON if name in record.params]
    names += [name for name in record.searched if name not in names]
    return [Fact(NAMES.get(name, name), param_text(name, record.params[name])) for name in names]


def snippet(sweep: StoredSweep, chosen: Chosen) -> str:
    """Return Python that needs torch alone; for an LR without a formula, the lines that read it from the sweep."""
    try:
        return TARGETS["torch"](Exported(sweep, chosen, sweep.horizon[0]))
    except InputError:  # it is reactive, or a factor of the user's own
        return (
            f"# {clean(chosen.name)}, {chosen.words}\n"
            f'import torch\nimport sweeper\n\nlr = sweeper.load("{sweep.name}").lr("{chosen.name}")\n'
            "optimizer = ...  # with lr=1\n"
            "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr[min(step, len(lr) - 1)])\n"
        )


# --- trials -----------------------------------------------------------------------------------------


def trial_columns(sweep: StoredSweep) -> tuple[list[Column], int]:
    """Return the table of trials, the best first, and how many trials there are. It has at most MOST_TRIALS rows."""
    direction = sweep.objective["direction"]
    sign = 1.0 if direction == "minimize" else -1.0
    places = {state: place for place, state in enumerate(STATES)}
    records = sorted(
        (record for record in sweep.records if not record.prior_of),
        key=lambda r: (places[r.state], sign * (r.value if r.value is not None else 0.0), r.study, r.number),
    )
    rows = records[:MOST_TRIALS]
    studies = {record.family: {r.study for r in records if r.family == record.family} for record in records}
    names = [record.family if len(studies[record.family]) == 1 else record.study for record in rows]
    others = [
        ", ".join(
            f"{name} {param_text(name, value)}"
            for name, value in record.params.items()
            if name in record.searched and name not in COMMON
        )
        for record in rows
    ]
    columns = [
        Column("family", [clean(name) for name in names], 0, right=False),
        Column("trial", [str(record.number) for record in rows], 0),
        Column("state", [record.state for record in rows], 0, right=False),
        Column(clean(sweep.objective["metric"]), [value_text(record.value) for record in rows], 0),
        Column("peak LR", [lr_text(_number(record, "peak_lr")) for record in rows], 0),
        Column("warmup", [share_text(_number(record, "warmup")) for record in rows], 0),
        Column("decay", [lr_text(_number(record, "decay")) for record in rows], 0),
        Column("cycle", [share_text(_number(record, "cycle")) for record in rows], 0),
        Column("updates", [str(record.steps_done) for record in rows], 0),
        Column("seconds", [f"{record.seconds:.1f}" for record in rows], 0),
    ]
    if any(others):
        columns.insert(8, Column("others", others, 0, right=False))
    if any(record.reason and record.state in ("diverged", "failed") for record in rows):
        reasons = [clean(r.reason) if r.state in ("diverged", "failed") else "" for r in rows]
        columns.append(Column("reason", reasons, 0, right=False))
    return columns, len(records)


def _number(record: Record, name: str) -> float | None:
    value = record.params.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Ended:
    """The trials of a family that did not become complete, as text; "" for none."""

    family: str
    pruned: str
    diverged: str
    failed: str


def ended_early(sweep: StoredSweep) -> list[Ended]:
    """Return which trials of each family were pruned, diverged or failed, and when."""
    rows = rows_of(sweep.families)
    found = []
    for name, row in zip(names_of(rows), rows, strict=True):
        of_study = sorted((r for r in sweep.records if r.study == row.study), key=lambda record: record.number)
        texts = {
            "pruned": [f"{r.number} ({r.steps_done})" for r in of_study if r.state == "pruned"],
            "diverged": [
                f"{r.number} ({lr_text(_number(r, 'peak_lr'))}, {r.diverged_step})"
                for r in of_study
                if r.state == "diverged"
            ],
            "failed": [f"{r.number} ({clean(r.reason)})" for r in of_study if r.state == "failed"],
        }
        if any(texts.values()):
            found.append(Ended(name, *(_listed(texts[state]) for state in ("pruned", "diverged", "failed"))))
    return found


def _listed(texts: Sequence[str]) -> str:
    more = [f"{len(texts) - MOST_LISTED} more"] if len(texts) > MOST_LISTED else []
    return join([*texts[:MOST_LISTED], *more]) if texts else ""


# --- importance -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Importance:
    """The importance of each hyperparameter of a family, in shares of 1; None where it is unknown."""

    family: str
    shares: tuple[float | None, ...]


def importances(rows: Sequence[StudyRow]) -> tuple[list[str], list[Importance]]:
    """Return the names of the hyperparameters and the importance of each in each family."""
    known = [(name, row.importance) for name, row in zip(names_of(rows), rows, strict=True) if row.importance]
    names = list(dict.fromkeys([*(n for n in COMMON if any(n in shares for _, shares in known)),
                                *(n for _, shares in known for n in shares)]))  # fmt: skip
    found = [Importance(family, tuple(shares.get(name) for name in names)) for family, shares in known]
    return [NAMES.get(name, name) for name in names], found


# --- how to reproduce -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """What a command does, and the command."""

    about: str
    text: str


def how_to_confirm(sweep: StoredSweep) -> str:
    """Return the command or the call that confirms a search."""
    return f"python -m sweeper confirm {sweep.name}" if not sweep.is_from_python else "sweep.confirm(task)"


def commands(sweep: StoredSweep, chosen: Chosen | None) -> list[Command]:
    """Return the commands that train what the report shows again."""
    stored = not sweep.is_from_python
    found = []
    if chosen is not None:
        trial = shlex.quote(chosen.name)
        text = (
            f"python -m sweeper rerun {sweep.name} --trial {trial}" if stored else f'sweep.rerun("{chosen.name}", task)'
        )
        found.append(Command(f"Train {clean(chosen.name)} again, and compare every value bit for bit", text))
    if sweep.verdict is None:
        found.append(Command("Confirm it on fresh seeds", how_to_confirm(sweep)))
    else:
        seed = sweep.verdict["confirm_seed"] + 1
        text = (
            f"python -m sweeper confirm {sweep.name} confirm.seed={seed}"
            if stored
            else f"sweep.confirm(task, seed={seed})"
        )
        found.append(Command("Confirm it once more, on other seeds", text))
    found.append(Command("Print the tables", f"python -m sweeper status {sweep.name}"))
    found.append(Command("Show the LR and loss of every trial in MLflow", f"python -m sweeper ui {sweep.name}"))
    return found
