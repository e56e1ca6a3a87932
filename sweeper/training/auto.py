"""Which trainer is fastest here: candidates are timed on the sweep's own model for a few seconds, the best is kept.

What compiling would gain is predicted, since to time it costs more than many sweeps give; in a sweep so
long that it costs next to nothing it is timed too.
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
WARM, TIMED, REPEATS = 2, 20, 3  # updates before the clock runs, updates timed, how often
PATIENCE = 0.5  # seconds for one candidate, about
NEAR = 1.3  # times the best one's time: what is nearer is timed again, since the machine may have been busy
LOOKS, LOOKING = 4, 0.02  # how often; and which share of the sweep's time that may take
SHORT = 5.0  # seconds of a whole sweep below which choosing is not worth its time
COMPILING = 0.03  # which share of the sweep's time compiling may take where it may be for nothing
COMPILED_LOOKS = 2  # widths that are compiled and timed, at most
SIMPLER = 1.02  # the simpler of two trainers is kept where the other gains less: lanes before compiled, one before both
PRUNED = 0.6  # of the updates planned, as many are trained when a pruner stops trials
SEQUENTIAL = "sweeper.training.sequential.SequentialTrainer"
LANES = "sweeper.training.lanes.probe.ProbedTrainer"


# What torch.compile saves is, first, what Python and torch spend around the operations of an update of a stack: as much
# for two lanes as for two hundred, and so many times the small pass for each parameter. Some arithmetic is
# saved as well, by fusing operations, though none in convolutions. On a CPU with one thread, torch 2.13, this foretold
# most times of compiled stacks of 4 to 64 lanes within a fifth: MLPs, an n-gram model, CNNs, a ResNet, transformers.
SAVED, FUSED = 5.5, 1.1
LEAST = 1 / 3  # of the time of a stack's update is left in any case
# Seconds that compiling takes: always, more for each parameter, more for convolutions, which make longer programs.
ONCE, EACH, CONVOLVED = 4.0, 0.8, 7.0
FIRST = 6.0  # seconds more where torch has never compiled: it looks what the processor can do
PASS, PASSES = 50e-6, 100  # seconds of the small pass where compiling takes that long; how many are timed at once


class Gain(NamedTuple):
    """What torch.compile is expected to do for a stack."""

    saved: float  # seconds of an update, whatever its width
    fused: float  # so many times as fast is the rest
    seconds: float  # it takes to compile


class Choice(NamedTuple):
    """A trainer, and why it was chosen.

    trainer: its node, as in conf/trainer. why: one line for the user. compiling: seconds spent on compiled candidates.
    """

    trainer: dict[str, Any]
    why: str
    compiling: float = 0.0


class Timing(NamedTuple):
    """width: lanes of a stack, 1 for one at a time. update: seconds of one update of one job, empty lanes paid."""

    width: int
    update: float
    stacks: float  # for each job: 1 / width where no lane is empty


class Load(NamedTuple):
    """How much a sweep trains in one process: jobs in all, jobs open at once, and whether a pruner stops some."""

    jobs: int
    at_once: int
    pruned: bool


def choose(task: Task, recipe: Recipe, example: Job, load: Load, *, device: str) -> Choice:
    """Return the fastest trainer of a sweep of trainings like `example`.

    Trains copies of the example for a few seconds at most; changes nothing.
    """
    # A run of few updates measures each of them, the runs timed here too; a longer one every so often.
    timed_recipe = replace(recipe, norms=recipe.norms and example.steps < 2 * MEASUREMENTS)
    sequential = partial(SequentialTrainer, task, timed_recipe, device=device)
    clock = time.thread_time if resolve_device(device).type == "cpu" else time.perf_counter
    alone = Timing(1, _time_update(sequential(), example, 1, clock), 1.0)
    if not math.isfinite(alone.update):
        return Choice({"_target_": SEQUENTIAL}, "")  # its first trial will say why
    updates = load.jobs * example.steps * (PRUNED if load.pruned else 1.0)
    if alone.update * updates < SHORT:
        return Choice({"_target_": SEQUENTIAL}, "one trial at a time: the sweep is short")
    verdict = probe(task, recipe, example, device=device)
    form = verdict.form
    if form is None:
        return Choice({"_target_": SEQUENTIAL}, verdict.why)

    def update_of(width: int, *, compiled: bool = False) -> float:
        """Of one look."""
        if width == 1:
            return _time_update(sequential(), example, 1, clock)
        trainer = LaneTrainer(task, timed_recipe, Stacking(form, width, compiled), device=device)
        return width * _stacks_per_job(width, load.at_once) * _time_update(trainer, example, width, clock)

    alone, *stacked = _remeasure([alone, *_time_stacks(update_of, load.at_once)], update_of, updates)
    gain = _predict_gain(task, example, device, _time_small_pass(clock))
    began = time.perf_counter()
    compiled = _time_compiled(lambda width: update_of(width, compiled=True), stacked, gain, updates)
    spent = time.perf_counter() - began
    return _choose_fastest(alone, stacked, compiled, gain, updates)._replace(compiling=spent)


def _time_stacks(update_of: Callable[[int], float], jobs_at_once: int) -> list[Timing]:
    """Wider and wider stacks, until they no longer get faster, as far as jobs fill them."""
    timed: list[Timing] = []
    for width in WIDTHS:
        if width >= 2 * jobs_at_once or (timed and width * timed[-1].update * (WARM + TIMED) > 4 * PATIENCE):
            break
        timed.append(Timing(width, update_of(width), _stacks_per_job(width, jobs_at_once)))
        if timed[-1].update > NEAR * min(one.update for one in timed):
            break
    return timed


def _remeasure(timed: list[Timing], update_of: Callable[[int], float], updates: float) -> list[Timing]:
    """The same with the least of some looks, taken by turns, at those that may be the best."""
    began = time.perf_counter()
    for _ in range(LOOKS):
        near = NEAR * min(one.update for one in timed)
        timed = [
            one._replace(update=min(one.update, update_of(one.width))) if one.update < near else one for one in timed
        ]
        if time.perf_counter() - began > LOOKING * updates * near:
            break
    return timed


def _time_compiled(
    update_of: Callable[[int], float], stacked: Sequence[Timing], gain: Gain, updates: float
) -> list[Timing]:
    """The stacks of which compiling promises most, compiled and timed: as many as the sweep is long enough for."""
    timed: list[Timing] = []
    began = time.perf_counter()
    for promised in sorted(_predict_compiled(stacked, gain), key=_update)[:COMPILED_LOOKS]:
        if time.perf_counter() - began + gain.seconds > COMPILING * updates * promised.update:
            break
        timed.append(promised._replace(update=update_of(promised.width)))
    return timed


def _predict_compiled(stacked: Sequence[Timing], gain: Gain) -> list[Timing]:
    """The same stacks compiled."""
    return [one._replace(update=_predicted_update(one, gain)) for one in stacked]


def _predicted_update(one: Timing, gain: Gain) -> float:
    return max(LEAST * one.update, (one.update - gain.saved * one.stacks) / gain.fused)


def _stacks_per_job(width: int, jobs_at_once: int) -> float:
    """Of that width, for each job: the last one may have empty lanes."""
    return math.ceil(jobs_at_once / width) / jobs_at_once


def _time_update(trainer: Trainer, example: Job, width: int, clock: Callable[[], float]) -> float:
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
    best, began = math.inf, 0.0
    for block in range(REPEATS + 1):
        start = clock()
        if any(
            report.state != ("complete" if report.step == ends[-1] else "running") for report in trainer.advance(ids)
        ):
            return math.inf
        if block == 0:  # the models were built, and compiled
            began = time.perf_counter()
            continue
        best = min(best, clock() - start)
        if time.perf_counter() - began > PATIENCE:
            break
    trainer.close()
    return best / TIMED / width if trainer.capacity() >= width else math.inf  # it ran out of memory


def _time_small_pass(clock: Callable[[], float]) -> float:
    """Seconds that this machine needs for a few of torch's small operations, forward and backward."""
    weight, inputs = torch.ones(8, 8, requires_grad=True), torch.ones(2, 8)
    best = math.inf
    for _ in range(REPEATS):
        began = clock()
        for _ in range(PASSES):
            torch.autograd.grad((inputs @ weight).relu().sum(), weight)
        best = min(best, (clock() - began) / PASSES)
    return best


