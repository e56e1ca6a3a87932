"""Can this model be stacked? Three updates in float64, stacked, against the same alone; refuse at any difference.

vmap is wrong without a word in places (an embedding with padding_idx, buffers assigned anew in forward), and raises
in others (data-dependent branches, .item(), random numbers). So nothing is trusted that was not seen to agree.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sweeper.training.device import resolve_device
from sweeper.training.evaluation import forward
from sweeper.training.lanes import LaneTrainer
from sweeper.training.optim import options_of
from sweeper.training.program import Form, Mode, built, structure
from sweeper.training.randomness import PROBE, generators_seeded, key_of
from sweeper.training.sequential import SequentialTrainer
from sweeper.training.stacked import why_not
from sweeper.types import Job, JobId, Report, Task, Trainer

_log = logging.getLogger(__name__)

MODES: tuple[Mode, ...] = ("forward", "grad")
UPDATES = 3
LRS = (0.1, 0.03, 0.01)  # one for each job
# Not the trial's optimizer: Adam turns a gradient that is 0 up to rounding (a bias before a BatchNorm) into a whole
# step of either sign, so equal models would differ. The rules of the optimizers have tests of their own.
SGD = {"_target_": "torch.optim.SGD", "weight_decay": 0.01}
RTOL = 1e-9


@dataclass(frozen=True)
class Verdict:
    """form: how this model is stacked, None if it cannot be. why: one line for a person."""

    form: Form | None
    why: str
    seconds: float = 0.0


def probe(task: Task, optimizer: Mapping[str, Any], example: Job, *, batch_size: int, device: str = "auto") -> Verdict:
    """Whether, and how, jobs like `example` can be stacked. The example itself is not trained."""
    began = time.perf_counter()
    verdict = _verdict(task, optimizer, example, batch_size, device)
    return replace(verdict, seconds=time.perf_counter() - began)


def _verdict(task: Task, optimizer: Mapping[str, Any], example: Job, batch_size: int, device: str) -> Verdict:
    reason = why_not(optimizer, example.hparams, example.momentum_S)
    if reason is not None:
        return Verdict(None, f"one at a time: {reason}")
    if resolve_device(device).type == "mps":
        return Verdict(None, "one at a time: mps has no float64, in which the probe compares")
    jobs = _jobs(example)
    try:
        trained, moving = _parts(task, example, batch_size, resolve_device(device))
        expected = _results(
            SequentialTrainer(task, SGD, batch_size=batch_size, device=device, precision="float64"), jobs
        )
    except Exception as error:  # it cannot be trained at all: the trial itself will say so
        return Verdict(None, f"one at a time: the probe failed ({_line(error)})")
    reasons = []
    for mode in MODES:
        form = Form(mode, trained, moving)
        try:
            stacked = LaneTrainer(
                task, SGD, form=form, batch_size=batch_size, width=2, device=device, precision="float64"
            )
            reason = _difference(expected, _results(stacked, jobs))
        except Exception as error:
            reason = _line(error)
        if reason is None:
            return Verdict(form, f"lanes: vmap({mode}) agrees with one at a time in {UPDATES} updates in float64")
        reasons.append(f"vmap({mode}): {reason}")
    return Verdict(None, "one at a time: the model cannot be stacked. " + "; ".join(reasons))


def _jobs(example: Job) -> list[Job]:
    """Three short jobs with the numbers of the example's model."""
    numbers = {key: value for key, value in example.hparams.items() if key.startswith("model.")}
    return [
        replace(
            example,
            id=JobId("probe", trial, 0),
            seed=key_of(example.seed, PROBE, trial),
            lr_S=np.full(UPDATES, lr),
            momentum_S=None,
            hparams=numbers,
            report_steps=(UPDATES,),
        )
        for trial, lr in enumerate(LRS)
    ]


