"""What a sweep is trained with: as asked, as it was begun with, or the fastest on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.importing import import_object
from sweeper.spec.plan import Plan, example
from sweeper.spec.question import differences
from sweeper.types import InputError, Trainer

Plain = Mapping[str, Any]
AUTO = "sweeper.training.auto.choose"
LANES = "sweeper.training.lanes.probe.ProbedTrainer"
NUMBERS_DO_NOT_DEPEND_ON = ("workers",)  # options with which a sweep may go on otherwise than it began


@dataclass(frozen=True)
class Chosen:
    """node: `_target_` and options of the trainer. kept: what is stored with the sweep. why: one line, or ""."""

    node: Plain
    kept: dict[str, Any]
    why: str = ""


def choose(plan: Plan, asked: Plain, device: str, kept: Plain | None) -> Chosen:
    """The trainer of a sweep. asked: as in conf/trainer. kept: what the sweep was begun with, None for a new one.

    Lanes and sequential training, CPU and GPU agree in float32 only up to rounding, so a sweep keeps the trainer it
    was begun with. Raises InputError where another one is asked for.
    """
    from sweeper.training.device import resolve_device

    place = {"device": resolve_device(device).type}
    free = {key: asked[key] for key in NUMBERS_DO_NOT_DEPEND_ON if key in asked}
    node, why = dict(asked), ""
    if asked.get("_target_") == AUTO and kept is None:
        node, why = _fastest(plan, device, asked.get("workers", 1))
    elif kept is not None and asked.get("_target_") == AUTO:
        node = {key: value for key, value in kept.items() if key not in (*place, "why")}
    elif asked.get("_target_") == LANES and kept is None:
        why = _stacked(plan, device)
    node = {**node, **free}
    begun = {key: value for key, value in node.items() if key not in free} | place
    if kept is not None:
        why = kept.get("why", "")
        _refuse_another({key: value for key, value in kept.items() if key != "why"}, begun)
    return Chosen(node, begun | ({"why": why} if why else {}), why)


def make(plan: Plan, chosen: Chosen, device: str, *, head_start: float | None = None) -> Trainer:
    """The trainer that `trainer._target_` names, with its options, in as many processes as `trainer.workers` says.

    head_start: seconds of training in this process before the others are started; None: some; 0: they are waited for.
    """
    from sweeper.training.workers.cores import places
    from sweeper.training.workers.processes import Processes

    options = {key: value for key, value in chosen.node.items() if key not in ("_target_", "workers")}
    devices = places(chosen.node.get("workers", 1), device)
    constructor = import_object("trainer._target_", chosen.node.get("_target_"), LANES)
    try:
        return Processes(
            plan.task,
            plan.optimizer,
            trainer=constructor,
            devices=devices,
            head_start=head_start,
            **_common(plan),
            **options,
        )
    except TypeError as error:
        raise InputError("trainer", None, str(error), "See conf/trainer/ for the options there are") from error


def _fastest(plan: Plan, device: str, workers: Any) -> tuple[dict[str, Any], str]:
    from sweeper.training.auto import choose as fastest
    from sweeper.training.workers.cores import places

    trials = sum(study.n_trials for study in plan.studies)
    open_trials = sum(min(study.n_trials, plan.search["concurrent_trials"]) for study in plan.studies)
    members, processes = len(plan.partitions), len(places(workers, device))
    choice = fastest(
        plan.task,
        plan.optimizer,
        example(plan),
        device=device,
        jobs=math.ceil(trials * members / processes),
        jobs_at_once=math.ceil(open_trials * members / processes),
        pruned=any(study.pruner is not None for study in plan.studies),
        **_common(plan),
    )
    return choice.trainer, choice.why


def _stacked(plan: Plan, device: str) -> str:
    """Whether the first model can be stacked, in a line."""
    from sweeper.training.lanes.probe import probe

    verdict = probe(plan.task, plan.optimizer, example(plan), batch_size=plan.batch_size, device=device)
    return verdict.why if verdict.form is None else f"in {verdict.why}"


def _common(plan: Plan) -> dict[str, Any]:
    """What every trainer is told of a sweep."""
    return {"batch_size": plan.batch_size, "precision": plan.precision, "norms": plan.norms, **plan.update}


def _refuse_another(kept: Plain, asked: Plain) -> None:
    other = differences(kept, asked)
    if other:
        raise InputError(
            "device" if other[0].startswith("device") else "trainer",
            None,
            f"this sweep was begun otherwise ({'; '.join(other)}), and float32 results would differ",
            "Go on with what it was begun with, or start over with fresh=true",
        )
