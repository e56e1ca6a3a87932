"""Measure whether schedules matter on the two tasks, and what an update costs, in plain PyTorch on one thread.

    python benchmarks/tasks.py [--trials 20] [--seeds 5] [--steps 1000]

Constant, linear and cosine each get the same number of random trials. The best trial of each family is trained again
on fresh seeds. The gap is the mean loss of the constant LR minus that of the best family, divided by the spread. The
spread is the standard deviation over seeds, pooled over the families.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP, NGram
from sweeper.tasks.problems import Supervised
from sweeper.tasks.text import NextByte

FAMILIES = ("constant", "linear", "cosine")
BATCH = 32
WARMUPS = (0.0, 0.02, 0.05, 0.1, 0.2)


class Point(NamedTuple):
    """The hyperparameters of a trial, in the ranges of conf/optimizer/sgd.yaml and conf/schedule/."""

    peak_lr: float
    warmup: float
    decay: float


def draw(generator: np.random.Generator) -> Point:
    """Draw a random trial."""
    log_lr, log_decay = generator.uniform(np.log([1e-3, 1e-3]), np.log([3, 0.3]))
    return Point(math.exp(log_lr), float(generator.choice(WARMUPS)), math.exp(log_decay))


def lr_row(family: str, point: Point, steps: int) -> NDArray[np.float64]:
    """Return the LR of each update: a linear ramp over the fraction `warmup`, then down to `decay` times the peak."""
    rise = round(point.warmup * steps)
    x = np.arange(steps - rise) / (steps - rise)
    down = {"constant": np.zeros_like(x), "linear": x, "cosine": (1 - np.cos(np.pi * x)) / 2}[family]
    ramp = np.arange(1, rise + 1) / max(rise, 1)
    return point.peak_lr * np.concatenate([ramp, 1 - (1 - point.decay) * down])


def train(task: Supervised, lr_S: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Return the final validation loss (infinite if diverged), and the CPU seconds of updates and of validation."""
    model = task.build(seed)
    index_SB = torch.randint(
        task.size("train", 0), (len(lr_S), BATCH), generator=torch.Generator().manual_seed(seed + 1_000_003)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    start = time.process_time()
    for lr, index_B in zip(lr_S.tolist(), index_SB, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        inputs_B, target_B = task.fetch("train", 0, index_B)
        loss = task.loss(task.forward(model, inputs_B), target_B).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained_at = time.process_time()
    with torch.no_grad():
        inputs, target = task.fetch("valid", 0, torch.arange(task.size("valid", 0)))
        valid = task.loss(task.forward(model.eval(), inputs), target).mean().item()
    seconds = {"update": trained_at - start, "validation": time.process_time() - trained_at}
    return {"loss": valid if valid < task.loss_bound else math.inf} | seconds


def compare(name: str, task: Supervised, trials: int, seeds: int, steps: int) -> None:
    """Print the winners, their spread over fresh seeds and the costs for one task."""
    print(f"\n{name}: {task.size('train', 0):,} examples, {trials} trials per family, {steps} updates of {BATCH}")
    start = time.perf_counter()
    runs, means, spreads = [], {}, {}
    for number, family in enumerate(FAMILIES):
        generator = np.random.default_rng([0, number])
        points = [draw(generator) for _ in range(trials)]
        search_runs = [train(task, lr_row(family, point, steps), seed=trial) for trial, point in enumerate(points)]
        best = int(np.argmin([run["loss"] for run in search_runs]))
        fresh_runs = [train(task, lr_row(family, points[best], steps), seed=10_000 + seed) for seed in range(seeds)]
        losses = np.array([run["loss"] for run in fresh_runs])
        means[family], spreads[family] = losses.mean(), losses.std(ddof=1)
        diverged = sum(math.isinf(run["loss"]) for run in search_runs)
        print(
            f"  {family:9} best {search_runs[best]['loss']:.4f}"
            f"   fresh seeds {means[family]:.4f} +- {spreads[family]:.4f}"
            f"   peak_lr {points[best].peak_lr:.3g}, warmup {points[best].warmup}, decay {points[best].decay:.2g}"
            f"   {diverged} diverged"
        )
        runs += search_runs + fresh_runs
    spread = math.sqrt(np.mean([value**2 for value in spreads.values()]))
    winner = min(means, key=lambda family: means[family])
    print(f"  gap of {winner} to constant: {(means['constant'] - means[winner]) / spread:.1f} spreads of {spread:.4f}")
    update = np.median([run["update"] for run in runs]) / steps
    validation = np.median([run["validation"] for run in runs])
    print(
        f"  {1e3 * update:.2f} ms per update, {1e3 * validation:.1f} ms per validation, one thread; "
        f"{time.perf_counter() - start:.0f} s in all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="trials of each family")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds for the best trial of each family")
    parser.add_argument("--steps", type=int, default=1000, help="updates of a trial")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tasks = {
        "text": Supervised(NextByte(), partial(NGram, width=64, depth=1, embedding=16)),
        "digits": Supervised(Digits(), partial(MLP, width=64, depth=2)),
    }
    for name, task in tasks.items():
        compare(name, task, args.trials, args.seeds, args.steps)


if __name__ == "__main__":
    main()
