"""How fast it goes and how long it takes, against sweeps whose answer is known."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.terminal import pace


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_pace_forgets_a_slow_start():
    clock = Clock()
    measured = pace.Pace(clock)
    clock.now += 600  # compiling
    for _ in range(300):
        measured.tick("a")
        clock.now += 1
    assert measured.rate() == pytest.approx(1, rel=0.02)


def test_the_first_trials_to_be_stopped_do_not_make_all_look_short():
    # 8 trials seen with 1 report, one diverged there, the others still open at 3.
    more = pace.expected_reports({1: 8, 2: 7, 3: 7}, {1: 1}, 10)
    assert more[0] == pytest.approx(1 + 7 / 8 * 9)
    assert more[3] == 7
    assert more[10] == 0


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_with_all_lengths_known_the_expectation_is_their_mean(lengths):
    passed = {p: sum(length >= p for length in lengths) for p in range(1, 7)}
    stopped = {p: sum(length == p for length in lengths) for p in range(1, 6)}
    assert pace.expected_reports(passed, stopped, 6)[0] == pytest.approx(np.mean(lengths))


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 8)), min_size=1, max_size=8),
    st.floats(0.01, 100),
)
def test_remaining_times_conserve_work(studies, rate):
    work, share = [w for w, _ in studies], [s for _, s in studies]
    seconds = pace.remaining_times(work, share, rate)
    assert max(seconds) * rate == pytest.approx(sum(work), rel=1e-6, abs=1e-6)
    order = sorted(range(len(work)), key=lambda k: work[k] / share[k])
    assert all(seconds[a] <= seconds[b] + 1e-9 for a, b in itertools.pairwise(order))


def test_studies_side_by_side_share_the_pace():
    # 10 and 100 reports at 2 a second in all: both at 1 a second, then one at 2
    assert pace.remaining_times([10, 100], [1, 1], 2) == pytest.approx([10, 55])
