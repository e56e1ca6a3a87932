"""Measure microseconds per trial-step of every way to train, model by model, and whether trainer=auto picks the best.

    python benchmarks/lanes.py [--models "tiny MLP" text] [--no-compile] [--trials 200] [--steps 1000]

All ways of a model are interleaved. Each figure is the minimum of its repeats, on one thread, without evaluation and
norms. On a CPU it is that thread's CPU time, since other programs run on the machine too. Seconds of compiling are in
brackets, measured in a separate process, as a sweep pays them. Only what auto compiled was compiled before.

auto is the trainer that sweeper.training.auto chooses for a sweep of --trials trials of --steps updates, --open of them
side by side. Its share is the time of the best way divided by its own. Both include compiling and empty lanes; its own
also includes the seconds it spent compiling to compare. The exit code is 1 if any share is below 0.95.
"""

from __future__ import annotations

import argparse
import importlib
import math
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from loops import Tuned, User

from sweeper.tasks.convolutional import CNN, ResNet
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP, NGram
from sweeper.tasks.problems import Supervised
from sweeper.tasks.text import NextByte
from sweeper.tasks.transformer import Transformer
from sweeper.training import auto
from sweeper.training.device import intra_op_threads
from sweeper.training.lanes.probe import probe
from sweeper.training.lanes.program import Form
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Task, Trainer

SGD = OptimizerSpec("torch.optim.SGD", {"momentum": 0.9, "nesterov": True})
ADAMW = OptimizerSpec("torch.optim.AdamW", {"weight_decay": 0.01})
LEAST_SHARE = 0.95
EVERY = 50  # updates between two reports


@dataclass
class Case:
    """A model to measure.

    Attributes:
        task: Makes the task with the model.
        batch_size: Examples per update.
        optimizer: The optimizer.
        widths: Widths of eager lanes.
        compiled: Widths of compiled lanes.
    """

    task: Callable[[], Task]
    batch_size: int
    optimizer: OptimizerSpec = SGD
    widths: tuple[int, ...] = (4, 16, 64)
    compiled: tuple[int, ...] = (1, 16, 64)


CASES = {
    "tiny MLP 64-32-10": Case(
        lambda: Supervised(Digits(), partial(MLP, width=32, depth=1)), 16, SGD, (16, 32, 64, 128), (16, 64)
    ),
    "MLP 64-128-10": Case(lambda: Supervised(Digits(), partial(MLP, width=128, depth=1)), 64),
    "text, NGram": Case(lambda: Supervised(NextByte(), NGram), 32),
    "tiny CNN 8x8": Case(lambda: Supervised(Digits(), partial(CNN, width=8)), 16),
    "tiny transformer": Case(
        lambda: Supervised(NextByte(context=16, every=True), partial(Transformer, width=32)), 8, ADAMW
    ),
    "CNN 8x8": Case(lambda: Supervised(Digits(), partial(CNN, width=16, depth=3)), 64, SGD, (4, 8, 16), (1, 8, 16)),
    "ResNet-8 BatchNorm": Case(lambda: Supervised(Digits(), ResNet), 32, SGD, (4, 8), (1, 4)),
    "ResNet-8 GroupNorm": Case(lambda: Supervised(Digits(), partial(ResNet, norm="group")), 32, SGD, (4, 8), (1, 4)),
    "transformer d64 T64": Case(
        lambda: Supervised(NextByte(context=64, every=True), partial(Transformer, width=64)), 8, ADAMW, (4, 8), (1, 4)
    ),
}  # fmt: skip


@dataclass
class Way:
    """A way to train.

    Attributes:
        run: Runs `count` trial-steps.
        count: Trial-steps of a run.
        width: Lanes.
        setup: Seconds of compiling.
        best: Fewest seconds per trial-step so far.
    """

    run: Callable[[], None]
    count: int
    width: int = 1
    setup: float = 0.0
    best: float = math.inf

    def time(self, clock: Callable[[], float]) -> None:
        """Run once and update `best`."""
        start = clock()
        self.run()
        self.best = min(self.best, (clock() - start) / self.count)

    def sweep_seconds(self, trials: int, steps: int, open: int) -> float:
        """Return the seconds of a whole sweep with `open` trials side by side. Further lanes are empty."""
        empty = math.ceil(open / self.width) * self.width / open
        return self.setup + trials * steps * self.best * empty

    def __str__(self) -> str:
        return f"{1e6 * self.best:.0f}" + (f" (+{self.setup:.0f} s)" if self.setup else "")


def jobs(count: int, steps: int, every: int) -> list[Job]:
    """Return jobs without evaluation, all with the same seed, as in a sweep."""
    lr_S = 0.01 * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    reports = tuple(range(every, steps + 1, every))
    return [Job(JobId("s", place, 0), "cosine", {}, 0, lr_S, reports, parts=("train",)) for place in range(count)]


