"""Which trainer is fastest here: candidates are timed on the sweep's own model for a few seconds, the best is kept.

What compiling would gain is not timed, since that costs more than many sweeps, but predicted from a table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import nn

from sweeper.training.lanes import LaneTrainer
from sweeper.training.optim import options_of
from sweeper.training.probe import Verdict, probe
from sweeper.training.program import Form
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Task, Trainer

WIDTHS = (4, 8, 16, 32, 64, 128, 256)
WARM, TIMED, REPEATS = 2, 10, 3  # updates before the clock runs, updates timed, how often
PATIENCE = 0.5  # seconds for one candidate, about
SHORT = 5.0  # seconds of a whole sweep below which choosing is not worth its time
GAIN = 1.1  # lanes must be so much faster to be chosen: they are compared on a noisy machine
REPAID = 2.0  # compiling must save so many times what it costs
PRUNED = 0.6  # of the updates planned, as many are trained when a pruner stops trials
SEQUENTIAL = "sweeper.training.sequential.SequentialTrainer"
LANES = "sweeper.training.probe.ProbedTrainer"

Plain = Mapping[str, Any]


class Gain(NamedTuple):
    """What torch.compile did in benchmarks/lanes.py: time eager / compiled, stacked; seconds to compile."""

    stacked: float
    seconds: float


# By what most of the model's work is. On the CPU; on a GPU compiling is left to a person.
COMPILED = {"linear": Gain(1.6, 12.0), "convolution": Gain(1.2, 45.0), "attention": Gain(1.1, 60.0)}


class Choice(NamedTuple):
    """trainer: its node, as in conf/trainer. why: one line for a person."""

    trainer: dict[str, Any]
    why: str


class Timed(NamedTuple):
    """width: lanes of a stack, 1 for one at a time. update: seconds of one update of one job."""

    width: int
    update: float


def choose(
    task: Task,
    optimizer: Plain,
    example: Job,
    *,
    batch_size: int,
    device: str,
    precision: Literal["float32", "float64"],
    norms: bool,
    jobs: int,
    jobs_at_once: int,
    pruned: bool,
) -> Choice:
    """The trainer of a sweep of `jobs` trainings like `example`, `jobs_at_once` of them open in one process.

    pruned: whether a pruner stops some. Trains copies of the example for a few seconds at most; changes nothing.
    """
    common: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision, "norms": norms}
    alone = Timed(1, _seconds(SequentialTrainer(task, optimizer, **common), example, 1))
    if not math.isfinite(alone.update):
        return Choice({"_target_": SEQUENTIAL}, "")  # its first trial will say why
    updates = jobs * example.steps * (PRUNED if pruned else 1.0)
    if alone.update * updates < SHORT:
        return Choice({"_target_": SEQUENTIAL}, "one trial at a time: the sweep is short")
    verdict = probe(task, optimizer, example, batch_size=batch_size, device=device)
    if verdict.form is None:
        return Choice({"_target_": SEQUENTIAL}, verdict.why)
    stacked = _stacked(task, optimizer, example, verdict.form, common, alone, jobs_at_once)
    best = min(stacked, key=lambda timed: timed.update, default=alone)
    return _choice(alone, best, verdict, _gain(task, example, device), updates)


def _stacked(
    task: Task, optimizer: Plain, example: Job, form: Form, common: Plain, alone: Timed, jobs_at_once: int
) -> list[Timed]:
    """Wider and wider stacks, until they no longer get faster, as far as jobs fill them."""
    timed: list[Timed] = []
    for width in WIDTHS:
        if width >= 2 * jobs_at_once or (timed and width * timed[-1].update * (WARM + TIMED) > 4 * PATIENCE):
            break
        trainer = LaneTrainer(task, optimizer, form=form, width=width, **common)
        update = _seconds(trainer, example, width) * _padding(width, jobs_at_once)
        timed.append(Timed(width, update))
        if len(timed) > 1 and update > 1.2 * min(one.update for one in timed):
            break
    return timed


def _padding(width: int, jobs_at_once: int) -> float:
    """How much of the stacks' work is done for nobody: places / jobs."""
    return math.ceil(jobs_at_once / width) * width / jobs_at_once


def _seconds(trainer: Trainer, example: Job, width: int) -> float:
    """Seconds of one update of one job, `width` of them together; infinite where one fails.

    The least of some blocks, since other programs may take the machine's time; evaluations are left out.
    """
    ends = tuple(WARM + TIMED * block for block in range(REPEATS + 1))
    lr_S = np.full(ends[-1], float(np.min(example.lr_S[example.lr_S > 0], initial=1e-3)))
    jobs = [
        replace(
            example,
            id=JobId("timed", place, 0),
            seed=place,
            lr_S=lr_S,
            momentum_S=None if example.momentum_S is None else np.full(ends[-1], example.momentum_S[0]),
            report_steps=ends,
            parts=example.parts[:1],
        )
        for place in range(width)
    ]
    trainer.start(jobs)
    ids = [job.id for job in jobs]
    best, began = math.inf, time.perf_counter()
    for block in range(REPEATS + 1):
        start = time.perf_counter()
        if any(
            report.state != ("complete" if report.step == ends[-1] else "running") for report in trainer.advance(ids)
        ):
            return math.inf
        if block > 0:  # the first one builds the models
            best = min(best, time.perf_counter() - start)
            if time.perf_counter() - began > PATIENCE:
                break
    trainer.close()
    return best / TIMED / width


def _choice(alone: Timed, best: Timed, verdict: Verdict, gain: Gain | None, updates: float) -> Choice:
    """One at a time, lanes, or lanes compiled: what takes the least time in all."""
    lanes = best.width > 1 and best.update * GAIN < alone.update
    saved = updates * best.update * (1 - 1 / gain.stacked) if gain is not None else 0.0
    if gain is not None and saved > REPAID * gain.seconds and best.update / gain.stacked * GAIN < alone.update:
        why = f"{best.width} trials at once, compiled: {alone.update / best.update * gain.stacked:.1f} times as fast"
        return Choice({"_target_": LANES, "width": best.width, "compiled": True}, f"{why} as one at a time (predicted)")
    if lanes:
        why = f"{best.width} trials at once: {alone.update / best.update:.1f} times as fast as one at a time (measured)"
        return Choice({"_target_": LANES, "width": best.width, "compiled": False}, why)
    if best.width == 1:
        return Choice({"_target_": SEQUENTIAL}, f"one trial at a time ({verdict.why})")
    ratio = alone.update / best.update
    return Choice(
        {"_target_": SEQUENTIAL}, f"one trial at a time: {best.width} at once are {ratio:.2f} times as fast (measured)"
    )


def _gain(task: Task, example: Job, device: str) -> Gain | None:
    """What compiling is expected to do for this model, by the kind of most of its work."""
    if device not in ("cpu", "auto"):
        return None
    model = task.build(example.seed, **options_of(example.hparams, "model"))
    kinds = {type(module) for module in model.modules()}
    if any(issubclass(kind, nn.Conv1d | nn.Conv2d | nn.Conv3d) for kind in kinds):
        return COMPILED["convolution"]
    if any("ttention" in kind.__name__ or issubclass(kind, nn.MultiheadAttention) for kind in kinds):
        return COMPILED["attention"]
    return COMPILED["linear"]
