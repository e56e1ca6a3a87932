"""Count how often new whole searches (`confirm.searches`) name the best family, and a wrong one, on the noisy quadratic.

    python benchmarks/searches.py [--searches 400] [--runs 2000] [--workers 2]

Every search is the project's own: the eight families of the core at 20 trials, 8 open, no pruner, Optuna's TPE. Only
training is computed: the log of the expected loss with noise of the seed. Each run takes some of these searches and
judges them as `confirm` does, so the best family is that with the lowest mean over all searches. The exit code is 1 if
a figure misses its limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import optuna
from calibration import Row, _frequency, show

from sweeper.results.families import best_of
from sweeper.results.judging import Rules, State, Values, judge
from sweeper.search.family import FamilyStudy
from sweeper.search.records import record_of
from sweeper.search.study import build_studies
from sweeper.spec.composing import compose
from sweeper.spec.describing import subject_of
from sweeper.spec.parse import parse
from sweeper.spec.requests import request
from sweeper.spec.sweep import SweepSpec
from sweeper.tasks import Supervised
from sweeper.tasks.quadratic import Point, Quadratic
from sweeper.training.expected import ExpectedTrainer
from sweeper.types import Floats, Job, Trainer

SPREAD = 0.02  # standard deviation of the log of a loss over seeds
CORE = ("constant", "cosine", "exponential", "linear", "onecycle", "sgdr", "step", "wsd")
COPIED = CORE.index("cosine")


# --- whole searches ---------------------------------------------------------------------------------


@cache
def core() -> SweepSpec:
    """Return the sweep that is searched."""
    config = compose(request(list(CORE), {"pruner": "none"}, experiment="quadratic"))
    return parse(config.nodes, subject_of(Supervised(Quadratic(), Point), {}, "sgd"))


def best_values(seed: int) -> list[float]:
    """Return the best value of each family of CORE in a search with this `search.seed`; NaN if none is complete."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = core()
    terms = replace(spec.terms, seed=seed, report_steps=spec.train.report_steps[-1:])
    storage, studies = optuna.storages.InMemoryStorage(), build_studies(spec.studies, terms)
    trainer = ExpectedTrainer(spec.task, spec.train.recipe, own_spread=SPREAD)
    for study in studies:
        study.attach(storage)
        while jobs := list(_open(study)):
            _train(study, trainer, jobs)
    trials = [(study, trial) for study in studies for trial in study.study.get_trials(deepcopy=False)]
    records = [record_of(study.plan.name, study.study.user_attrs["plan"], trial) for study, trial in trials]
    best = [best_of([record for record in records if record.family == family], "minimize") for family in CORE]
    return [np.nan if record is None or record.value is None else record.value for record in best]


def _open(study: FamilyStudy) -> Iterator[Job]:
    """Yield the jobs of new trials until the study has its open ones."""
    while study.can_ask:
        yield from study.ask()


def _train(study: FamilyStudy, trainer: Trainer, jobs: Sequence[Job]) -> None:
    """Train to the end, all side by side."""
    trainer.start(jobs)
    for report in list(trainer.advance([job.id for job in jobs])):
        study.report(report.id.trial, [report])
        study.tell(report.id.trial, report.state, report.reason)
        trainer.stop(report.id)


# --- what they show ---------------------------------------------------------------------------------


def rows(best_NK: Floats, runs: int) -> list[Row]:
    """Return how often families are named.

    Args:
        best_NK: Best value of each family of CORE in each of many searches.
        runs: Runs of each row.
    """
    means = np.nanmean(best_NK, axis=0)
    best, found = int(means.argmin()), []
    for searches, limit in ((8, 0.54), (16, 0.90)):
        winners = np.array([_winner(best_NK[drawn]) for drawn in _draws(len(best_NK), searches, runs)])
        found += [
            Row(
                f"{searches} searches: best family named ({CORE[best]})", float((winners == best).mean()), limit, False
            ),
            _frequency(f"{searches} searches: wrong family named", (winners >= 0) & (winners != best), 0.01),
        ]
    for copies, limit in ((2, 0.06), (6, 0.01)):
        drawn = [best_NK[one, COPIED].reshape(8, copies) for one in _draws(len(best_NK), 8 * copies, runs)]
        named = np.array([_winner(value_RK) >= 0 for value_RK in drawn])
        found.append(_frequency(f"8 searches, {copies} copies of one family: one named", named, limit))
    return found


def _draws(count: int, size: int, runs: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Yield different searches for each run."""
    rng = np.random.default_rng(0)
    yield from (rng.choice(count, size, replace=False) for _ in range(runs))


def _winner(value_RK: Floats) -> int:
    """Return the family that searches [R, K] name; -1 if none."""
    state_KR = np.where(np.isnan(value_RK.T), State.DIVERGED, State.ENDED).astype(np.uint8)
    winner = judge(Values(value_RK.T, state_KR), Rules(looks=(len(value_RK),)), None).winner
    return -1 if winner is None else winner


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=400, help="whole searches from which runs take some")
    parser.add_argument("--runs", type=int, default=2000, help="runs of each row")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    asked = parser.parse_args()
    with ProcessPoolExecutor(asked.workers) as pool:
        best_NK = np.array(list(pool.map(best_values, range(asked.searches), chunksize=4)))
    table = rows(best_NK, asked.runs)
    print(show(table))
    return int(any(row.is_missed for row in table))


if __name__ == "__main__":
    sys.exit(main())
