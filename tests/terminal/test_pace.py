"""How fast it goes and how long it takes, against sweeps whose answer is known."""

import itertools
from collections import Counter
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


def test_the_start_up_is_no_training_and_nothing_is_said_before_there_is_evidence():
    clock = Clock()
    measured = pace.Pace(clock)
    clock.now += 600  # compiling
    rates = []
    for job in range(300):
        measured.tick("a", job)
        rates.append(measured.rate())
        clock.now += 1
    assert rates[: pace.STREAM] == [0] * pace.STREAM
    assert rates[pace.STREAM :] == pytest.approx([1] * len(rates[pace.STREAM :]))


@pytest.mark.parametrize("seconds", [0.3, 20, 600])
def test_reports_that_come_in_rounds_show_their_pace_after_the_second_round(seconds):
    clock = Clock()
    measured = pace.Pace(clock)
    for number in range(4):
        clock.now += seconds if number else 90
        for job in range(8):
            measured.tick("a", job)
        clock.now += 1  # after which a next report would be another mark
        assert measured.rate() == pytest.approx(8 / (seconds + 1) if number else 0)


def test_a_first_round_that_comes_slowly_together_is_no_stream():
    """Eight workers end their first minute within eight seconds: nothing is known until one reports again."""
    clock = Clock()
    measured = pace.Pace(clock)
    for job in range(8):
        measured.tick("a", job)
        clock.now += 1
    clock.now += 20
    assert measured.rate() == 0
    clock.now += 32
    measured.tick("a", 0)
    assert measured.rate() == pytest.approx(8 / 60)


def hazards(passed, stopped, reports, prior=()):
    return pace.Survival(Counter(passed), Counter(stopped)).hazards(reports, prior)


def test_the_first_trials_to_be_stopped_do_not_make_all_look_short():
    # 8 trials seen with 1 report, one diverged there, the others still open at 3.
    more = pace.expected_reports(hazards({1: 8, 2: 7, 3: 7}, {1: 1}, 10))
    assert more[0] == pytest.approx(1 + 7 / 8 * 9)
    assert more[3] == 7
    assert more[10] == 0


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_with_all_lengths_known_the_expectation_is_their_mean(lengths):
    passed = {p: sum(length >= p for length in lengths) for p in range(1, 7)}
    stopped = {p: sum(length == p for length in lengths) for p in range(1, 6)}
    assert pace.expected_reports(hazards(passed, stopped, 6))[0] == pytest.approx(np.mean(lengths))


def test_what_is_expected_of_later_trials_gives_way_to_what_they_do():
    early = hazards(dict.fromkeys(range(1, 21), 64), {}, 20)
    assert pace.expected_reports(hazards({}, {}, 20, pace.late_prior(early, prunes=False)))[0] == 20
    prior = pace.late_prior(early, prunes=True)
    assert pace.expected_reports(hazards({}, {}, 20, prior))[0] == pytest.approx(0.64 * 20, rel=0.01)
    none_stopped = pace.expected_reports(hazards(dict.fromkeys(range(1, 21), 1000), {}, 20, prior))
    assert none_stopped[0] == pytest.approx(20, rel=0.01)


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