def _choose_fastest(
    alone: Timing, stacked: Sequence[Timing], compiled: Sequence[Timing], gain: Gain, updates: float
) -> Choice:
    """One at a time, lanes, or lanes compiled: what takes the least time in all.

    compiled: stacks that were compiled and timed, and so are loaded in no time; if there are none, `gain` is believed.
    """
    one_by_one = f"one trial at a time{_speed_note(alone, stacked)}"
    ways = [(updates * alone.update, Choice({"_target_": SEQUENTIAL}, one_by_one))]
    if stacked:
        lanes = min(stacked, key=_update)
        ways.append((SIMPLER * updates * lanes.update, _lanes_choice(alone, lanes, "measured", compiled=False)))
        how, setup = ("measured", 0.0) if compiled else ("predicted", gain.seconds)
        fast = min(compiled or _predict_compiled(stacked, gain), key=_update)
        ways.append((SIMPLER**2 * (setup + updates * fast.update), _lanes_choice(alone, fast, how, compiled=True)))
    return min(ways, key=lambda way: way[0])[1]


def _update(timed: Timing) -> float:
    return timed.update


def _speed_note(alone: Timing, stacked: Sequence[Timing]) -> str:
    if not stacked:
        return ""
    best = min(stacked, key=_update)
    return f": {best.width} at once are {alone.update / best.update:.2f} times as fast (measured)"


def _lanes_choice(alone: Timing, lanes: Timing, how: str, *, compiled: bool) -> Choice:
    """how: measured or predicted."""
    times = f"{alone.update / lanes.update:.1f} times as fast as one at a time"
    node = {"_target_": LANES, "width": lanes.width, "compiled": compiled}
    return Choice(node, f"{lanes.width} trials at once{', compiled' if compiled else ''}: {times} ({how})")


def _predict_gain(task: Task, example: Job, device: str, small: float) -> Gain:
    """What compiling is expected to do for this model; on a GPU, nothing. small: as `_time_small_pass`."""
    model = task.build(example.seed, **options_of(example.hparams, "model"))
    parameters = len(list(model.parameters()))
    convolves = _has(model, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    seconds = ONCE + EACH * parameters + (CONVOLVED if convolves else 0.0)
    seconds = small / PASS * (seconds + (0.0 if has_compiled() else FIRST))
    if resolve_device(device).type != "cpu" or _has(model, nn.GroupNorm):  # stacked, torch makes it no better
        return Gain(0.0, 1.0, seconds)
    return Gain(SAVED * small * parameters, 1.0 if convolves else FUSED, seconds)


def _has(model: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(module, kinds) for module in model.modules())
