"""Before a sweep: one tiny update of its first trial, to refuse what every trial would end with.

Also what a prediction is worth that ignores the inputs: a trial that is not clearly better has learned nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np

from sweeper.run import crash
from sweeper.run.trainers import LANES, make
from sweeper.spec.parse import SEQUENTIAL
from sweeper.spec.question import Home
from sweeper.spec.sweep import SweepSpec, TrainerSpec, example
from sweeper.training.optimizers.optim import options_of
from sweeper.types import InputError, Job, JobId, Report, Trainer, seed_of

TINY_LR = 1e-12  # changes no weight, and optimizers may divide by it
EXAMPLES, ELEMENTS = 4096, 2**24  # of the validation part, and of their outputs, for a prediction without inputs


def level(home: Home, spec: SweepSpec, trainer: TrainerSpec) -> float | None:
    """Return the objective that takes no skill, after trying the first update of a new sweep.

    It is that of a prediction that ignores the inputs, or else of the untrained model; None if neither is known.

    Args:
        home: The sweep's folder. What it holds counts.
        spec: The sweep.
        trainer: Its trainer. Another one like it is built for the update.

    Raises:
        InputError: As from `try_update`.
    """
    stored = home.read()
    if "no_skill" in stored:
        return stored["no_skill"]
    constant = no_skill(spec)
    if home.journal.exists():  # of an older version
        return constant
    with crash.fatal_signals_named(sys.__stderr__), contextlib.closing(make(spec, _alone(trainer))) as alone:
        metrics = try_update(spec, alone)
    untrained = metrics[spec.objective.metric]
    return constant if constant is not None else untrained if math.isfinite(untrained) else None


def _alone(trainer: TrainerSpec) -> TrainerSpec:
    """Return the trainer in this process alone, without what lanes prepare for many trials."""
    return TrainerSpec(SEQUENTIAL) if trainer.target == LANES else replace(trainer, workers=1)


def try_update(spec: SweepSpec, trainer: Trainer) -> dict[str, float]:
    """Train the first update of a trial with an LR near 0, on every fold, and evaluate it.

    It is the trainer's own report of an untrained model: initial weights, first batch and validation part are those of
    the sweep's trials.

    Args:
        spec: The sweep.
        trainer: Its trainer. The jobs are stopped again.

    Returns:
        The metrics of the validation part, on the first fold.

    Raises:
        InputError: If every trial of the sweep would fail, diverge at once, or have no value.
    """
    jobs = _first_updates(spec)
    trainer.start(jobs)
    try:
        with _quiet() as quiet:
            reports = list(trainer.advance([job.id for job in jobs]))
    finally:
        for job in jobs:
            trainer.stop(job.id)
    reports.sort(key=lambda report: report.id)
    for job, report in zip(jobs, reports, strict=True):
        _check(report, job, spec, quiet.place)
    return dict(reports[0].metrics)


def no_skill(spec: SweepSpec) -> float | None:
    """Return the objective of a prediction that ignores the inputs: the frequencies of the classes, or the mean.

    It is an estimate from at most EXAMPLES examples. None if the task cannot have such outputs.
    """
    value = _made_up(spec, _without_inputs).get(spec.objective.metric, math.nan)
    return value if math.isfinite(value) else None


def _first_updates(spec: SweepSpec) -> list[Job]:
    job = example(spec)
    return [
        replace(
            job,
            id=JobId("untrained", 0, fold),
            seed=seed_of(spec.search.seed, "member", fold),  # as in FamilyStudy.ask
            lr_S=np.full(1, TINY_LR),
            momentum_S=None if job.momentum_S is None else job.momentum_S[:1],
            report_steps=(1,),
            partition=fold,
            controller=None,
        )
        for fold in range(spec.folds)
    ]


class _Quiet(logging.Handler):
    """Remembers where the last error was raised. There is no log file yet, and the message of the refusal says it."""

    place = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[2]:
            frame = traceback.extract_tb(record.exc_info[2])[-1]
            self.place = f", {Path(frame.filename).name}:{frame.lineno}"


@contextlib.contextmanager
def _quiet() -> Iterator[_Quiet]:
    """Keep what the package logs from the caller's handlers while the block runs."""
    logger, handler = logging.getLogger("sweeper"), _Quiet()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _check(report: Report, job: Job, spec: SweepSpec, place: str) -> None:
    """Refuse what the report shows. `place` is where the trial failed, if it did."""
    if report.state == "failed":
        problem = f"a trial fails at its first update ({report.reason}{place})"
        raise InputError("model", None, problem, "Fix this first; every trial would fail the same way")
    where = f" on fold {job.partition}" if spec.folds > 1 else ""
    for first in report.traces.get("train/loss", ())[:1]:
        _check_loss(float(first), spec.task.loss_bound, where)
    if not math.isfinite(report.metrics.get("valid/loss", 0.0)):
        problem = f"valid/loss is {report.metrics['valid/loss']:.4g} before training{where}"
        raise InputError("data", None, problem, "Look for NaN or infinity in the validation part, or in the model")
    for key, metric in spec.metrics:
        value = report.metrics.get(metric, 0.0 if metric == "train/loss" else None)
        if value is None:
            remedy = f"Choose one of {', '.join(sorted(report.metrics))}"
            raise InputError(key, metric, "this task does not report it", remedy)
        if not math.isfinite(value) and not _has_value_for_others(spec, metric, job.partition):
            problem = f"it has no value on the validation part: {value:.4g} before training{where}"
            remedy = "Look at its targets (do all have the same class or value?), or choose another metric"
            raise InputError(key, metric, problem, remedy)


