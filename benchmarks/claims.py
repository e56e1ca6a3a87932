"""Put claims of the founding documents to the test, and write the page that says what was found.

    python benchmarks/claims.py [--page docs/guide/claims.md] [--workers 2] [--tiny]

`make claims` runs it and writes the page. The contrasts are in claims.yaml, what their sweeps share in
conf/experiment/claims.yaml, and the rule that turns an interval into a word in contrasts.py. The Keras tutorial's own
comparison, experiment=staircase_vs_constant, is run beside them. --tiny is for tests: everything very short.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml
from claims_page import Claim, Run, Staircase, page
from contrasts import Found, contrast, largest_lrs, learns_below, losses_of, values_of

from sweeper.results.verdict import Verdict
from sweeper.types import Floats

if TYPE_CHECKING:
    from sweeper import Sweep

FILE = Path(__file__).with_name("claims.yaml")
STAIRCASE_SEEDS = 400
TINY = {"seeds": 5, "staircase": 5}
TINY_WORDS = "train.steps=16 search.n_trials=2 data.valid_size=64 data.test_size=64"
TINY_GRID = "search.n_trials=3 optimizer.peak_lr={choice:[0.1,0.2,0.4]}"


class Trained(NamedTuple):
    """What the sweep of an arm found.

    Attributes:
        verdict: Of its confirmation.
        no_skill: Loss of predictions that ignore the inputs.
        trainings: In search and confirmation.
    """

    verdict: Verdict
    no_skill: float
    trainings: int


@dataclass(frozen=True)
class Asked:
    """How much is trained.

    Attributes:
        workers: Arms at once.
        is_tiny: Whether everything is very short.
    """

    workers: int
    is_tiny: bool

    def seeds(self, claim: Mapping[str, Any]) -> int:
        return TINY["seeds"] if self.is_tiny else int(claim["seeds"])

    def words(self, claim: Claim, task: str, arm: str) -> str:
        """Return what the command line gets for an arm."""
        words = f"experiment=claims {task} {claim['both']} {claim['arms'][arm]}"
        if not self.is_tiny:
            return words
        kept = [word for word in TINY_WORDS.split() if "data=text" in task or not word.startswith("data.")]
        return " ".join([words, *kept, *([TINY_GRID] if claim["measure"] == "largest_lr" else [])])


# --- training ---------------------------------------------------------------------------------------


def train(words: str, confirm: Mapping[str, object], folder: Path, *, every_trial: bool = False) -> Sweep:
    """Train a sweep and confirm it, without the report and the figures of the command line.

    Args:
        words: What the command line gets.
        confirm: Options of the confirmation.
        folder: Of the sweep.
        every_trial: Whether all trials are judged, not only the best of each family.
    """
    import torch

    import sweeper
    from sweeper.run import sweeping
    from sweeper.run.confirm_spec import parse_confirm
    from sweeper.run.confirming import confirm as confirm_sweep
    from sweeper.spec import config_files, overrides
    from sweeper.spec.composing import build_subject, compose
    from sweeper.spec.parse import parse
    from sweeper.spec.requests import Request

    torch.set_num_threads(1)
    given = overrides.to_hydra([*words.split(), "trainer.workers=1"], config_files.groups())
    composed = compose(Request(tuple(given)))
    subject = build_subject(composed.nodes, composed.label)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        outcome = sweeping.sweep(parse(composed.nodes, subject), root=folder)
        sweep = sweeper.load(outcome.home.path)
        every = {"also": [f"{record.family}:{record.number}" for record in sweep.records]} if every_trial else {}
        confirm_sweep(sweep, subject, None, parse_confirm({**confirm, **every}))
    return sweep.refresh()


def train_arm(words: str, seeds: int, is_grid: bool) -> Trained:
    """Search an arm and train its best configuration, or each point of a grid, on fresh seeds."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = train(words, {"looks": [seeds], **({"top": 1} if is_grid else {})}, Path(folder), every_trial=is_grid)
        verdict, no_skill = sweep.verdict, sweep.config["no_skill"]
        assert verdict is not None
        assert no_skill is not None
        return Trained(verdict, no_skill, len(sweep.records) + len(sweep.replicates))


def train_staircase(seeds: int) -> Staircase:
    """Repeat the Keras tutorial's comparison on common seeds."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = train("experiment=staircase_vs_constant tracking=none", {"looks": [seeds]}, Path(folder))
        losses: dict[str, dict[int, tuple[float, float]]] = {}
        epoch = sweep.horizon[0] // 10
        for record in sweep.replicates:
            assert record.replicate is not None
            assert record.value is not None
            train_loss = sweep.trace(record.study, record.number)["train/loss"].dropna().to_numpy()[-epoch:].mean()
            losses.setdefault(record.family, {})[record.replicate.seed] = (float(train_loss), record.value)
    step, constant = (np.array([losses[name][seed] for seed in losses["step"]]) for name in ("step", "constant"))
    return Staircase.of(step, constant)


# --- judging ----------------------------------------------------------------------------------------


def judge(claim: Claim, arms: tuple[Trained, Trained], level: float) -> Found:
    """Return what the two arms of a claim show on a task."""
    measure = claim["measure"]
    values: tuple[Floats, Floats]
    if measure == "largest_lr":
        (lr_G, first_GS), (_, second_GS) = (losses_of(arm.verdict) for arm in arms)
        bound = learns_below(np.stack([first_GS, second_GS]), arms[0].no_skill)
        values = largest_lrs(lr_G, first_GS, bound), largest_lrs(lr_G, second_GS, bound)
    else:
        values = values_of(arms[0].verdict, measure), values_of(arms[1].verdict, measure)
    return contrast(measure, values, claim["minimum"], level)


def run(asked: Asked) -> Run:
    """Train everything, and return what was found."""
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    claims, tasks = written["claims"], written["tasks"]
    level = (1 - written["together"]) / (len(claims) * len(tasks))
    began = time.monotonic()
    with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn")) as pool:
        staircase = pool.submit(train_staircase, TINY["staircase"] if asked.is_tiny else STAIRCASE_SEEDS)
        running: dict[tuple[str, str, str], Future[Trained]] = {
            (name, task, arm): pool.submit(
                train_arm, asked.words(claim, words, arm), asked.seeds(claim), claim["measure"] == "largest_lr"
            )
            for name, claim in claims.items()
            for task, words in tasks.items()
            for arm in claim["arms"]
        }
        trained = {}
        for place, future in running.items():
            trained[place] = future.result()
            print(f"{time.monotonic() - began:6.0f} s  {' / '.join(place)}", flush=True)
        drops = staircase.result()
    found = {}
    for name, claim in claims.items():
        for task in tasks:
            first, second = (trained[name, task, arm] for arm in claim["arms"])
            found[name, task] = judge(claim, (first, second), level)
    return Run(
        written=written,
        found=found,
        staircase=drops,
        trainings=sum(arm.trainings for arm in trained.values()) + 2 * drops.seeds + 2,
        minutes=_processor_minutes(),
    )


def _processor_minutes() -> float:
    """Return the processor time of this process and of those that have ended."""
    spent = os.times()
    return (spent.user + spent.system + spent.children_user + spent.children_system) / 60


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="where to write the page (default: print it)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="arms at once")
    parser.add_argument("--tiny", action="store_true", help="everything very short, to try the script")
    given = parser.parse_args(words)
    text = page(run(Asked(given.workers, given.tiny)))
    if given.page is None:
        print(text)
    else:
        given.page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
