"""Choose the fastest trainer on this machine: candidates are timed for a few seconds on the sweep's model.

The gain of torch.compile is predicted, because timing it takes longer than it saves in many sweeps. In a sweep that is
long enough it is timed too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sweeper.training.device import resolve_device
from sweeper.training.lanes.compiling import has_compiled
from sweeper.training.lanes.probe import probe
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.norms import MEASUREMENTS
from sweeper.training.optimizers.optim import options_of
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Task, Trainer

WIDTHS = (4, 8, 16, 32, 64, 128, 256)
WARM, TIMED, REPEATS = 2, 20, 3  # updates of warmup, updates timed, repetitions
PATIENCE = 0.5  # seconds for one candidate, about
NEAR = 1.3  # candidates within this factor of the best are timed again, since the machine may have been busy
LOOKS, LOOKING = 4, 0.02  # most repetitions, and the largest share of the sweep's time for them
SHORT = 5.0  # seconds of a whole sweep below which choosing is not worth its time
COMPILING = 0.03  # largest share of the sweep's time for compiling that may be in vain
COMPILED_LOOKS = 2  # most widths that are compiled and timed
SIMPLER = 1.02  # least gain of a more complex trainer: lanes over one at a time, compiled over both
PRUNED = 0.6  # share of the planned updates that are trained if a pruner stops trials
SEQUENTIAL = "sweeper.training.sequential.SequentialTrainer"
LANES = "sweeper.training.lanes.probe.ProbedTrainer"


# torch.compile mainly saves what Python and torch spend around the operations of a stack's update. That time is equal
# for 2 lanes and for 200: a number of small passes (`_time_small_pass`) for each parameter. Fusing operations also
# saves some arithmetic, but not in convolutions. On a CPU with one thread and torch 2.13, this predicted most times of
# compiled stacks of 4 to 64 lanes within a fifth: MLPs, an n-gram model, CNNs, a ResNet, transformers.
SAVED, FUSED = 5.5, 1.1  # small passes saved for each parameter; speedup of the rest
LEAST = 1 / 3  # share of a stack's time that always remains
# Seconds that compiling takes: always, for each parameter, and for convolutions, which make longer programs.
ONCE, EACH, CONVOLVED = 4.0, 0.8, 7.0
FIRST = 6.0  # seconds more if torch never compiled here: it first probes the processor
PASS, PASSES = 50e-6, 100  # seconds of a small pass on the machine of these measurements; passes timed together


class Gain(NamedTuple):
    """The predicted gain of torch.compile for a stack.

    Attributes:
        saved: Seconds saved in each update, for any width.
        fused: Speedup of the rest.
        seconds: Time to compile.
    """

    saved: float
    fused: float
    seconds: float


class Choice(NamedTuple):
    """A trainer, and why it was chosen.

    Attributes:
        trainer: Its node, as in conf/trainer.
        why: One line for the user.
        compiling: Seconds spent on compiled candidates.
    """

    trainer: dict[str, Any]
    why: str
    compiling: float = 0.0


class Timing(NamedTuple):
    """The time of a candidate.

    Attributes:
        width: Lanes of a stack; 1 for one job at a time.
        update: Seconds of one update of one job, with its share of empty lanes.
        stacks: Stacks for each job: 1 / width if no lane is empty.
    """

    width: int
    update: float
    stacks: float


class Load(NamedTuple):
    """How much a sweep trains in one process.

    Attributes:
        jobs: Jobs in all.
        at_once: Jobs that are open at once.
        pruned: Whether a pruner stops some.
    """

    jobs: int
    at_once: int
    pruned: bool


def choose(task: Task, recipe: Recipe, example: Job, load: Load, *, device: str) -> Choice:
    """Return the fastest trainer for jobs like `example`, after training copies of it for a few seconds.

    Args:
        task: What is trained.
        recipe: How it is trained.
        example: A typical job of the sweep.
        load: How much the sweep trains.
        device: Where it trains.

    Returns:
        The trainer, and why it was chosen.
    """
    # The timed jobs are so short that they would measure norms at every update. That is fair for short jobs only.
    timed_recipe = replace(recipe, norms=recipe.norms and example.steps < 2 * MEASUREMENTS)
    sequential = partial(SequentialTrainer, task, timed_recipe, device=device)
    clock = time.thread_time if resolve_device(device).type == "cpu" else time.perf_counter
    alone = Timing(1, _time_update(sequential(), example, 1, clock), 1.0)
    if not math.isfinite(alone.update):
        return Choice({"_target_": SEQUENTIAL}, "")  # the first trial will fail with the reason
    updates = load.jobs * example.steps * (PRUNED if load.pruned else 1.0)
    if alone.update * updates < SHORT:
        return Choice({"_target_": SEQUENTIAL}, "one trial at a time: the sweep is short")
    verdict = probe(task, recipe, example, device=device)
    form = verdict.form
    if form is None:
        return Choice({"_target_": SEQUENTIAL}, verdict.why)

    def update_of(width: int, *, compiled: bool = False) -> float:
        """Time a stack once."""
        if width == 1:
            return _time_update(sequential(), example, 1, clock)
        trainer = LaneTrainer(task, timed_recipe, Stacking(form, width, compiled), device=device)
        return width * _stacks_per_job(width, load.at_once) * _time_update(trainer, example, width, clock)

    alone, *stacked = _remeasure([alone, *_time_stacks(update_of, load.at_once)], update_of, updates)
    gain = _predict_gain(task, example, device, _time_small_pass(clock))
    start = time.perf_counter()
    compiled = _time_compiled(lambda width: update_of(width, compiled=True), stacked, gain, updates)
    spent = time.perf_counter() - start
    return _choose_fastest(alone, stacked, compiled, gain, updates)._replace(compiling=spent)


def _time_stacks(update_of: Callable[[int], float], jobs_at_once: int) -> list[Timing]:
    """Time wider and wider stacks, until they get slower or there are not enough jobs to fill them."""
    timed: list[Timing] = []
    for width in WIDTHS:
        if width >= 2 * jobs_at_once or (timed and width * timed[-1].update * (WARM + TIMED) > 4 * PATIENCE):
            break
        timed.append(Timing(width, update_of(width), _stacks_per_job(width, jobs_at_once)))
        if timed[-1].update > NEAR * min(one.update for one in timed):
            break
    return timed


def _remeasure(timed: list[Timing], update_of: Callable[[int], float], updates: float) -> list[Timing]:
    """Time the candidates near the best several more times, and keep the shortest time of each."""
    start = time.perf_counter()
    for _ in range(LOOKS):
        near = NEAR * min(one.update for one in timed)
        timed = [
            one._replace(update=min(one.update, update_of(one.width))) if one.update < near else one for one in timed
        ]
        if time.perf_counter() - start > LOOKING * updates * near:
            break
    return timed


def _time_compiled(
    update_of: Callable[[int], float], stacked: Sequence[Timing], gain: Gain, updates: float
) -> list[Timing]:
    """Compile and time the stacks with the best prediction, as many as the sweep is long enough for."""
    timed: list[Timing] = []
    start = time.perf_counter()
    for promised in sorted(_predict_compiled(stacked, gain), key=_update)[:COMPILED_LOOKS]:
        if time.perf_counter() - start + gain.seconds > COMPILING * updates * promised.update:
            break
        timed.append(promised._replace(update=update_of(promised.width)))
    return timed


def _predict_compiled(stacked: Sequence[Timing], gain: Gain) -> list[Timing]:
    """Predict the times of the same stacks after compiling."""
    return [one._replace(update=_predicted_update(one, gain)) for one in stacked]


def _predicted_update(one: Timing, gain: Gain) -> float:
    """Return the predicted seconds of an update after compiling."""
    return max(LEAST * one.update, (one.update - gain.saved * one.stacks) / gain.fused)


def _stacks_per_job(width: int, jobs_at_once: int) -> float:
    """Return the number of stacks for each job. The last stack may have empty lanes."""
    return math.ceil(jobs_at_once / width) / jobs_at_once


def _time_update(trainer: Trainer, example: Job, width: int, clock: Callable[[], float]) -> float:
    """Time one update of one job, without evaluation.

    Args:
        trainer: The trainer to time.
        example: A job. Copies of it are trained.
        width: Jobs that are trained together.
        clock: On a CPU the time of this thread, so that other programs do not count.

    Returns:
        Seconds, the shortest of several blocks; infinity if a job fails.
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
    best, timing_start = math.inf, 0.0
    for block in range(REPEATS + 1):
        start = clock()
        if any(
            report.state != ("complete" if report.step == ends[-1] else "running") for report in trainer.advance(ids)
        ):
            return math.inf
        if block == 0:  # the models were built and compiled: not timed
            timing_start = time.perf_counter()
            continue
        best = min(best, clock() - start)
        if time.perf_counter() - timing_start > PATIENCE:
            break
    trainer.close()
    return best / TIMED / width if trainer.capacity() >= width else math.inf  # it ran out of memory


