"""Confirm sweeps of six copies of one schedule family on the default task, whose only right answer is "the same".

    python benchmarks/same_family.py [--repeats 3] [--trials 20] [--steps 1000]

First six families that differ by their names alone: their trials must be equal to the bit, and a confirmation must say
that they are one schedule. Then six whose ranges of `decay` begin at .0010, .0011, ... .0015, so that their trials
differ a little. The output says how many pairs are told apart, and by how much. Each repeat has another `search.seed`.
The exit code is 1 if copies were not recognized.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from typing import Any

import sweeper
from sweeper.results.verdict import Verdict
from sweeper.tasks import Supervised
from sweeper.tasks.models import NGram
from sweeper.tasks.text import NextByte

COPIES = 6
STEP = 1e-4  # between the lower ends of `decay`
RECORDED = ["state", "value", "peak_lr", "warmup", "decay"]


def copies(step: float) -> dict[str, Any]:
    """Return six copies of cosine. Their ranges of `decay` begin at .001, .001 + step, ..."""
    return {
        f"copy{k}": {"factor": "cosine", "decay": {"low": round(0.001 + k * step, 6), "high": 0.3, "log": True}}
        for k in range(COPIES)
    }


def confirmed(step: float, seed: int, asked: argparse.Namespace) -> tuple[int, Verdict]:
    """Search six copies and confirm them.

    Returns:
        How many trials of the others differ from those of the first, and the verdict.
    """
    with tempfile.TemporaryDirectory() as folder:
        sweep = sweeper.sweep(
            Supervised(NextByte(), NGram),
            copies(step),
            steps=asked.steps,
            search={"n_trials": asked.trials, "seed": seed},
            tracking="none",
            root=folder,
        ).confirm()
        trials, verdict = sweep.trials, sweep.verdict
    assert verdict is not None
    first, *others = (trials[trials["family"] == f"copy{k}"].set_index("trial")[RECORDED] for k in range(COPIES))
    differ = [int((one.fillna("none") != first.fillna("none")).any(axis=1).sum()) for one in others]
    return sum(differ), verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20, help="of each copy")
    parser.add_argument("--steps", type=int, default=1000, help="updates of a training")
    asked = parser.parse_args()
    found = [confirmed(0.0, seed, asked) for seed in range(asked.repeats)]
    for seed, (differ, verdict) in enumerate(found):
        print(f"copies, seed {seed}: {differ} trials differ. {verdict['sentence']}")
    contrasts = []
    for seed in range(asked.repeats):
        differ, verdict = confirmed(STEP, seed, asked)
        of_leader = [one for one in verdict["contrasts"] if one["question"] == "best" and one["mean"] is not None]
        apart = [one for one in of_leader if one["decision"] != "not decided"]
        contrasts += [(len(of_leader), [abs(one["mean"] or 0.0) for one in apart])]
        print(f"other ranges, seed {seed}: {differ} trials differ. {verdict['sentence']}")
    compared, apart = sum(count for count, _ in contrasts), [size for _, sizes in contrasts for size in sizes]
    sizes = f", by {min(apart):.4f} to {max(apart):.4f}" if apart else ""
    print(f"other ranges: {len(apart)} of {compared} comparisons with the leader tell two apart{sizes}")
    return int(any(differ or len(verdict["configurations"]) != 1 for differ, verdict in found))


if __name__ == "__main__":
    sys.exit(main())
