"""Whether the interval of an LR range test contains the peak LR that a sweep over a much wider range finds best.

    python benchmarks/lr_range.py [--steps 1000] [--trials 20] [--workers 2] [--seed 0]

Each of 8 tasks with each of 5 optimizers: the range test of `optimizer.peak_lr=auto`, then a sweep of cosine (peak LR,
warmup and decay searched, with pruning) over seven decades. Beside it stands the range of the optimizer's file, which
is the same for all tasks. The constants of the interval (`sweeper/results/lr_range.py`) were chosen on 12 other pairs,
see RESULTS.md. The exit code is 1 if a goal is not reached.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TASKS = (
    "data=digits model=mlp", "data=tabular model=mlp", "data=text model=ngram",
    "data=quadratic model=quadratic train.batch_size=4", "data=argmax model=mlp", "data=mnist1d model=mlp",
    "data=digits model=mlp model.depth=6", "data=mnist1d model=cnn",
)  # fmt: skip
OPTIMIZERS = ("sgd", "adamw", "rmsprop", "adagrad", "lion")
WIDEST = 1e-3, 1e4  # the range of the sweep, relative to the optimizer's default LR
CONTAINS, SHARE = 0.95, 0.05  # the goals


@dataclass(frozen=True)
class Found:
    """What was found for one pair.

    Attributes:
        pair: The words that choose it.
        interval: Of the range test; None if the loss fell nowhere.
        of_file: The range of the optimizer's file.
        best: The peak LR of the sweep's lowest trial.
        updates: Of the range test.
        swept: Updates of the sweep.
    """

    pair: str
    interval: tuple[float, float] | None
    of_file: tuple[float, float]
    best: float
    updates: int
    swept: int

    @property
    def is_inside(self) -> bool:
        return self.interval is not None and _contains(self.interval, self.best)


def _contains(interval: tuple[float, float], lr: float) -> bool:
    return interval[0] <= lr <= interval[1]


def measure(task: str, optimizer: str, asked: argparse.Namespace) -> Found:
    """Test the range, then sweep."""
    import torch

    import sweeper
    from sweeper.run import sweeping
    from sweeper.run.ramping import find_lr
    from sweeper.spec.composing import build_subject, compose
    from sweeper.spec.parse import parse
    from sweeper.spec.ramp_spec import parse_ramp
    from sweeper.spec.requests import Request

    torch.set_num_threads(1)
    words = (
        *task.split(), f"optimizer={optimizer}", "schedule=[cosine]", f"search.n_trials={asked.trials}",
        f"search.seed={asked.seed}", f"train.steps={asked.steps}", "train.norms=false", "trainer=lanes",
        "trainer.workers=1", "tracking=none",
    )  # fmt: skip
    composed = compose(Request(words))
    node = composed.nodes["optimizer"]
    subject = build_subject(composed.nodes, composed.label)
    test = find_lr(composed, subject, parse_ramp({}, composed))
    low, high = (factor * node["default_lr"] for factor in WIDEST)
    wide = compose(Request((*words, f"optimizer.peak_lr={{low: {low:g}, high: {high:g}, log: true}}")))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        with contextlib.redirect_stdout(io.StringIO()):
            outcome = sweeping.sweep(parse(wide.nodes, subject), root=Path(folder))
        sweep = sweeper.load(outcome.home.path)
        best, swept = float(sweep.best["peak_lr"]), int(sum(record.steps_done for record in sweep.records))
    of_file = node["peak_lr"]["low"], node["peak_lr"]["high"]
    return Found(f"{task} optimizer={optimizer}", test.interval, of_file, best, test.updates, swept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="updates of a trial")
    parser.add_argument("--trials", type=int, default=20, help="of a sweep")
    parser.add_argument("--workers", type=int, default=2, help="pairs at once")
    parser.add_argument("--seed", type=int, default=0, help="of range test and sweep")
    asked = parser.parse_args()
    print("| pair | interval | best peak LR | inside | in the range of the file | updates |\n|---|---|---|---|---|---|")
    found: list[Found] = []
    with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(measure, task, optimizer, asked) for task in TASKS for optimizer in OPTIMIZERS]
        for done in as_completed(running):
            one = done.result()
            found.append(one)
            interval = "none" if one.interval is None else "{:g} to {:g}".format(*one.interval)
            inside = "yes" if one.is_inside else "**no**"
            of_file = "yes" if _contains(one.of_file, one.best) else "no"
            share = 100 * one.updates / one.swept
            print(f"| {one.pair} | {interval} | {one.best:.3g} | {inside} | {of_file} | {share:.1f}% |", flush=True)
    return _conclude(found)


def _conclude(found: list[Found]) -> int:
    """Print the figures beside the goals."""
    inside = sum(one.is_inside for one in found)
    of_file = sum(_contains(one.of_file, one.best) for one in found)
    shares = [one.updates / one.swept for one in found]
    decades = [math.log10(one.interval[1] / one.interval[0]) for one in found if one.interval is not None]
    of_files = [math.log10(one.of_file[1] / one.of_file[0]) for one in found]
    whole = sum(one.updates for one in found) / sum(one.swept for one in found)
    print(f"\ninside: {inside} of {len(found)} ({inside / len(found):.0%}; goal: {CONTAINS:.0%})")
    print(f"updates: {whole:.1%} of the sweep's in all, {max(shares):.1%} at most (goal: {SHARE:.0%})")
    print(f"width: {median(decades):.1f} decades (median), {min(decades):.1f} to {max(decades):.1f}")
    print(f"range of the file: {of_file} of {len(found)} inside, {median(of_files):.1f} decades (median)")
    return int(inside < CONTAINS * len(found) or max(shares) > SHARE)


if __name__ == "__main__":
    sys.exit(main())