def _parts(task: Task, example: Job, batch_size: int, device: torch.device) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which parameters the loss depends on, and which buffers a forward pass in training changes."""
    task, numbers = task.to(device), options_of(example.hparams, "model")
    models = [built(task, seed, numbers, torch.float64, device) for seed in (example.seed, example.seed + 1)]
    if structure(models[0]) != structure(models[1]):
        raise ValueError("models built with two seeds differ in more than parameters and buffers")
    model = models[0]
    before = {name: value.clone() for name, value in model.named_buffers()}
    index_B = torch.arange(min(batch_size, task.size(example.parts[0], example.partition)), device=device)
    with generators_seeded(0, device):
        output_B, target_B = forward(task, model, torch.float64, example.parts[0], example.partition, index_B)
        task.loss(output_B, target_B).sum().backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
    after = dict(model.named_buffers())
    trained = tuple(name for name, parameter in model.named_parameters() if parameter.grad is not None)
    return trained, tuple(name for name, value in before.items() if not torch.equal(value, after[name]))


def _results(trainer: Trainer, jobs: Sequence[Job]) -> list[tuple[Report, dict[str, Tensor]]]:
    trainer.start(jobs)
    reports = {report.id: report for report in trainer.advance([job.id for job in jobs])}
    for report in reports.values():
        if report.state == "failed":
            raise RuntimeError(report.reason)
    results = [(reports[job.id], trainer.weights(job.id)) for job in jobs]
    trainer.close()
    return results


def _difference(
    expected: Sequence[tuple[Report, dict[str, Tensor]]], found: Sequence[tuple[Report, dict[str, Tensor]]]
) -> str | None:
    """What differs first, None if nothing does."""
    for (report, weights), (other, others) in zip(expected, found, strict=True):
        if report.state != other.state:
            return f"a job was {other.state} that is {report.state} alone"
        for name, trace in report.traces.items():
            if not np.allclose(other.traces[name], trace, rtol=RTOL, atol=RTOL, equal_nan=True):
                return f"{name} differs"
        for name, value in report.metrics.items():
            if not np.isclose(other.metrics[name], value, rtol=RTOL, atol=RTOL, equal_nan=True):
                return f"{name} differs"
        for name, tensor in weights.items():
            if not torch.allclose(others[name].double(), tensor.double(), rtol=RTOL, atol=RTOL, equal_nan=True):
                return f"{name} differs"
    return None


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


class ProbedTrainer:
    """Lanes where the probe agrees, else one at a time; see sweeper.types.Trainer. Decides at the first job.

    `why` says which, in one line, once it is decided.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Mapping[str, Any],
        *,
        batch_size: int,
        width: int = 16,
        device: str = "auto",
        precision: Literal["float32", "float64"] = "float32",
        compiled: bool = False,
        norms: bool = True,
        workers: int = 1,
    ) -> None:
        self._task, self._optimizer = task, optimizer
        self._common: dict[str, Any] = {
            "batch_size": batch_size, "device": device, "precision": precision, "norms": norms
        }  # fmt: skip
        self._stacked: dict[str, Any] = {"width": width, "compiled": compiled}
        self._alone = SequentialTrainer(task, optimizer, **self._common)
        self._lanes: LaneTrainer | None = None
        self._of: dict[JobId, Trainer] = {}
        self.why: str | None = None

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            trainer = self._for(job)
            trainer.start([job])
            self._of[job.id] = trainer

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        for trainer in self._both():
            yield from trainer.advance([id for id in ids if self._of[id] is trainer])

    def stop(self, id: JobId) -> None:
        self._of.pop(id).stop(id)

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        return self._of[id].evaluate(id, part)

    def weights(self, id: JobId) -> dict[str, Tensor]:
        return self._of[id].weights(id)

    def save(self, folder: Path, round: int) -> None:
        for trainer, name in zip(self._both(), ("alone", "lanes"), strict=False):
            trainer.save(folder / name, round)

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        stands: dict[JobId, int] = {}
        for job in jobs:
            trainer = self._for(job)
            name = "alone" if trainer is self._alone else "lanes"
            found = trainer.restore(folder / name, [job], last_round)
            if found:
                self._of[job.id] = trainer
                stands |= found
        return stands

    def capacity(self) -> int:
        return self._both()[-1].capacity()

    def close(self) -> None:
        for trainer in self._both():
            trainer.close()
        self._of.clear()

    def _both(self) -> list[Trainer]:
        return [self._alone] if self._lanes is None else [self._alone, self._lanes]

    def _for(self, job: Job) -> Trainer:
        if self.why is None:
            verdict = probe(
                self._task, self._optimizer, job, batch_size=self._common["batch_size"], device=self._common["device"]
            )
            self.why = verdict.why
            _log.info("%s (%.2f s)", verdict.why, verdict.seconds)
            if verdict.form is not None:
                self._lanes = LaneTrainer(
                    self._task, self._optimizer, form=verdict.form, **self._common, **self._stacked
                )
        if self._lanes is None or why_not(self._optimizer, job.hparams, job.momentum_S) is not None:
            return self._alone
        return self._lanes
