"""The trainer of a task whose expected loss is known: it computes instead of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.training.recipe import Recipe
from sweeper.training.reports import next_report_step
from sweeper.types import Floats, InputError, Job, JobId, Report, State, Task, seed_of


class ExpectedTrainer:
    """Reports the expected loss of plain SGD, with made-up noise of seeds.

    It needs a task whose data have `expected_loss(lr_S) -> loss_S` for SGD with their `batch_size`, such as
    `sweeper.tasks.quadratic`. Metrics of each evaluated part are "loss" and "log_loss".

    Args:
        task: The task.
        recipe: How it is trained: plain SGD.
        spread: Standard deviation of the log of the loss over seeds, which all schedules share: a seed is as good or
            bad for each of them.
        own_spread: The same of the noise that each schedule has of its own, so that differences at equal seeds have
            sqrt(2) times as much.
        device: Unused: it computes on the CPU.

    Raises:
        InputError: If the task's expected loss is not known, or the optimizer is not plain SGD.
    """

    def __init__(
        self, task: Task, recipe: Recipe, spread: float = 0.0, own_spread: float = 0.0, device: str = "cpu"
    ) -> None:
        expected = getattr(getattr(task, "data", None), "expected_loss", None)
        if expected is None:
            problem = "the expected loss of this task is not known"
            raise InputError("trainer", "expected", problem, "Use data=quadratic, or another trainer")
        _check_recipe(recipe, task.data.batch_size)  # type: ignore[attr-defined]
        self._expected, self._bound, self._spreads = expected, task.loss_bound, (spread, own_spread)
        self._open: dict[JobId, tuple[Job, Floats]] = {}
        self._steps: dict[JobId, int] = {}

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            seeds = seed_of(job.seed, "expected"), seed_of(job.seed, job.lr_S.tobytes().hex())
            noise = math.fsum(spread * _normal(seed) for spread, seed in zip(self._spreads, seeds, strict=True))
            self._open[job.id] = job, self._expected(job.lr_S) * math.exp(noise)
            self._steps[job.id] = 0

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        for id in ids:
            job, loss_S = self._open[id]
            first, until = self._steps[id], next_report_step(job, self._steps[id])
            bad = np.flatnonzero(~(loss_S[first:until] <= self._bound))
            state: State = "complete" if until == job.steps else "running"
            if len(bad):
                until, state = first + int(bad[0]) + 1, "diverged"
            self._steps[id] = until
            metrics = {} if state == "diverged" else self._metrics(id, job.parts[1:])
            traces = {"train/loss": loss_S[first:until], "lr/group0": job.lr_S[first:until]}
            yield Report(id, until, traces, metrics, 0.0, state, "loss above the bound" if len(bad) else "")

    def stop(self, id: JobId) -> None:
        del self._open[id], self._steps[id]

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        return self._metrics(id, (part,))

    def weights(self, id: JobId) -> dict[str, Any]:
        return {}

    def save(self, folder: Path, round: int) -> None:
        """Do nothing: computing again is faster."""

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        return {}

    def capacity(self) -> int:
        return 1024

    def close(self) -> None: ...

    def _metrics(self, id: JobId, parts: Sequence[str]) -> dict[str, float]:
        loss = float(self._open[id][1][self._steps[id] - 1])
        return {name: value for part in parts for name, value in _named(part, loss).items()}


def _normal(seed: int) -> float:
    return float(np.random.default_rng(seed).standard_normal())


def _named(part: str, loss: float) -> dict[str, float]:
    return {f"{part}/loss": loss, f"{part}/log_loss": math.log(loss)}


def _check_recipe(recipe: Recipe, batch_size: int) -> None:
    options = recipe.optimizer.options
    if recipe.optimizer.target != "torch.optim.SGD" or options.get("momentum") or options.get("weight_decay"):
        problem = "the expected loss is that of plain SGD"
        raise InputError("optimizer._target_", recipe.optimizer.target, problem, "Use experiment=quadratic")
    if recipe.batch_size != batch_size:
        problem = f"the expected loss holds for {batch_size} examples"
        raise InputError("train.batch_size", recipe.batch_size, problem, f"Write train.batch_size={batch_size}")
