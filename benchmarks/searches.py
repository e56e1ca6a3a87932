"""How often new whole searches (`confirm.searches`) name the best family, and a wrong one, on the noisy quadratic.

The searches are those of `quadratic.py`. Each run takes some of them and judges them as `confirm` does, so the best
family is that with the lowest mean over all searches. `calibration.py` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from limits import Row, frequency
from quadratic import CORE, SPREADS, Pool, Setting, search

from sweeper.results.families import best_of
from sweeper.results.judging import Rules, State, Values, judge
from sweeper.types import Floats

COPIED = CORE.index("cosine")


def best_values(seed: int) -> list[float]:
    """Return the best value of each family of CORE in a search with this `search.seed`; NaN if none is complete."""
    records = search(Setting(SPREADS[0]), seed).records
    best = [best_of([record for record in records if record.family == family], "minimize") for family in CORE]
    return [np.nan if record is None or record.value is None else record.value for record in best]


def rows(searches: int, runs: int, workers: int) -> list[Row]:
    """Return how often families are named.

    Args:
        searches: Whole searches, from which runs take some.
        runs: Runs of each row.
        workers: Processes.
    """
    with Pool(workers) as pool:
        best_NK = np.array(pool.map(best_values, seeds=searches))
    means = np.nanmean(best_NK, axis=0)
    best, found = int(means.argmin()), []
    for count, limit in ((8, 0.54), (16, 0.90)):
        winners = np.array([_winner(best_NK[drawn]) for drawn in _draws(len(best_NK), count, runs)])
        share = float((winners == best).mean())
        found += [
            Row(f"{count} searches: best family named ({CORE[best]})", share, limit, False),
            frequency(f"{count} searches: wrong family named", (winners >= 0) & (winners != best), 0.01),
        ]
    for copies, limit in ((2, 0.06), (6, 0.01)):
        drawn = [best_NK[one, COPIED].reshape(8, copies) for one in _draws(len(best_NK), 8 * copies, runs)]
        named = np.array([_winner(value_RK) >= 0 for value_RK in drawn])
        found.append(frequency(f"8 searches, {copies} copies of one family: one named", named, limit))
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
