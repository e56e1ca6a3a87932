"""Compare training in several processes with training in one, and measure the cost of starting and of memory.

    python benchmarks/workers.py [--workers 2] [--repeats 7] [--jobs 16] [--megabytes 200]

Both train the same jobs, interleaved, and their losses must be equal bit for bit. The first turns after the start are
not timed. Turns follow each other without a pause, as in a sweep, since an idle core is slower at first. "unconnected"
is the limit of the machine: as many independent programs, compared with one alone. Memory is given per worker, without
what it shares (private) and with its share of that (PSS), for a data set of --megabytes.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP, NGram
from sweeper.tasks.problems import Supervised
from sweeper.tasks.text import NextByte
from sweeper.training.lanes.probe import ProbedTrainer
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.training.workers.cores import count_cores
from sweeper.training.workers.processes import Processes
from sweeper.types import Job, JobId, Report

SGD = OptimizerSpec("torch.optim.SGD", {"momentum": 0.9, "nesterov": True})
TURNS = 5  # timed together
CASES: dict[str, tuple[Any, Any, int]] = {  # task, trainer, updates of a turn
    "text, NGram 64": (lambda: Supervised(NextByte(), functools.partial(NGram, width=64)), SequentialTrainer, 50),
    "digits, MLP 64-64": (lambda: Supervised(Digits(), functools.partial(MLP, width=64)), SequentialTrainer, 50),
    "digits, MLP 512-512": (lambda: Supervised(Digits(), functools.partial(MLP, width=512)), SequentialTrainer, 20),
    "digits, MLP 64-64, lanes of 8": (
        lambda: Supervised(Digits(), functools.partial(MLP, width=64)),
        functools.partial(ProbedTrainer, width=8),
        100,
    ),
}


def build_processes(
    task: Any, trainer: Any, workers: int, jobs: int, turns: int, updates: int
) -> tuple[Processes, list[JobId]]:
    """Return a trainer with that many processes and the jobs it has started."""
    built = Processes(task, Recipe(SGD, 32, precision="float32"), trainer=trainer, devices=("cpu",) * workers)
    return built, start_jobs(built, jobs, turns, updates)


def start_jobs(trainer: Any, jobs: int, turns: int, updates: int) -> list[JobId]:
    """Start jobs that are long enough for that many timings."""
    ids = [JobId("s", trial, 0) for trial in range(jobs)]
    steps = turns * TURNS * updates
    for id in ids:
        lr_S = np.full(steps, 0.01 * (1 + id.trial / jobs))
        trainer.start([Job(id, "constant", {}, id.trial, lr_S, tuple(range(updates, steps + 1, updates)))])
    return ids


def compare(name: str, workers: int, jobs: int, repeats: int) -> None:
    """Print the speed of one process and of several for one case."""
    make, trainer, updates = CASES[name]
    task = make()
    both = [build_processes(task, trainer, count, jobs, repeats + 1, updates) for count in (1, workers)]
    seconds: list[list[float]] = [[], []]
    for turn in range(repeats + 1):
        losses = []
        for which, (built, ids) in enumerate(both):
            start = time.perf_counter()
            reports = [report for _ in range(TURNS) for report in sorted(built.advance(ids), key=_id)]
            if turn:
                seconds[which].append(time.perf_counter() - start)
            losses.append(np.concatenate([report.traces["train/loss"] for report in reports]))
        np.testing.assert_array_equal(*losses)
    for built, _ in both:
        built.close()
    ratios = sorted(one / many for one, many in zip(*seconds, strict=True))
    rates = [jobs * TURNS * updates / statistics.median(of) for of in seconds]
    print(
        f"{name:32} {rates[0]:8.0f} {rates[1]:8.0f} updates/s   x {statistics.median(ratios):.2f}"
        f"   ({ratios[0]:.2f} .. {ratios[-1]:.2f})"
        f"   unconnected x {measure_unconnected(name, workers, jobs, repeats):.2f}"
    )


def _id(report: Report) -> JobId:
    return report.id


def measure_unconnected(name: str, workers: int, jobs: int, repeats: int) -> float:
    """Return how many times as fast `workers` independent programs are together as one program alone."""
    ratios, turns = [], (repeats + 1) * (workers + 1)  # enough for one program that runs all of them
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_program, (name, jobs, turns)
    ) as programs:
        for turn in range(repeats + 1):
            (alone,) = [programs.submit(_turn).result()]
            together = [future.result() for future in [programs.submit(_turn) for _ in range(workers)]]
            if turn:
                ratios.append(sum(alone / seconds for seconds in together))
    return statistics.median(ratios)


_program: tuple[Any, list[JobId]]  # in each process of `measure_unconnected`


def _start_program(name: str, jobs: int, turns: int) -> None:
    """Build the trainer of this process."""
    global _program
    make, trainer, updates = CASES[name]
    torch.set_num_threads(1)
    built = trainer(make(), Recipe(SGD, 32), device="cpu")
    _program = built, start_jobs(built, jobs, turns, updates)


def _turn() -> float:
    """Train some turns and return the seconds."""
    built, ids = _program
    start = time.perf_counter()
    for _ in range(TURNS):
        list(built.advance(ids))
    return time.perf_counter() - start


def print_costs(workers: int, megabytes: int) -> None:
    """Print the seconds until the processes are ready, and the memory of each."""
    rows = megabytes * 2**20 // (64 * 4)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(rows, 64)).astype(np.float32), draw.integers(10, size=rows)
    task = Supervised(Arrays(x, y), functools.partial(MLP, width=64))
    start = time.perf_counter()
    built, ids = build_processes(task, SequentialTrainer, workers, workers, 1, 20)
    ready = time.perf_counter() - start
    list(built.advance(ids))
    print(f"\n{workers} processes were ready after {ready:.1f} s, with {megabytes} MB of data")
    for worker in built._workers:
        kinds = memory_megabytes(worker.pid)
        print(f"  a worker: private {kinds['Private']} MB, shared {kinds['Shared']} MB, PSS {kinds['Pss']} MB")
    built.close()


def memory_megabytes(pid: int) -> dict[str, int]:
    """Return the private, shared and proportional (PSS) memory of a process."""
    kilobytes = {"Private": 0, "Shared": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        kind, value = line.split(":")[0].partition("_")[0], line.split()[1]
        if kind in kilobytes and (kind != "Pss" or line.startswith("Pss:")):
            kilobytes[kind] += int(value)
    return {kind: value // 1024 for kind, value in kilobytes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=count_cores())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--case", choices=list(CASES), action="append")
    args = parser.parse_args()
    print(f"{platform.machine()}, {platform.system()}, {count_cores()} cores, torch {torch.__version__}")
    print(f"load before: {os.getloadavg()[0]:.1f} (other work on the machine makes the ratio smaller)")
    print(f"one process, {args.workers} processes; medians of {args.repeats} times {TURNS} turns\n")
    for name in args.case or CASES:
        compare(name, args.workers, args.jobs, args.repeats)
    print_costs(args.workers, args.megabytes)


if __name__ == "__main__":
    main()
