"""The sequential trainer: one model at a time. Open jobs take turns, each from one report to the next.

Invariants, which every other trainer must reproduce:

- Update t of a job trains on the examples `batches(seed, t, ...)` with the LR lr_S[t], and its dropout masks are hashes
  of (seed, t, ...). So a job's results depend on the job alone.
- Nothing is read from the device between two reports. A divergence is noticed at the next report.
- A turn starts and ends at reports. The global generators are seeded for each turn, and the caller's generators,
  threads and flags are restored whenever the caller runs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.training.batch import micro_batches, training_batches
from sweeper.training.checkpoint import Saved, job_digest, read_checkpoint, reopen_jobs, write_checkpoint
from sweeper.training.controllers import Course, observe, restore_course, save_course, start_course
from sweeper.training.device import (
    OffloadedModel,
    Threads,
    deterministic_algorithms,
    intra_op_threads,
    is_crowded,
    resolve_device,
    thread_count,
)
from sweeper.training.evaluation import cast, dtype_of, evaluate, output_of
from sweeper.training.examples import Examples
from sweeper.training.norms import measure_after, measure_before, measured_flags
from sweeper.training.optimizers.groups import Grouping, with_lrs
from sweeper.training.optimizers.looking import Forward, evaluated_weights
from sweeper.training.optimizers.optim import (
    grouping_of,
    has_look,
    make_optimizer,
    options_of,
    set_lr_and_momentum,
    shrink,
)
from sweeper.training.randomness import (
    EVALUATION,
    LOOK,
    TURN,
    Clock,
    batches,
    count_dropout,
    key_of,
    seeded_generators,
)
from sweeper.training.recipe import Recipe, newest_share, swap_in_average, update_average
from sweeper.training.reports import (
    Turn,
    check_job,
    failure_of,
    first_divergence,
    next_report_step,
    report_of,
    with_multipliers,
)
from sweeper.types import Floats, InputError, Job, JobId, Report, State, Task

_log = logging.getLogger(__name__)


@dataclass
class _Model:
    """A job's model on the device.

    Attributes:
        module: The model.
        optimizer: Its optimizer.
        grouping: Parameter groups of the optimizer.
        clock: Counter of the dropout layers.
        parameters: All parameters.
        dtype: Floating-point type of the parameters.
        average: Average of the weights; empty before the first update, or without one.
        offloaded: The model while it is in host memory.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    grouping: Grouping
    clock: Clock
    parameters: list[nn.Parameter]
    dtype: torch.dtype
    average: list[Tensor] = field(default_factory=list)
    offloaded: OffloadedModel | None = None

    @property
    def weights(self) -> list[nn.Parameter]:
        """The parameters that are trained."""
        return [one for one in self.parameters if one.is_floating_point() and one.requires_grad]


@dataclass
class _OpenJob:
    """An open job.

    Attributes:
        job: The job.
        course: The job with its LR as used.
        step: Updates finished.
        model: The model, from the first turn on.
        state: State of the last report.
        at_report: Whether the last turn reached its report. If not, the job cannot be saved.
        losses: Loss of each example [B], for each update of the turn.
        norms: Measurements of the turn (sweeper.training.norms).
        multipliers: LR multipliers of the turn, for an optimizer that has them.
    """

    job: Job
    course: Course
    step: int = 0
    model: _Model | None = None
    state: State = "running"
    at_report: bool = True
    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    multipliers: list[Tensor] = field(default_factory=list)


class _SavedModel(Saved, total=False):
    """A job in a checkpoint, with its model from the first turn on.

    Attributes:
        model: State of the model.
        buffers: All buffers, including those that a state_dict leaves out.
        optimizer: State of the optimizer.
        average: Average of the weights; empty without one.
    """

    model: dict[str, Any]
    buffers: dict[str, Tensor]
    optimizer: dict[str, Any]
    average: list[Tensor]