def _check_loss(first: float, bound: float, where: str) -> None:
    """Refuse a first loss that is a divergence already. Later ones depend on the LR."""
    if first <= bound:
        return
    beyond = f", beyond the bound of {bound:.4g} that counts as divergence" if math.isfinite(first) else ""
    problem = f"the loss of the first batch is {first:.4g}{beyond}, so every trial would diverge at once{where}"
    raise InputError("model", None, problem, "Scale inputs, targets or initial weights; no LR mends this")


def _has_value_for_others(spec: SweepSpec, metric: str, partition: int) -> bool:
    """Return whether the metric has a value for other outputs, so that a trained model may have one."""
    value = _made_up(spec, _random, partition).get(metric, math.nan)
    return math.isfinite(value)


# --- made-up outputs --------------------------------------------------------------------------------


def _made_up(spec: SweepSpec, make: Callable[[Any, Any], Any], partition: int = 0) -> dict[str, float]:
    """Return the validation metrics of made-up outputs; {} if the task cannot have them.

    Args:
        spec: The sweep.
        make: Returns outputs [B, ...] from the outputs of one example, [1, ...], and the targets [B, ...].
        partition: The fold.
    """
    import torch

    task, options = spec.task, options_of(example(spec).hparams, "model")
    size = task.size("valid", partition)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), catch_warnings(action="ignore"):
            inputs_B, _ = task.fetch("valid", partition, torch.arange(1))
            like = task.forward(task.build(0, **options).eval(), inputs_B)
            count = max(1, min(size, EXAMPLES, ELEMENTS // like.numel()))
            spread_B = torch.arange(count) * size // count  # a part may be sorted
            _, target_B = task.fetch("valid", partition, spread_B)
            output_B = make(like, target_B)
            kept = getattr(task, "kept", None)
            loss = task.loss(output_B, target_B).double().mean().item()
            metrics = task.metrics(output_B if kept is None else kept(output_B, target_B), target_B)
    except Exception:  # the task's own code need not take outputs that no model returned
        return {}
    return {"valid/loss": loss} | {f"valid/{name}": float(value) for name, value in metrics.items()}


def _random(like: Any, target_B: Any) -> Any:
    import torch

    return torch.randn(len(target_B), *like.shape[1:], generator=torch.Generator().manual_seed(0))


def _without_inputs(like: Any, target_B: Any) -> Any:
    """Return the same outputs for every example.

    Raises:
        ValueError: If they are neither the logits of classes nor numbers in the form of the targets.
    """
    import torch

    if target_B.is_floating_point() and like.numel() * len(target_B) == target_B.numel():
        return target_B.mean(0).reshape(like.shape).expand(len(target_B), *like.shape[1:])
    if target_B.is_floating_point() or like.shape[1:-1] != target_B.shape[1:]:
        raise ValueError(f"outputs {list(like.shape)} do not fit targets {list(target_B.shape)}")
    count_C = torch.bincount(target_B.flatten(), minlength=like.shape[-1]).double()
    logit_C = count_C.clamp(min=0.5).log().float()  # 0 has no logarithm
    return logit_C.expand(*target_B.shape, like.shape[-1])
