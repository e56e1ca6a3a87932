"""Choose the fastest trainer on this machine: candidates are timed for a few seconds on the sweep's model.

In a sweep that is long enough, one of them is a compiled stack.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sweeper.training.device import resolve_device
from sweeper.training.lanes.probe import probe
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.norms import MEASUREMENTS
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Task, Trainer

WIDTHS = (4, 8, 16, 32, 64, 128, 256)
WARM, TIMED, REPEATS = 2, 20, 3  # updates of warmup, updates timed, repetitions
PATIENCE = 0.5  # seconds for one candidate, about
NEAR = 1.3  # candidates within this factor of the best are timed again, since the machine may have been busy
LOOKS, LOOKING = 4, 0.02  # most repetitions, and the largest share of the sweep's time for them
SHORT = 8.0  # seconds of a whole sweep in one process below which neither choosing nor more processes save time
LONG = 150.0  # seconds of training from which a stack is compiled and timed, which takes 10 to 50 s
SIMPLER = 1.02  # least gain of a more complex trainer: lanes over one at a time, compiled over both
PRUNED = 0.6  # share of the planned updates that are trained if a pruner stops trials
SEQUENTIAL = "sweeper.training.sequential.SequentialTrainer"
LANES = "sweeper.training.lanes.probe.ProbedTrainer"


class Choice(NamedTuple):
    """A trainer, and why it was chosen.

    Attributes:
        trainer: Its node, as in conf/trainer.
        why: One line for the user.
        compiling: Seconds spent on the compiled candidate.
        is_short: Whether the sweep is too short to start processes for it.
    """

    trainer: dict[str, Any]
    why: str
    compiling: float = 0.0
    is_short: bool = False


class Timing(NamedTuple):
    """The time of a candidate.

    Attributes:
        width: Lanes of a stack; 1 for one job at a time.
        update: Seconds of one update of one job, with its share of empty lanes.
    """

    width: int
    update: float


class Load(NamedTuple):
    """How much a sweep trains.

    Attributes:
        jobs: Jobs in all.
        at_once: Jobs that are open at once.
        processes: Processes that share the jobs.
        pruned: Whether a pruner stops some.
    """

    jobs: int
    at_once: int
    processes: int
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
    alone = Timing(1, _time_update(sequential(), example, 1, clock))
    if not math.isfinite(alone.update):
        return Choice({"_target_": SEQUENTIAL}, "")  # the first trial will fail with the reason
    updates = load.jobs * example.steps * (PRUNED if load.pruned else 1.0)
    if alone.update * updates < SHORT:
        return Choice({"_target_": SEQUENTIAL}, "one trial at a time: the sweep is short", is_short=True)
    verdict = probe(task, recipe, example, device=device)
    form = verdict.form
    if form is None:
        return Choice({"_target_": SEQUENTIAL}, verdict.why)

    updates, at_once = updates / load.processes, math.ceil(load.at_once / load.processes)

    def update_of(width: int, *, compiled: bool = False) -> float:
        """Time a stack once."""
        if width == 1:
            return _time_update(sequential(), example, 1, clock)
        trainer = LaneTrainer(task, timed_recipe, Stacking(form, width, compiled), device=device)
        return width * _stacks_per_job(width, at_once) * _time_update(trainer, example, width, clock)

    alone, *stacked = _remeasure([alone, *_time_stacks(update_of, at_once)], update_of, updates)
    width, start = _width_to_compile([alone, *stacked], updates), time.perf_counter()
    compiled = None if width is None else Timing(width, update_of(width, compiled=True))
    return _choose_fastest(alone, stacked, compiled)._replace(compiling=time.perf_counter() - start)


def _time_stacks(update_of: Callable[[int], float], jobs_at_once: int) -> list[Timing]:
    """Time wider and wider stacks, until they get slower or there are not enough jobs to fill them."""
    timed: list[Timing] = []
    for width in WIDTHS:
        if width >= 2 * jobs_at_once or (timed and width * timed[-1].update * (WARM + TIMED) > 4 * PATIENCE):
            break
        timed.append(Timing(width, update_of(width)))
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


def _width_to_compile(timed: Sequence[Timing], updates: float) -> int | None:
    """Return the width of the stack that is compiled and timed; None if the sweep is too short, or no stack is fast.

    Compiling saves what Python and torch spend around the operations of an update, which is the same for 2 lanes as for
    200. So a narrow stack gains more than a wide one, and of those near the best the narrowest is compiled.
    """
    best = min(one.update for one in timed)
    if best * updates < LONG:
        return None
    return min((one.width for one in timed if one.width > 1 and one.update < NEAR * best), default=None)


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


def _choose_fastest(alone: Timing, stacked: Sequence[Timing], compiled: Timing | None) -> Choice:
    """Choose the fastest: one at a time, lanes, or compiled lanes, whose programs load from torch's cache."""
    one_by_one = f"one trial at a time{_speed_note(alone, stacked)}"
    choices = [(alone.update, Choice({"_target_": SEQUENTIAL}, one_by_one))]
    if stacked:
        lanes = min(stacked, key=_update)
        choices.append((SIMPLER * lanes.update, _lanes_choice(alone, lanes, compiled=False)))
    if compiled is not None:
        choices.append((SIMPLER**2 * compiled.update, _lanes_choice(alone, compiled, compiled=True)))
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


def _lanes_choice(alone: Timing, lanes: Timing, *, compiled: bool) -> Choice:
    """Return the choice of lanes."""
    times = f"{alone.update / lanes.update:.1f} times as fast as one at a time"
    node = {"_target_": LANES, "width": lanes.width, "compiled": compiled}
    return Choice(node, f"{lanes.width} trials at once{', compiled' if compiled else ''}: {times} (measured)")
