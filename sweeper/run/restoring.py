"""Restore the configuration of a stored sweep, to train some of its trials again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sweeper.results.stored import StoredSweep
from sweeper.search.records import JournalReader
from sweeper.spec.composing import compose
from sweeper.spec.parse import parse
from sweeper.spec.question import differences
from sweeper.spec.requests import Request
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.types import InputError


def subject_nodes(sweep: StoredSweep, call: str) -> dict[str, Any]:
    """Return the nodes of data, model and task of a sweep that the command line started.

    Args:
        sweep: The stored sweep.
        call: What to call in Python instead, such as `rerun("cosine:17", task)`.

    Raises:
        InputError: If the sweep was started in Python, with a task that is stored nowhere.
    """
    question = sweep.config["question"]
    if sweep.is_from_python:
        remedy = f'Pass the task: sweeper.load("{sweep.name}").{call}'
        raise InputError("sweep", sweep.name, "it was started in Python, and its task is not stored", remedy)
    return {"data": question["data"], "model": question["model"], "task": question["task"]}


def restore_spec(sweep: StoredSweep, study: str, subject: Subject, *, norms: bool) -> SweepSpec:
    """Return the configuration of a stored sweep, for one of its studies.

    Args:
        sweep: The stored sweep.
        study: Name of the study.
        subject: Data, model and task of the sweep.
        norms: Whether the norms of gradients and updates are measured (`train.norms`).

    Raises:
        InputError: If data, model or code are no longer those of the sweep.
    """
    question, family = sweep.config["question"], sweep.config["studies"][study]["family"]
    spec = parse(stored_nodes(sweep, study, norms=norms), subject)
    other = differences(question, spec.question)
    if other:
        problem = f"data, model or settings are not those of the sweep ({'; '.join(other)})"
        raise InputError("sweep", sweep.name, problem, "Restore them")
    if spec.studies[0].name != study:
        problem = "the definition or the code of this family has changed"
        raise InputError(f"schedule.{family}", None, problem, "Restore it")
    return spec


def restore_search(sweep: StoredSweep, subject: Subject) -> list[SweepSpec]:
    """Return the configuration of the whole search of a stored sweep, for a new search.

    Args:
        sweep: The stored sweep.
        subject: Data, model and task of the sweep.

    Returns:
        One for all families. If a family has several studies, one more for each of its further ones. A study whose
        trials a wider one took over is left out.

    Raises:
        InputError: If data, model or code are no longer those of the sweep.
    """
    reader = JournalReader(sweep.home.journal)
    plans, starts, extended = reader.plans(), reader.starts(), reader.extended()
    waves: list[dict[str, SweepSpec]] = []
    for study in sorted(plans.keys() - extended):
        spec = restore_spec(sweep, study, subject, norms=False)
        plan = replace(
            spec.studies[0].resumed_as(plans[study]),
            start=starts[study],
            stop=sweep.config["studies"][study].get("stop"),
            extends=False,
        )
        family = plan.family.name
        wave = next((wave for wave in waves if family not in wave), None)
        if wave is None:
            wave = {}
            waves.append(wave)
        wave[family] = replace(spec, studies=(plan,))
    return [_joined(list(wave.values())) for wave in waves]


def _joined(specs: list[SweepSpec]) -> SweepSpec:
    """Return one configuration with the studies of several."""
    schedules = {family: node for spec in specs for family, node in spec.schedules.items()}
    return replace(specs[0], studies=tuple(spec.studies[0] for spec in specs), schedules=schedules)


def whole_configuration(sweep: StoredSweep, first: str) -> dict[str, Any]:
    """Return the configuration of a stored sweep with all its families, for a new sweep that begins with it.

    Args:
        sweep: The stored sweep.
        first: A study: of a family with several, it is the one that counts, and its sampler and pruner are for all.
    """
    studies = sweep.config["studies"]
    nodes = stored_nodes(sweep, first, norms=True)
    of_families = {stored["family"]: stored for stored in studies.values()}
    of_families[studies[first]["family"]] = studies[first]
    question = sweep.config["question"]
    described = subject_nodes(sweep, "retune") if "data" in question else {}
    return {
        **nodes,
        **described,
        "schedule": {family: stored["schedule"] for family, stored in sorted(of_families.items())},
        "search": {**nodes["search"], "n_trials": max(stored["trials"] for stored in studies.values())},
    }


def stored_nodes(sweep: StoredSweep, study: str, *, norms: bool) -> dict[str, Any]:
    """Return the configuration of a stored sweep as `spec.parse` takes it, for one of its studies.

    Args:
        sweep: The stored sweep.
        study: Name of the study.
        norms: Whether the norms of gradients and updates are measured (`train.norms`).
    """
    question, stored = sweep.config["question"], sweep.config["studies"][study]
    default = compose(Request()).nodes
    return {
        **default,
        "schedule": {stored["family"]: stored["schedule"]},
        "optimizer": question["optimizer"],
        "train": {**default["train"], **question["train"], "epochs": None, "norms": norms},
        "objective": {**default["objective"], **question["objective"], "target": sweep.config.get("target")},
        "search": {
            **default["search"], **question["search"], "sampler": stored["sampler"], "n_trials": stored["trials"]
        },
        "pruner": stored["pruner"],
        "schedule_unit": question.get("schedule_unit", default["schedule_unit"]),
        "tracking": {"_target_": None},
        "device": sweep.config["trainer"]["device"],
    }  # fmt: skip
