"""What a sweep is trained with: as asked, as it was begun with, or the fastest on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper.importing import import_object
from sweeper.spec.question import Home, differences
from sweeper.spec.sweep import AUTO, SweepSpec, TrainerSpec, example, parse_trainer
from sweeper.types import InputError, Trainer

LANES = "sweeper.training.lanes.probe.ProbedTrainer"


@dataclass(frozen=True)
class Chosen:
    """The trainer of a sweep.

    Attributes:
        trainer: What trains.
        device: The kind of device it trains on: cpu, cuda, ...
        why: Why it was chosen, in one line; "" where the user chose it.
    """

    trainer: TrainerSpec
    device: str
    why: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same for as long as the sweep is trained."""
        return {"_target_": self.trainer.target, **self.trainer.options, "device": self.device}

    @property
    def node(self) -> dict[str, Any]:
        """The node that is stored with the sweep; `parse_chosen` reads it."""
        return {**self.identity, **({"why": self.why} if self.why else {})}


def parse_chosen(node: Mapping[str, object]) -> Chosen:
    """Return the trainer that a sweep was begun with, in this process alone."""
    stored = parse_trainer(node).options
    options = {key: value for key, value in stored.items() if key not in ("device", "why")}
    return Chosen(TrainerSpec(str(node["_target_"]), options), stored["device"], stored.get("why", ""))


def begun_with(home: Home) -> Chosen | None:
    """Return the trainer that the sweep in this folder was begun with; None before its first run."""
    stored = home.read().get("trainer")
    return None if stored is None else parse_chosen(stored)


def choose(spec: SweepSpec, begun: Chosen | None) -> Chosen:
    """Choose the trainer of a sweep. begun: what the sweep was begun with, None for a new one.

    Lanes and sequential training, CPU and GPU agree in float32 only up to rounding, so a sweep keeps the trainer it
    was begun with; the number of workers may change. Raises InputError where another one is asked for.
    """
    from sweeper.training.device import resolve_device

    asked, why = spec.trainer, ""
    if asked.target == AUTO and begun is None:
        asked, why = _fastest(spec)
    elif begun is not None and asked.target == AUTO:
        asked = replace(begun.trainer, workers=asked.workers)
    elif asked.target == LANES and begun is None:
        why = _stacked(spec)
    chosen = Chosen(asked, resolve_device(spec.device).type, why if begun is None else begun.why)
    if begun is not None:
        _refuse_another(begun, chosen)
    return chosen


def make(spec: SweepSpec, trainer: TrainerSpec, *, head_start: float | None = None) -> Trainer:
    """Build a trainer in as many processes as its workers say.

    head_start: seconds of training in this process before the others are started; None: some; 0: they are waited for.
    """
    from sweeper.training.workers.cores import places
    from sweeper.training.workers.processes import Processes

    devices = places(trainer.workers, spec.device)
    constructor = import_object("trainer._target_", trainer.target, LANES)
    try:
        return Processes(
            spec.task,
            spec.train.recipe,
            trainer=constructor,
            devices=devices,
            head_start=head_start,
            **trainer.options,
        )
    except TypeError as error:
        raise InputError("trainer", None, str(error), "See conf/trainer/ for the options there are") from error


def _fastest(spec: SweepSpec) -> tuple[TrainerSpec, str]:
    from sweeper.training.auto import Load
    from sweeper.training.auto import choose as fastest
    from sweeper.training.workers.cores import places

    trials = sum(study.n_trials for study in spec.studies)
    open_trials = sum(min(study.n_trials, spec.search.concurrent_trials) for study in spec.studies)
    members, processes = len(spec.partitions), len(places(spec.trainer.workers, spec.device))
    load = Load(
        jobs=math.ceil(trials * members / processes),
        at_once=math.ceil(open_trials * members / processes),
        pruned=any(study.pruner is not None for study in spec.studies),
    )
    choice = fastest(spec.task, spec.train.recipe, example(spec), load, device=spec.device)
    return replace(parse_trainer(choice.trainer), workers=spec.trainer.workers), choice.why


def _stacked(spec: SweepSpec) -> str:
    """Whether the first model can be stacked, in a line."""
    from sweeper.training.lanes.probe import probe

    verdict = probe(spec.task, spec.train.recipe, example(spec), device=spec.device)
    return verdict.why if verdict.form is None else f"in {verdict.why}"


def _refuse_another(begun: Chosen, asked: Chosen) -> None:
    other = differences(begun.identity, asked.identity)
    if other:
        raise InputError(
            "device" if other[0].startswith("device") else "trainer",
            None,
            f"this sweep was begun otherwise ({'; '.join(other)}), and float32 results would differ",
            "Go on with what it was begun with, or start over with fresh=true",
        )
