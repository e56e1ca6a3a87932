"""The LR of every update as a table: CSV, JSON, or a Python file for a schedule that has no closed form."""

from __future__ import annotations

import csv
import io
import json
import textwrap

import sweeper
from sweeper.export.header import header
from sweeper.export.subject import Exported
from sweeper.types import Floats

WIDTH = 100


def as_csv(exported: Exported) -> str:
    """Return the columns step, lr and, if it is cycled, momentum."""
    columns = _columns(exported)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *columns])
    writer.writerows(zip(range(len(exported.lr)), *(column.tolist() for column in columns.values()), strict=True))
    return text.getvalue()


def as_json(exported: Exported) -> str:
    """Return an object with the lists lr and momentum, and what the headers of other files say."""
    record, verdict = exported.chosen.record, exported.sweep.verdict
    facts = {
        "sweep": exported.sweep.name,
        "trial": exported.chosen.name,
        "chosen": exported.chosen.words,
        "family": record.family,
        "params": dict(record.params),
        "steps": exported.steps,
        "batch_size": exported.question["train"]["batch_size"],
        "optimizer": exported.optimizer.node(),
        "metric": exported.sweep.criterion.metric,
        "value": record.value,
        "verdict": None if verdict is None else verdict["sentence"],
        "version": sweeper.__version__,
    }
    columns = {name: column.tolist() for name, column in _columns(exported).items()}
    return json.dumps({**facts, **columns}, indent=None, allow_nan=False) + "\n"


def as_python(exported: Exported) -> str:
    """Return a file with a list, and a function that looks up its values."""
    why = "The LRs that were used: a reactive schedule has no formula."
    if not exported.is_reactive:
        why = "The LRs of every update: the factor is your own, so its formula is not written down."
    columns = _columns(exported)
    lists = [f"{name.upper()} = [\n{_filled(column)}\n]" for name, column in columns.items()]
    functions = [_lookup(name) for name in columns]
    return header(exported, [why]) + "\n" + "\n".join(lists) + "\n\n\n" + "\n\n\n".join(functions) + "\n"


def _columns(exported: Exported) -> dict[str, Floats]:
    columns = {"lr": exported.lr}
    if exported.momentum is not None:
        columns["momentum"] = exported.momentum[: len(exported.lr)]
    return columns


def _filled(column: Floats) -> str:
    text = ", ".join(map(repr, column.tolist()))
    indent = " " * 4
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False) + ","


def _lookup(name: str) -> str:
    what = "LR" if name == "lr" else name
    return "\n".join(
        [
            f"def {name}(step):",
            f'    """Return the {what} of an update, counted from 0. After the last one it stays."""',
            f"    return {name.upper()}[min(step, len({name.upper()}) - 1)]",
        ]
    )