def _time_small_pass(clock: Callable[[], float]) -> float:
    """Time a forward and backward pass of a few small operations of torch, in seconds."""
    weight, inputs = torch.ones(8, 8, requires_grad=True), torch.ones(2, 8)
    best = math.inf
    for _ in range(REPEATS):
        start = clock()
        for _ in range(PASSES):
            torch.autograd.grad((inputs @ weight).relu().sum(), weight)
        best = min(best, (clock() - start) / PASSES)
    return best


def _choose_fastest(
    alone: Timing, stacked: Sequence[Timing], compiled: Sequence[Timing], gain: Gain, updates: float
) -> Choice:
    """Choose what takes the least time in all: one at a time, lanes, or compiled lanes.

    Args:
        alone: Time of one job at a time.
        stacked: Times of stacks.
        compiled: Times of compiled stacks. They load from the cache at once. If empty, `gain` predicts them.
        gain: Predicted gain of compiling.
        updates: Updates of all jobs.
    """
    one_by_one = f"one trial at a time{_speed_note(alone, stacked)}"
    choices = [(updates * alone.update, Choice({"_target_": SEQUENTIAL}, one_by_one))]
    if stacked:
        lanes = min(stacked, key=_update)
        choices.append((SIMPLER * updates * lanes.update, _lanes_choice(alone, lanes, "measured", compiled=False)))
        source, setup = ("measured", 0.0) if compiled else ("predicted", gain.seconds)
        fast = min(compiled or _predict_compiled(stacked, gain), key=_update)
        choices.append(
            (SIMPLER**2 * (setup + updates * fast.update), _lanes_choice(alone, fast, source, compiled=True))
        )
    return min(choices, key=lambda choice: choice[0])[1]


