"""Which trainer is fastest here: candidates are timed on the sweep's own model for a few seconds, the best is kept.

What compiling would gain is not timed, since that costs more than many sweeps, but predicted from a table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sweeper.training.compiling import has_compiled
from sweeper.training.device import resolve_device
from sweeper.training.lanes import LaneTrainer
from sweeper.training.norms import OF_A_RUN
from sweeper.training.optim import options_of
from sweeper.training.probe import probe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Task, Trainer

WIDTHS = (4, 8, 16, 32, 64, 128, 256)
WARM, TIMED, REPEATS = 2, 20, 3  # updates before the clock runs, updates timed, how often
PATIENCE = 0.5  # seconds for one candidate, about
NEAR = 1.3  # times the best one's time: what is nearer is timed again, since the machine may have been busy
LOOKS, LOOKING = 4, 0.02  # how often; and which share of the sweep's time that may take
SHORT = 5.0  # seconds of a whole sweep below which choosing is not worth its time
SIMPLER = 1.02  # the simpler of two trainers is kept where the other gains less: lanes before compiled, one before both
PRUNED = 0.6  # of the updates planned, as many are trained when a pruner stops trials
SEQUENTIAL = "sweeper.training.sequential.SequentialTrainer"
LANES = "sweeper.training.probe.ProbedTrainer"

Plain = Mapping[str, Any]


class Gain(NamedTuple):
    """What torch.compile does for a stack: time eager / compiled, up to 16 lanes and from 64 on; seconds to compile."""

    narrow: float
    wide: float
    seconds: float


# By what most of a model's work is. CPU, one thread, torch 2.13; eager and compiled lanes by turns, the least of each:
# n-gram 1.6 to 1.77 (16 lanes), 1.21 to 1.27 (64); MLPs 1.5 to 2.2, 1.28 to 1.65; small CNNs 1.28 to 1.41, 1.0 to 1.1;
# with BatchNorm 1.55 (4), with GroupNorm 0.93 (4); transformers 1.55 (16, width 32), 1.2 to 1.33 (4 and 8, width 64).
# Seconds: in a fresh process on a machine that does little else and on which a small pass takes PASS; they grow with
# that pass (14 and 26 where it took twice as long). A program that was compiled before is loaded in 3 to 4.
COMPILED = {
    "linear": Gain(1.7, 1.28, 6.5),
    "convolution": Gain(1.3, 1.0, 11.0),
    "batch normalisation": Gain(1.5, 1.2, 24.0),
    "group normalisation": Gain(0.93, 0.93, 28.0),
    "attention": Gain(1.3, 1.15, 22.0),
}
FIRST = 6.0  # seconds more where torch has never compiled: it looks what the processor can do
PASS, PASSES = 50e-6, 100  # seconds of the small pass of `_slowness`; how many are timed at once


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
    precision: str,
    norms: bool,
    jobs: int,
    jobs_at_once: int,
    pruned: bool,
    **update: Any,
) -> Choice:
    """The trainer of a sweep of `jobs` trainings like `example`, `jobs_at_once` of them open in one process.

    pruned: whether a pruner stops some. update: clip, accumulate, ema of sweeper.training.recipe. Trains copies of the
    example for a few seconds at most; changes nothing.
    """
    asked: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision}
    # A run of few updates measures each of them, the runs timed here too; a longer one every so often.
    common = {**asked, "norms": norms and example.steps < 2 * OF_A_RUN, **update}
    sequential = partial(SequentialTrainer, task, optimizer, **common)
    clock = time.thread_time if resolve_device(device).type == "cpu" else time.perf_counter
    alone = Timed(1, _seconds(sequential(), example, 1, clock))
    if not math.isfinite(alone.update):
        return Choice({"_target_": SEQUENTIAL}, "")  # its first trial will say why
    updates = jobs * example.steps * (PRUNED if pruned else 1.0)
    if alone.update * updates < SHORT:
        return Choice({"_target_": SEQUENTIAL}, "one trial at a time: the sweep is short")
    verdict = probe(task, optimizer, example, **asked)
    if verdict.form is None:
        return Choice({"_target_": SEQUENTIAL}, verdict.why)
    lanes = partial(LaneTrainer, task, optimizer, form=verdict.form, **common)

    def update_of(width: int) -> float:
        """Of one look; the work of empty lanes is shared by the others."""
        if width == 1:
            return _seconds(sequential(), example, 1, clock)
        return _seconds(lanes(width=width), example, width, clock) * _padding(width, jobs_at_once)

    alone, *stacked = _looked_again([alone, *_stacked(update_of, jobs_at_once)], update_of, updates)
    gain = _gain(task, example, device)
    if gain is not None:
        slower = _slowness(clock)
        gain = gain._replace(seconds=slower * (gain.seconds + (0.0 if has_compiled() else FIRST)))
    return _cheapest(alone, stacked, gain, updates)


def _stacked(update_of: Callable[[int], float], jobs_at_once: int) -> list[Timed]:
    """Wider and wider stacks, until they no longer get faster, as far as jobs fill them."""
    timed: list[Timed] = []
    for width in WIDTHS:
        if width >= 2 * jobs_at_once or (timed and width * timed[-1].update * (WARM + TIMED) > 4 * PATIENCE):
            break
        timed.append(Timed(width, update_of(width)))
        if timed[-1].update > NEAR * min(one.update for one in timed):
            break
    return timed


def _looked_again(timed: list[Timed], update_of: Callable[[int], float], updates: float) -> list[Timed]:
    """The same with the least of some looks, taken by turns, at those that may be the best."""
    began = time.perf_counter()
    for _ in range(LOOKS):
        near = NEAR * min(one.update for one in timed)
        timed = [Timed(one.width, min(one.update, update_of(one.width))) if one.update < near else one for one in timed]
        if time.perf_counter() - began > LOOKING * updates * near:
            break
    return timed


def _padding(width: int, jobs_at_once: int) -> float:
    """How much of the stacks' work is done for nobody: places / jobs."""
    return math.ceil(jobs_at_once / width) * width / jobs_at_once


