"""A Hydra experiment file that trains a trial's configuration again, as a sweep of its own."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from sweeper.export.header import header
from sweeper.export.subject import Exported
from sweeper.spec.question import as_name
from sweeper.types import InputError, Record

GROUPS = ("data", "model", "optimizer", "schedule")  # which the file defines whole


def as_yaml(exported: Exported) -> str:
    """Return the file.

    Raises:
        InputError: If the sweep was started in Python, where no configuration describes its task.
    """
    question, record = exported.question, exported.chosen.record
    if exported.sweep.is_from_python:
        problem = "the sweep was started in Python, and no configuration describes its task"
        raise InputError("to", "yaml", problem, "Use python, csv or json")
    train = {**question["train"], "steps": exported.steps, "epochs": None}
    study = exported.sweep.config["studies"][record.study]
    nodes = {
        "name": as_name(f"{exported.sweep.name}-{exported.chosen.name.replace(':', '-')}"),
        "data": question["data"],
        "model": _fixed(question["model"], record, "model"),
        "optimizer": _fixed(question["optimizer"], record, "optimizer"),
        "task": question["task"],
        "schedule": {record.family: _fixed(study["schedule"], record)},
        "schedule_unit": question.get("schedule_unit", "step"),
        "train": train,
        "objective": question["objective"],
        "search": {**question["search"], "n_trials": 1},
    }
    defaults = [{f"override /{group}": None} for group in GROUPS] + [{"override /pruner": "none"}]
    use = "python -m sweeper --config-dir FOLDER experiment=FILE trains it. This file is FOLDER/experiment/FILE.yaml."
    body = yaml.safe_dump({"defaults": defaults, **nodes}, sort_keys=False, width=120, allow_unicode=True)
    return "# @package _global_\n" + header(exported, [use]) + body


def _fixed(node: Mapping[str, object], record: Record, section: str = "") -> dict[str, object]:
    """Return a node with the trial's values in place of what was searched."""
    fixed: dict[str, object] = {}
    for key, value in node.items():
        path = f"{section}.{key}" if section else key
        if isinstance(value, Mapping) and path not in record.params:
            fixed[key] = _fixed(value, record, path)
        else:
            found = record.params[path] if path in record.searched else value
            fixed[key] = list(found) if isinstance(found, tuple) else found
    return fixed