def _update(timed: Timing) -> float:
    """Return the sort key of candidates."""
    return timed.update


def _speed_note(alone: Timing, stacked: Sequence[Timing]) -> str:
    """Return how fast the best stack is, for the line to the user; "" without stacks."""
    if not stacked:
        return ""
    best = min(stacked, key=_update)
    return f": {best.width} at once are {alone.update / best.update:.2f} times as fast (measured)"


def _lanes_choice(alone: Timing, lanes: Timing, source: str, *, compiled: bool) -> Choice:
    """Return the choice of lanes. `source` is "measured" or "predicted"."""
    times = f"{alone.update / lanes.update:.1f} times as fast as one at a time"
    node = {"_target_": LANES, "width": lanes.width, "compiled": compiled}
    return Choice(node, f"{lanes.width} trials at once{', compiled' if compiled else ''}: {times} ({source})")


def _predict_gain(task: Task, example: Job, device: str, small_pass: float) -> Gain:
    """Predict the gain of compiling for this model. `small_pass` is in seconds, from `_time_small_pass`."""
    model = task.build(example.seed, **options_of(example.hparams, "model"))
    parameters = len(list(model.parameters()))
    has_convolutions = _has_kind(model, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    seconds = ONCE + EACH * parameters + (CONVOLVED if has_convolutions else 0.0)
    seconds = small_pass / PASS * (seconds + (0.0 if has_compiled() else FIRST))
    # No gain is expected on a GPU, or from a stacked GroupNorm.
    if resolve_device(device).type != "cpu" or _has_kind(model, nn.GroupNorm):
        return Gain(0.0, 1.0, seconds)
    return Gain(SAVED * small_pass * parameters, 1.0 if has_convolutions else FUSED, seconds)


def _has_kind(model: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(module, kinds) for module in model.modules())