def _seconds(trainer: Trainer, example: Job, width: int, clock: Callable[[], float]) -> float:
    """Seconds of one update of one job, `width` of them together; infinite where one fails.

    The least of some blocks, evaluations left out. On a CPU this thread's own time: what other programs take of the
    machine meanwhile is not the trainer's.
    """
    ends = tuple(WARM + TIMED * block for block in range(REPEATS + 1))
    lr_S = np.full(ends[-1], float(np.min(example.lr_S[example.lr_S > 0], initial=1e-3)))
    jobs = [
        replace(
            example,
            id=JobId("timed", place, 0),
            lr_S=lr_S,
            momentum_S=None if example.momentum_S is None else np.full(ends[-1], example.momentum_S[0]),
            report_steps=ends,
            controller=None,
            parts=example.parts[:1],
        )
        for place in range(width)
    ]
    trainer.start(jobs)
    ids = [job.id for job in jobs]
    best, began = math.inf, time.perf_counter()
    for block in range(REPEATS + 1):
        start = clock()
        if any(
            report.state != ("complete" if report.step == ends[-1] else "running") for report in trainer.advance(ids)
        ):
            return math.inf
        if block > 0:  # the first one builds the models
            best = min(best, clock() - start)
            if time.perf_counter() - began > PATIENCE:
                break
    trainer.close()
    return best / TIMED / width if trainer.capacity() >= width else math.inf  # it ran out of memory


def _slowness(clock: Callable[[], float]) -> float:
    """How many times as long this machine needs for Python and torch's small operations, of which compiling is made."""
    weight, inputs = torch.ones(8, 8, requires_grad=True), torch.ones(2, 8)
    best = math.inf
    for _ in range(REPEATS):
        began = clock()
        for _ in range(PASSES):
            torch.autograd.grad((inputs @ weight).relu().sum(), weight)
        best = min(best, (clock() - began) / PASSES)
    return best / PASS


def _cheapest(alone: Timed, stacked: Sequence[Timed], gain: Gain | None, updates: float) -> Choice:
    """One at a time, lanes, or lanes compiled: what takes the least time in all."""
    one_by_one = f"one trial at a time{_slower(alone, stacked)}"
    ways = [(updates * alone.update, Choice({"_target_": SEQUENTIAL}, one_by_one))]
    if stacked:
        lanes = min(stacked, key=_update)
        ways.append((SIMPLER * updates * lanes.update, _lanes(alone, lanes, compiled=False)))
    if stacked and gain is not None:
        fast = min((Timed(one.width, one.update / _at(gain, one.width)) for one in stacked), key=_update)
        ways.append((SIMPLER**2 * (gain.seconds + updates * fast.update), _lanes(alone, fast, compiled=True)))
    return min(ways, key=lambda way: way[0])[1]


def _update(timed: Timed) -> float:
    return timed.update


def _slower(alone: Timed, stacked: Sequence[Timed]) -> str:
    if not stacked:
        return ""
    best = min(stacked, key=_update)
    return f": {best.width} at once are {alone.update / best.update:.2f} times as fast (measured)"


def _lanes(alone: Timed, lanes: Timed, *, compiled: bool) -> Choice:
    times = f"{alone.update / lanes.update:.1f} times as fast as one at a time"
    what, how = (", compiled", "predicted") if compiled else ("", "measured")
    node = {"_target_": LANES, "width": lanes.width, "compiled": compiled}
    return Choice(node, f"{lanes.width} trials at once{what}: {times} ({how})")


def _at(gain: Gain, width: int) -> float:
    """The gain of a stack of that width."""
    share = min(1.0, max(0.0, math.log2(width / 16) / 2))
    return float(gain.narrow * (gain.wide / gain.narrow) ** share)


def _gain(task: Task, example: Job, device: str) -> Gain | None:
    """What compiling is expected to do for this model, by the kind of most of its work."""
    if resolve_device(device).type != "cpu":
        return None
    model = task.build(example.seed, **options_of(example.hparams, "model"))
    kinds = {type(module) for module in model.modules()}
    if any(issubclass(kind, nn.Conv1d | nn.Conv2d | nn.Conv3d) for kind in kinds):
        if any(issubclass(kind, nn.GroupNorm) for kind in kinds):
            return COMPILED["group normalisation"]
        batch = any(issubclass(kind, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) for kind in kinds)
        return COMPILED["batch normalisation" if batch else "convolution"]
    if any("ttention" in kind.__name__ or issubclass(kind, nn.MultiheadAttention) for kind in kinds):
        return COMPILED["attention"]
    return COMPILED["linear"]
