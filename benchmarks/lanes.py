"""Microseconds a trial-step of every way to train, model by model, and whether trainer=auto finds the best one.

    python benchmarks/lanes.py [--models "tiny MLP" text] [--no-compile] [--trials 200] [--steps 1000]

All ways of one model are interleaved; each figure is the least of its repeats, on one thread, without evaluation.
auto: the trainer that sweeper.training.auto chose for a sweep of so many trials and steps; its share is the time of
the best way over its own, compiling included. Ends with 1 if any share is below 0.95.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
from sweeper.training.lanes import LaneTrainer
from sweeper.training.probe import probe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Task, Trainer

SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9, "nesterov": True}
ADAMW = {"_target_": "torch.optim.AdamW", "weight_decay": 0.01}
LEAST_SHARE = 0.95


@dataclass
class Case:
    task: Callable[[], Task]
    batch_size: int
    optimizer: dict[str, Any] = field(default_factory=lambda: SGD)
    widths: tuple[int, ...] = (4, 16, 64)
    compiled: tuple[int, ...] = (1, 16)


CASES = {
    "tiny MLP 64-32-10": Case(
        lambda: Supervised(Digits(), partial(MLP, width=32, depth=1)), 16, SGD, (16, 64, 256), (64,)
    ),
    "MLP 64-128-10": Case(lambda: Supervised(Digits(), partial(MLP, width=128, depth=1)), 64),
    "text, NGram": Case(lambda: Supervised(NextByte(), NGram), 32),
    "tiny CNN 8x8": Case(lambda: Supervised(Digits(), partial(CNN, width=8)), 16),
    "tiny transformer": Case(
        lambda: Supervised(NextByte(context=16, every=True), partial(Transformer, width=32)), 8, ADAMW
    ),
    "CNN 8x8": Case(lambda: Supervised(Digits(), partial(CNN, width=16, depth=3)), 64, SGD, (4, 16)),
    "ResNet-8 BatchNorm": Case(lambda: Supervised(Digits(), ResNet), 32, SGD, (4, 8), (1, 4)),
    "ResNet-8 GroupNorm": Case(lambda: Supervised(Digits(), partial(ResNet, norm="group")), 32, SGD, (4, 8), (1, 4)),
    "transformer d64 T64": Case(
        lambda: Supervised(NextByte(context=64, every=True), partial(Transformer, width=64)), 8, ADAMW, (4, 8), (1, 4)
    ),
}  # fmt: skip


@dataclass
class Way:
    """One way to train: `run()` does `count` trial-steps. setup: seconds of the first run. best: of a trial-step."""

    run: Callable[[], None]
    count: int
    setup: float = 0.0
    best: float = math.inf

    def time(self) -> None:
        began = time.perf_counter()
        self.run()
        self.best = min(self.best, (time.perf_counter() - began) / self.count)

    @property
    def setup_beyond(self) -> float:
        """Seconds of compiling and building alone."""
        return max(0.0, self.setup - self.best * self.count)

    def __str__(self) -> str:
        return f"{1e6 * self.best:.0f}" + (f" (+{self.setup_beyond:.0f} s)" if self.setup_beyond > 1 else "")


def jobs(count: int, steps: int, every: int) -> list[Job]:
    """Trainings without evaluation."""
    lr_S = 0.01 * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    reports = tuple(range(every, steps + 1, every))
    return [Job(JobId("s", place, 0), "cosine", {}, place, lr_S, reports, parts=("train",)) for place in range(count)]


def trained(trainer: Trainer, count: int, steps: int, every: int = 50) -> None:
    of = jobs(count, steps, every)
    trainer.start(of)
    for _ in of[0].report_steps:
        list(trainer.advance([job.id for job in of]))
    for job in of:
        trainer.stop(job.id)


def ways(case: Case, steps: int, compile: bool, device: str) -> dict[str, Way]:
    task, optimizer, batch = case.task(), case.optimizer, case.batch_size
    common: dict[str, Any] = {"batch_size": batch, "device": device}
    lr_S = np.full(steps, 0.01)
    found = {
        "user": Way(partial(User(task, optimizer, batch).run, lr_S), steps),
        "tuned": Way(partial(Tuned(task, optimizer, batch, device).run, lr_S), steps),
        "sequential": Way(partial(trained, SequentialTrainer(task, optimizer, **common, threads=1), 1, steps), steps),
    }
    form = probe(task, optimizer, jobs(1, steps, 50)[0], batch_size=batch, device=device).form
    for width in case.widths if form is not None else ():
        trainer = LaneTrainer(task, optimizer, form=form, width=width, **common)
        found[f"lanes {width}"] = Way(partial(trained, trainer, width, steps), width * steps)
    if compile:
        single = Tuned(task, optimizer, batch, device, compiled=True)
        found["single compiled"] = Way(partial(single.run, lr_S), steps)
        for width in case.compiled if form is not None else ():
            trainer = LaneTrainer(task, optimizer, form=form, width=width, compiled=True, **common)
            found[f"lanes {width} compiled"] = Way(partial(trained, trainer, width, steps), width * steps)
    return {label: started(way) for label, way in found.items()}


def started(way: Way) -> Way:
    """After its first run, which compiles and builds."""
    began = time.perf_counter()
    way.run()
    way.setup = time.perf_counter() - began
    return way


def compare(name: str, given: argparse.Namespace) -> float:
    """Prints one model; the share of the best way that auto reaches."""
    case = CASES[name]
    found = ways(case, given.block, not given.no_compile, given.device)
    for _ in range(given.repeats):
        for way in found.values():
            way.time()
    updates = given.trials * given.steps
    example = jobs(1, given.steps, given.steps // 20)[0]
    choice = auto.choose(
        case.task(), case.optimizer, example, batch_size=case.batch_size, device=given.device, precision="float32",
        norms=True, jobs=given.trials, jobs_at_once=given.open, pruned=False,
    )  # fmt: skip
    chosen = _label(choice.trainer)
    if chosen not in found:  # a width that is not in the table
        trainer = auto_trainer(case, choice.trainer, given.device)
        width = choice.trainer["width"]
        found[chosen] = started(Way(partial(trained, trainer, width, given.block), width * given.block))
        for _ in range(given.repeats):
            found[chosen].time()
    total = {
        label: one.setup_beyond + updates * one.best
        for label, one in found.items()
        if label.startswith(("sequential", "lanes"))
    }
    share = min(total.values()) / total[chosen]
    print(f"{name:20} {'  '.join(f'{label} {one}' for label, one in found.items())}")
    lead = found["user"].best / found[chosen].best
    print(f"{'':20} auto: {chosen}, {share:.2f} of the best; {lead:.1f} x user", flush=True)
    return share


def auto_trainer(case: Case, node: dict[str, Any], device: str) -> Trainer:
    task = case.task()
    form = probe(task, case.optimizer, jobs(1, 50, 50)[0], batch_size=case.batch_size, device=device).form
    assert form is not None
    return LaneTrainer(
        task, case.optimizer, form=form, width=node["width"], compiled=node["compiled"], batch_size=case.batch_size,
        device=device,
    )  # fmt: skip


def _label(node: dict[str, Any]) -> str:
    if "width" not in node:
        return "sequential"
    return f"lanes {node['width']}" + (" compiled" if node["compiled"] else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--block", type=int, default=100, help="updates timed at once")
    parser.add_argument("--trials", type=int, default=200, help="of the sweep that auto chooses for")
    parser.add_argument("--open", type=int, default=64, help="trials that are open at once")
    parser.add_argument("--steps", type=int, default=1000, help="updates of a trial")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()  # what compiling costs the first time
    print(f"{platform.machine()}, {platform.system()}, device {given.device}, torch {torch.__version__}")
    print(f"microseconds a trial-step; auto for {given.trials} trials of {given.steps} updates")
    with intra_op_threads(1):
        shares = {name: compare(name, given) for name in given.models}
    short = {name: share for name, share in shares.items() if share < LEAST_SHARE}
    for name, share in short.items():
        print(f"SHORT: {name}: auto reaches {share:.2f} of the best")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