class SequentialTrainer:
    """Trains jobs one at a time, as fast as a tuned PyTorch loop; see sweeper.types.Trainer.

    A machine repeats its results bit for bit. With another number of threads, float32 sums may differ in their last
    bits.

    Args:
        task: What is trained.
        recipe: How it is trained.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        threads: Threads of one operation on the CPU; "auto" is one.
        now: Clock for the seconds in reports.

    Raises:
        InputError: If the device, or a combination of values, cannot be used.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        *,
        device: str = "auto",
        threads: Threads = "auto",
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        _check_threads(threads)
        self._recipe = recipe
        self._device = resolve_device(device)
        if recipe.precision == "float64" and self._device.type == "mps":
            raise InputError("train.precision", recipe.precision, "mps has no float64", "Use float32, or device=cpu")
        self._task = task.to(self._device)
        if recipe.accumulate > 1 and has_look(recipe.optimizer):
            problem = f"{recipe.optimizer.target} needs whole batches"
            raise InputError("train.accumulate", recipe.accumulate, problem, "Use train.accumulate=1")
        self._half = recipe.half(self._device)
        self._threads, self._now = threads, now
        self._open: dict[JobId, _OpenJob] = {}
        self._spare: list[Tensor] = []  # memory for a copy of one model's weights, for the norms

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._check(job)
        for job in jobs:
            self._open[job.id] = _OpenJob(job, start_course(job))

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        for id in ids:
            yield self._advance_job(self._open[id])

    def stop(self, id: JobId) -> None:
        del self._open[id]

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        run = self._open[id]
        with self._isolation(run.job, TURN, run.step):
            model = self._ready_model(run)
            with intra_op_threads(thread_count(self._threads)):
                return self._metrics(run, model, part)

    def weights(self, id: JobId) -> dict[str, Tensor]:
        run = self._open[id]
        with self._isolation(run.job, TURN, run.step):
            model = self._ready_model(run)
            with evaluated_weights(model.optimizer, model.weights), swap_in_average(model.weights, model.average):
                state = model.module.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items() if isinstance(value, Tensor)}

    def save(self, folder: Path, round: int) -> None:
        runs = [run for run in self._open.values() if run.state == "running" and run.at_report]
        write_checkpoint(folder, round, {run.job.id: self._saved_job(run) for run in runs})

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        states = read_checkpoint(folder, last_round)
        return reopen_jobs(states, jobs, digest=self._digest, check=self._check, reopen=self._reopen)

    def capacity(self) -> int:
        return 1

    def close(self) -> None:
        self._open.clear()

    # --- a turn -------------------------------------------------------------------------------------

    def _advance_job(self, run: _OpenJob) -> Report:
        """Advance one job to its next report. An error fails this job alone."""
        if run.state != "running":
            raise RuntimeError(f"{run.job.id} is {run.state}: it can be evaluated and stopped, not advanced")
        start, first = self._now(), run.step
        run.at_report, run.losses, run.norms, run.multipliers = False, [], [], []
        try:
            with self._isolation(run.job, TURN, first):
                report = self._next_report(run)
        except Exception as error:
            _log.exception("%s failed after update %d", run.job.id, run.step)
            report = self._failure_report(run, first, error)
            run.model = None if report.state == "failed" else run.model
        report = with_multipliers(report, run.multipliers)
        run.course, report = observe(run.course, replace(report, seconds=self._now() - start))
        if run.model is not None:
            report = with_lrs(report, run.model.grouping)
        run.at_report, run.losses, run.norms, run.multipliers, run.state = True, [], [], [], report.state
        return report

    def _next_report(self, run: _OpenJob) -> Report:
        first, model = run.step, self._ready_model(run)
        with intra_op_threads(thread_count(self._threads)):
            self._train(run, model, next_report_step(run.job, first))
            turn = Turn(run.course.job, first, _mean_losses(run.losses), self._norms_of(run))
            report = report_of(turn, self._task.loss_bound, lambda part: self._metrics(run, model, part))
        if is_crowded(self._device):
            model.offloaded = OffloadedModel(model.module, model.optimizer, model.average)
        return report

    def _train(self, run: _OpenJob, model: _Model, until: int) -> None:
        """Run updates run.step .. until - 1, without waiting for the device.

        The mean loss is minimized. Its value is computed at the report.
        """
        job, first, task = run.course.job, run.step, self._task
        examples = Examples(task, job.parts[0], job.partition)
        index_SB = batches(job.seed, first, until, self._recipe.batch_size, examples.size)
        lr_S = job.lr_S[first:until].tolist()
        momentum_S = [None] * len(lr_S) if job.momentum_S is None else job.momentum_S[first:until].tolist()
        newest_S = newest_share(self._recipe.ema or 0.0, first, len(lr_S)).tolist()
        measured_S = measured_flags(job.steps, job.report_steps, first, until) & self._recipe.norms
        optimizer, weights, decay = model.optimizer, model.weights, model.grouping.decay
        multiplier = getattr(optimizer, "multiplier", None)
        for batch, lr, momentum, newest, measured in zip(
            training_batches(examples, index_SB, job.seed, first, self._device),
            lr_S,
            momentum_S,
            newest_S,
            measured_S.tolist(),
            strict=True,
        ):
            set_lr_and_momentum(optimizer, lr, momentum)
            model.clock.step = run.step
            run.losses.append(self._compute_gradients(model, batch))
            before = measure_before(weights, self._spare) if measured else None
            if self._recipe.clip is not None:
                nn.utils.clip_grad_norm_(weights, self._recipe.clip)
            if decay.is_ours:
                shrink(optimizer, decay.scale(lr))
            optimizer.step()
            if multiplier is not None:
                run.multipliers.append(multiplier())
            if before is not None:
                self._spare = before.values
                run.norms.append(measure_after(weights, before))
            if self._recipe.ema is not None:
                update_average(model.average, weights, newest)
            run.step += 1

    def _compute_gradients(self, model: _Model, batch: tuple[Any, Tensor]) -> Tensor:
        """Compute the gradients of the mean loss, and return the loss of each example [B]."""
        for parameter in model.parameters:  # optimizer.zero_grad(set_to_none=True) would add profiling
            parameter.grad = None
        look = getattr(model.optimizer, "look", None)
        losses: list[Tensor] = []
        for micro, (inputs_B, target_B) in enumerate(micro_batches(batch, self._recipe.accumulate)):
            model.clock.micro, model.clock.backward = micro, False
            inputs_B, target_B = cast((inputs_B, target_B), model.dtype)
            output_B = output_of(self._task, model.module, inputs_B, self._half)
            loss_B = self._task.loss(output_B, target_B)
            model.clock.backward = True
            if look is not None:
                key = key_of(model.clock.seed, LOOK, model.clock.step)
                look(Forward(self._task, model.module, inputs_B, target_B, output_B, loss_B, key))
            share_B = torch.full_like(loss_B, 1 / self._recipe.batch_size)
            loss_B.backward(share_B)  # type: ignore[no-untyped-call] # torch leaves it unannotated
            losses.append(loss_B.detach())
        return losses[0] if len(losses) == 1 else torch.cat(losses)

    def _failure_report(self, run: _OpenJob, first: int, error: Exception) -> Report:
        """Return the report of a job that raised an error, with its traces if the device still returns them.

        If its loss diverged before, the job counts as diverged: the error followed, such as an eigenvalue of NaN.
        """
        try:
            turn = Turn(run.course.job, first, _mean_losses(run.losses), self._norms_of(run))
            if first_divergence(turn.loss_S, self._task.loss_bound) is not None:
                return report_of(turn, self._task.loss_bound, lambda part: {})
            return failure_of(turn, error)
        except Exception:  # the device itself failed
            return failure_of(Turn(run.job, first, np.zeros(0), [] if self._recipe.norms else None), error)

    def _norms_of(self, run: _OpenJob) -> list[Tensor] | None:
        return run.norms if self._recipe.norms else None

    def _metrics(self, run: _OpenJob, model: _Model, part: str) -> dict[str, float]:
        seeded = seeded_generators(key_of(run.job.seed, EVALUATION, run.step), self._device)
        with seeded, evaluated_weights(model.optimizer, model.weights), swap_in_average(model.weights, model.average):
            examples = Examples(self._task, part, run.job.partition)
            return evaluate(examples, model.module, self._device, self._half)

    # --- the environment of a turn ------------------------------------------------------------------

    @contextlib.contextmanager
    def _isolation(self, job: Job, purpose: int, step: int) -> Iterator[None]:
        """Run a block of code with the job's generators and deterministic algorithms, then restore the caller's."""
        with seeded_generators(key_of(job.seed, purpose, step), self._device), deterministic_algorithms(self._device):
            yield

    def _ready_model(self, run: _OpenJob) -> _Model:
        """Return the job's model on the device. It is built before the first turn, or reloaded from host memory."""
        if run.state == "failed":
            raise RuntimeError(f"{run.job.id} failed: it has no weights")
        if run.model is None:
            run.model = self._build(run.job)
        if run.model.offloaded is not None:
            run.model.offloaded.reload(self._device)
            run.model.offloaded = None
        return run.model

    def _build(self, job: Job) -> _Model:
        clock = Clock(job.seed)
        module = count_dropout(self._task.build(job.seed, **options_of(job.hparams, "model")), clock).to(self._device)
        if self._recipe.weights == torch.float64:
            module.double()
        optimizer = make_optimizer(self._recipe.optimizer, job.hparams, module)
        grouping = grouping_of(self._recipe.optimizer, job, module)
        return _Model(module, optimizer, grouping, clock, list(module.parameters()), dtype_of(module))

    # --- checkpoints --------------------------------------------------------------------------------

    def _digest(self, job: Job) -> str:
        return job_digest(job, self._task.fingerprint, *self._recipe.settings)

    def _saved_job(self, run: _OpenJob) -> Saved:
        """Return everything that the next update depends on."""
        saved: Saved = {"digest": self._digest(run.job), "step": run.step, **save_course(run.course)}
        if run.model is None:
            return saved
        with_model: _SavedModel = {
            **saved,
            "model": run.model.module.state_dict(),
            "buffers": dict(run.model.module.named_buffers()),
            "optimizer": run.model.optimizer.state_dict(),
            "average": run.model.average,
        }
        return with_model

    def _reopen(self, job: Job, saved: _SavedModel) -> None:
        run = _OpenJob(job, restore_course(job, saved), saved["step"])
        if "model" in saved:
            with self._isolation(job, TURN, 0):
                model = self._ready_model(run)
            model.module.load_state_dict(saved["model"])
            buffers = dict(model.module.named_buffers())
            for name, value in saved["buffers"].items():
                buffers[name].copy_(value)
            model.optimizer.load_state_dict(saved["optimizer"])
            model.average = [value.to(self._device) for value in saved["average"]]
        self._open[job.id] = run

    # --- validation ---------------------------------------------------------------------------------

    def _check(self, job: Job) -> None:
        if job.id in self._open:
            raise RuntimeError(f"{job.id} is already open")
        check_job(job, self._task, self._recipe.optimizer)


def _mean_losses(losses: Sequence[Tensor]) -> Floats:
    """Return the mean loss of each update, float64 [S]. This is the only read from the device between two reports."""
    if not losses:
        return np.zeros(0)
    loss_S: Floats = torch.stack(list(losses)).cpu().double().mean(1).numpy()
    return loss_S


def _check_threads(threads: object) -> None:
    if threads != "auto" and (not isinstance(threads, int) or threads < 1):
        remedy = "Use auto, or a whole number of at least 1"
        raise InputError("trainer.threads", threads, "not a number of threads", remedy)