class Running:
    """Trains `count` jobs, `steps` updates further at each call, so that models are built once, as in a sweep."""

    def __init__(self, trainer: Trainer, count: int, steps: int, calls: int = 100) -> None:
        self.trainer, self.turns, self.jobs = (
            trainer,
            max(1, steps // EVERY),
            jobs(count, calls * steps, min(EVERY, steps)),
        )
        trainer.start(self.jobs)

    def __call__(self) -> None:
        for _ in range(self.turns):
            list(self.trainer.advance([job.id for job in self.jobs]))


def build_ways(name: str, steps: int, compile: bool, device: str) -> dict[str, Way]:
    """Return every way to train the model, by its label, already compiled and warmed up."""
    case = CASES[name]
    task, optimizer, batch = case.task(), case.optimizer, case.batch_size
    lr_S = np.full(steps, 0.01)
    alone = SequentialTrainer(task, Recipe(optimizer, batch, norms=False), device=device, threads=1)
    ways = {
        "user": Way(partial(User(task, optimizer, batch).run, lr_S), steps),
        "tuned": Way(partial(Tuned(task, optimizer, batch, device).run, lr_S), steps),
        "sequential": Way(Running(alone, 1, steps), steps),
    }
    if compile:
        ways["single compiled"] = Way(partial(Tuned(task, optimizer, batch, device, compiled=True).run, lr_S), steps)
    kinds = [(width, False) for width in case.widths] + [(width, True) for width in case.compiled if compile]
    for width, compiled in kinds if probe_form(case, device) is not None else []:
        ways[_label(width, compiled)] = lanes_way(name, width, compiled, steps, device)
    for way in ways.values():
        way.run()  # compiles and builds
    return ways


def lanes_way(name: str, width: int, compiled: bool, steps: int, device: str) -> Way:
    """Return the way to train the model in that many lanes."""
    setup = run_in_process(compile_seconds, name, width, device) if compiled else 0.0
    trainer = lane_trainer(CASES[name], width, compiled, device)
    return Way(Running(trainer, width, steps), width * steps, width, setup)


def lane_trainer(case: Case, width: int, compiled: bool, device: str) -> Trainer:
    """Return a trainer with that many lanes."""
    form = probe_form(case, device)
    assert form is not None
    recipe = Recipe(case.optimizer, case.batch_size, norms=False)
    return LaneTrainer(case.task(), recipe, Stacking(form, width, compiled), device=device)


def probe_form(case: Case, device: str) -> Form | None:
    """Return how the model can be stacked; None if it cannot be."""
    return probe(case.task(), Recipe(case.optimizer, case.batch_size), jobs(1, 50, 50)[0], device=device).form


def compile_seconds(name: str, width: int, device: str) -> float:
    """Return the CPU seconds that the first update takes beyond a later one, the C++ compiler's included."""
    inductor: Any = importlib.import_module("torch._inductor.config")
    inductor.compile_threads = 1
    update = Running(lane_trainer(CASES[name], width, True, device), width, 1)
    times = []
    with intra_op_threads(1):
        for _ in range(3):
            times.append(sum(os.times()[:4]))
            update()
    return 2 * times[1] - times[0] - times[2]


def run_in_process(function: Callable[..., float], *arguments: Any) -> float:
    """Call the function in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def compare(name: str, args: argparse.Namespace) -> float:
    """Print the figures of one model and return auto's share of the best way."""
    case = CASES[name]
    example = jobs(1, args.steps, args.steps // 20)[0]
    choice = auto.choose(
        case.task(),
        Recipe(case.optimizer, case.batch_size),
        example,
        auto.Load(args.trials, args.open, processes=1, pruned=False),
        device=args.device,
    )
    ways = build_ways(name, args.block, not args.no_compile, args.device)
    width, compiled = choice.trainer.get("width", 1), choice.trainer.get("compiled", False)
    chosen = _label(width, compiled) if "width" in choice.trainer else "sequential"
    if chosen not in ways:  # a width that is not in the table
        ways[chosen] = lanes_way(name, width, compiled, args.block, args.device)
        ways[chosen].run()
    clock = time.thread_time if args.device == "cpu" else time.perf_counter
    for _ in range(args.repeats):
        for way in ways.values():
            way.time(clock)
    seconds = {
        label: way.sweep_seconds(args.trials, args.steps, args.open)
        for label, way in ways.items()
        if label.startswith(("sequential", "lanes"))
    }
    best = min(seconds, key=seconds.__getitem__)
    share = seconds[best] / (seconds[chosen] + choice.compiling)
    print(f"{name:20} {'  '.join(f'{label} {one}' for label, one in ways.items())}")
    speedup = ways["user"].best / ways[chosen].best
    print(f"{'':20} auto: {chosen}, {share:.2f} of the best ({best}); {speedup:.1f} x user; {choice.why}")
    sys.stdout.flush()
    return share


def _label(width: int, compiled: bool) -> str:
    return f"lanes {width}{' compiled' if compiled else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--block", type=int, default=100, help="updates timed at once")
    parser.add_argument("--trials", type=int, default=200, help="trials of the sweep that auto chooses for")
    parser.add_argument("--open", type=int, default=64, help="trials side by side")
    parser.add_argument("--steps", type=int, default=1000, help="updates of a trial")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = (
        tempfile.mkdtemp()
    )  # an empty cache, so that compiling costs what it does the first time
    print(f"{platform.machine()}, {platform.system()}, device {args.device}, torch {torch.__version__}")
    print(f"microseconds per trial-step; auto for {args.trials} trials of {args.steps} updates")
    if not args.no_compile:  # so that no way pays for torch's first look at the processor
        run_in_process(compile_seconds, next(iter(CASES)), 16, args.device)
    with intra_op_threads(1):
        shares = {name: compare(name, args) for name in args.models}
    short = {name: share for name, share in shares.items() if share < LEAST_SHARE}
    for name, share in short.items():
        print(f"SHORT: {name}: auto reaches {share:.2f} of the best")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
