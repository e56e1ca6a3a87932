"""When a study and a trial end before their time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.search.objective import Objective
from sweeper.search.stopping import EarlyStopping, StallCounter, parse_early_stopping
from sweeper.types import InputError

LEAST, MOST = Objective(), Objective(direction="maximize")


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "expected"),
    [
        ([3, 2, 1], 1, 0, None),
        ([3, 2, 2], 1, 0, 3),
        ([3, 2, 4, 2.5, 1], 2, 0, 4),
        ([3, 2, 4, 1, 1, 1], 2, 0, 6),
        ([3, 2, 1.95, 1.9], 1, 0.1, 3),
        ([3, 2, 1.95, 1.85], 2, 0.1, None),
        ([3, 3], 5, 0, None),
    ],
)
def test_a_trial_ends_once_so_many_reports_brought_nothing_better(values, patience, min_delta, expected):
    rule = EarlyStopping(patience, min_delta)
    for sign, objective in ((1, LEAST), (-1, MOST)):
        signed = [sign * value for value in values]
        ended = [done for done in range(1, len(values) + 1) if rule.is_due(signed[:done], objective)]
        assert (ended[0] if ended else None) == expected


def test_early_stopping_is_off_and_says_why():
    assert parse_early_stopping(None, allowed=False) is None
    with pytest.raises(InputError, match=r"search\.early_stopping=.*a truncated decay is another one\. .*=true"):
        parse_early_stopping({"patience": 5}, allowed=False)
    assert parse_early_stopping({"patience": 5}, allowed=True) == EarlyStopping(5)


def test_a_rule_needs_patience():
    with pytest.raises(InputError, match=r"search\.early_stopping\.patience: missing"):
        parse_early_stopping({"min_delta": 0.1}, allowed=True)


trials = st.lists(st.none() | st.integers(0, 4).map(float), min_size=1, max_size=12)


@given(trials, st.integers(0, 99), st.sampled_from([LEAST, MOST]))
def test_in_whatever_order_trials_end_the_standing_is_the_same(values, seed, objective):
    order = list(range(len(values)))
    random.Random(seed).shuffle(order)
    stall_counter = StallCounter(objective)
    for number in order:
        stall_counter.add(number, values[number])
    known = [value for value in values if value is not None]
    first = values.index(objective.best(known)) if known else -1
    assert stall_counter.best == (None if not known else (values[first], first))
    assert stall_counter.trials_since_best == len(values) - 1 - first
