"""Choose and build the trainer of a sweep: the configured one, the stored one, or the fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper import temporary
from sweeper.importing import import_object
from sweeper.options import check_options
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
        why: Why it was chosen, in one line; "" if the user chose it.
    """

    trainer: TrainerSpec
    device: str
    why: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same while the sweep is trained."""
        return {"_target_": self.trainer.target, **self.trainer.options, "device": self.device}

    @property
    def node(self) -> dict[str, Any]:
        """The node stored with the sweep, which `parse_chosen` reads."""
        return {**self.identity, **({"why": self.why} if self.why else {})}


def parse_chosen(node: Mapping[str, object]) -> Chosen:
    """Return a stored trainer, in this process alone."""
    stored = parse_trainer(node).options
    options = {key: value for key, value in stored.items() if key not in ("device", "why")}
    return Chosen(TrainerSpec(str(node["_target_"]), options), stored["device"], stored.get("why", ""))


def stored_trainer(home: Home) -> Chosen | None:
    """Return the trainer that the sweep in this folder was started with; None before its first run."""
    node = home.read().get("trainer")
    return None if node is None else parse_chosen(node)


def choose(spec: SweepSpec, stored: Chosen | None) -> Chosen:
    """Choose the trainer of a sweep.

    Lanes and sequential training, CPU and GPU agree in float32 only up to rounding. So a sweep keeps the trainer it was
    started with; only the number of workers may change.

    Args:
        spec: The sweep.
        stored: The trainer it was started with; None for a new sweep.

    Raises:
        InputError: If the configuration names another trainer than the stored one.
    """
    from sweeper.training.device import resolve_device

    asked, why = spec.trainer, ""
    if asked.target == AUTO and stored is None:
        asked, why = _fastest(spec)
    elif stored is not None and asked.target == AUTO:
        asked = replace(stored.trainer, workers=asked.workers)
    elif asked.target == LANES and stored is None:
        why = _stacking(spec)
    chosen = Chosen(asked, resolve_device(spec.device).type, why if stored is None else stored.why)
    if stored is not None:
        _refuse_another(stored, chosen)
    return chosen


def make(spec: SweepSpec, trainer: TrainerSpec) -> Trainer:
    """Build a trainer. Its worker processes start with the first job.

    Raises:
        InputError: If there is no such trainer, or it does not take these options.
    """
    from sweeper.training.workers.processes import Processes

    temporary.remove_abandoned()
    devices = process_devices(spec, trainer.workers)
    constructor = import_object("trainer._target_", trainer.target, LANES)
    check_options("trainer", constructor, trainer.options, given=("task", "recipe", "device"))
    try:
        return Processes(spec.task, spec.train.recipe, trainer=constructor, devices=devices, **trainer.options)
    except TypeError as error:
        raise InputError("trainer", None, str(error), "See conf/trainer/ for the options") from error


def process_devices(spec: SweepSpec, workers: int | str) -> tuple[str, ...]:
    """Return the device of each process that trains. There are at most as many processes as open jobs."""
    from sweeper.training.workers.cores import worker_devices

    return worker_devices(workers, spec.device)[: _open_jobs(spec)]


def _open_jobs(spec: SweepSpec) -> int:
    """Return the largest number of jobs that are open at once."""
    trials = sum(min(study.n_trials, spec.search.concurrent_trials) for study in spec.studies)
    return max(1, trials) * len(spec.partitions)


def _fastest(spec: SweepSpec) -> tuple[TrainerSpec, str]:
    from sweeper.training.auto import Load
    from sweeper.training.auto import choose as fastest

    load = Load(
        jobs=sum(study.n_trials for study in spec.studies) * len(spec.partitions),
        at_once=_open_jobs(spec),
        processes=len(process_devices(spec, spec.trainer.workers)),
        pruned=any(study.pruner is not None for study in spec.studies),
    )
    choice = fastest(spec.task, spec.train.recipe, example(spec), load, device=spec.device)
    workers = 1 if choice.is_short and spec.trainer.workers == "auto" else spec.trainer.workers
    return replace(parse_trainer(choice.trainer), workers=workers), choice.why


def _stacking(spec: SweepSpec) -> str:
    """Return in one line whether the model can be stacked."""
    from sweeper.training.lanes.probe import probe

    verdict = probe(spec.task, spec.train.recipe, example(spec), device=spec.device)
    return verdict.why if verdict.form is None else f"in {verdict.why}"


def _refuse_another(stored: Chosen, chosen: Chosen) -> None:
    other = differences(stored.identity, chosen.identity)
    if other:
        raise InputError(
            "device" if other[0].startswith("device") else "trainer",
            None,
            f"the sweep was started with another one ({'; '.join(other)}), and float32 results would differ",
            "Use the first one, or start over with fresh=true",
        )
