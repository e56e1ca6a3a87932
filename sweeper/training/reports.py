"""Reports: which jobs a trainer accepts, their traces, and how they diverged or failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sweeper.training.controllers import check_controller
from sweeper.training.norms import measured_flags, norm_traces
from sweeper.training.optimizers.optim import check_names, has_momentum
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.types import Floats, InputError, Job, Report, State, Task

Evaluate = Callable[[str], Mapping[str, float]]


@dataclass(frozen=True)
class Turn:
    """A turn of a job: its updates from one report to the next.

    Attributes:
        job: The job, with the LR as used.
        first: The first update, counted from 0.
        loss_S: Mean loss of each update, float64 [S].
        norms: What `sweeper.training.norms` measured; None if it is turned off.
    """

    job: Job
    first: int
    loss_S: Floats
    norms: Sequence[Tensor] | None

    @property
    def until(self) -> int:
        """The update after the last one of the turn."""
        return self.first + len(self.loss_S)


def check_job(job: Job, task: Task, optimizer: OptimizerSpec) -> None:
    """Check that a trainer of this task and optimizer can train a job.

    Raises:
        InputError: If it cannot.
    """
    for key, value in job.hparams.items():
        if not key.startswith(("optimizer.", "model.")):
            raise InputError(key, value, "no such hyperparameter", "Use optimizer.<option> or model.<argument>")
    check_names(optimizer, job.hparams)
    if job.momentum_S is not None and not has_momentum(optimizer):
        problem = f"{job.family} changes the momentum, which this optimizer lacks"
        raise InputError("optimizer._target_", optimizer.target, problem, "Use torch.optim.SGD")
    check_controller(job)
    for part in job.parts:
        if task.size(part, job.partition) < 1:
            raise InputError("data", part, f"empty in split {job.partition}", "Add examples or change the split")


def next_report_step(job: Job, step: int) -> int:
    """Return the update after which the job reports next."""
    return next(report for report in job.report_steps if report > step)


def report_of(turn: Turn, bound: float, evaluate: Evaluate) -> Report:
    """Return the report after a turn: diverged, complete or running.

    Args:
        turn: The turn.
        bound: A larger loss counts as divergence.
        evaluate: Returns the metrics of a part. Called only if no training loss diverged.
    """
    job, loss_S = turn.job, turn.loss_S
    bad = first_divergence(loss_S, bound)
    if bad is not None:
        step = turn.first + bad + 1
        reason = _divergence_reason("train/loss", loss_S[bad], bound, step)
        return Report(job.id, step, traces(replace(turn, loss_S=loss_S[: bad + 1])), {}, 0.0, "diverged", reason)
    step = turn.until
    metrics: dict[str, float] = {}
    for part in job.parts[1:]:
        metrics |= evaluate(part)
    state: State = "complete" if step == job.steps else "running"
    reason = ""
    for name in (f"{part}/loss" for part in job.parts[1:]):
        if first_divergence(np.array([metrics[name]]), bound) is not None:
            state, reason = "diverged", _divergence_reason(name, metrics[name], bound, step)
            break
    return Report(job.id, step, traces(turn), metrics, 0.0, state, reason)


def failure_of(turn: Turn, error: Exception) -> Report:
    """Return the report of a job that raised an error, with the traces of the updates that it finished."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return Report(turn.job.id, turn.until, traces(turn), {}, 0.0, "failed", reason)


def traces(turn: Turn) -> dict[str, Floats]:
    """Return the traces of a turn by tracking name, with the LR and momentum as used."""
    job, first, until = turn.job, turn.first, turn.until
    values = {"train/loss": turn.loss_S.copy(), "lr/group0": job.lr_S[first:until].copy()}
    if job.momentum_S is not None:
        values["momentum/group0"] = job.momentum_S[first:until].copy()
    if turn.norms is not None:
        values |= norm_traces(measured_flags(job.steps, job.report_steps, first, until), turn.norms)
    return values


def with_multipliers(report: Report, multipliers: Sequence[Tensor]) -> Report:
    """Return the report with the LR as used by an optimizer that multiplies it.

    Args:
        report: The report.
        multipliers: Of each update, [] on the device; empty for other optimizers.
    """
    lr_S = report.traces["lr/group0"]
    if not multipliers or not len(lr_S):
        return report
    used_S = lr_S.copy()
    used_S[: len(multipliers)] *= torch.stack(list(multipliers[: len(lr_S)])).cpu().double().numpy()
    return replace(report, traces={**report.traces, "lr/group0": used_S})


def first_divergence(loss_S: Floats, bound: float) -> int | None:
    """Return the index of the first loss that is not finite or exceeds the bound; None if there is none."""
    bad_S = ~(np.isfinite(loss_S) & (loss_S <= bound))
    return int(bad_S.argmax()) if bad_S.any() else None


def _divergence_reason(name: str, value: float, bound: float, step: int) -> str:
    beyond = f", beyond the task's bound of {bound:.4g}" if np.isfinite(value) else ""
    return f"{name} of update {step} is {value:.4g}{beyond}"
