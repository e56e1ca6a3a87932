"""What a trial is judged by."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.search.objective import Objective, combine_members
from sweeper.types import AT, InputError, JobId, Report

finite = st.floats(-1e6, 1e6)


def reports(values, metric="valid/loss"):
    return [Report(JobId("s", 0, member), 3, {}, {metric: value}, 0.0) for member, value in enumerate(values)]


@given(st.lists(finite, min_size=1, max_size=9), st.integers(1, 4))
def test_at(values, k):
    assert Objective(at="last").trial_value(values) == values[-1]
    assert Objective(at="best").trial_value(values) == min(values)
    assert Objective(at="best", direction="maximize").trial_value(values) == max(values)
    assert Objective(at="mean_last_k", k=k).trial_value(values) == pytest.approx(sum(values[-k:]) / len(values[-k:]))
    averaged = pd.Series(values).ewm(span=k).mean().iloc[-1]
    assert Objective(at="ema", k=k).trial_value(values) == pytest.approx(averaged, abs=1e-9)


@given(st.lists(finite, min_size=1, max_size=9), st.sampled_from(AT), st.sampled_from(["minimize", "maximize"]))
def test_the_measures_are_the_objective_by_every_rule(values, at, direction):
    measures = Objective(at=at, direction=direction).measures(values)
    assert list(measures) == [f"objective/{rule}" for rule in AT]
    for rule in AT:
        assert measures[f"objective/{rule}"] == Objective(at=rule, direction=direction).trial_value(values)


def test_the_spread_is_of_the_members_own_objectives():
    of_members = [[1.0, 3.0, 8.0], [4.0, 2.0, 6.0]]  # two reports of three members
    last, best = (Objective(at=at).measures([3.0, 4.0], of_members)["objective/spread"] for at in ("last", "best"))
    assert last == pytest.approx(np.std([4.0, 2.0, 6.0], ddof=1))
    assert best == pytest.approx(np.std([1.0, 2.0, 6.0], ddof=1))


@pytest.mark.parametrize(("values", "expected"), [([3.0], 3.0), ([9.0, 1.0, 2.0], 2.0), ([1.0, 2.0, 9.0, 4.0], 3.0)])
def test_members_are_judged_by_their_median(values, expected):
    assert combine_members(Objective().member_values(reports(values))) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_member_that_is_not_finite_spoils_the_trial(bad):
    assert math.isnan(combine_members(Objective().member_values(reports([1.0, bad, 2.0]))))


def test_a_metric_that_is_not_reported_is_named():
    with pytest.raises(InputError, match=r"objective\.metric=valid/loss: .*Choose one of valid/auroc"):
        Objective().member_values(reports([1.0], "valid/auroc"))


@given(st.floats(0, 100), st.floats(0, 1), st.floats(0, 1))
def test_the_penalty_is_worse_than_untrained_and_the_worse_the_earlier(untrained, one, other):
    early, late = max(one, other), min(one, other)
    least, most = Objective(), Objective(direction="maximize")
    assert least.penalty(untrained, early) >= least.penalty(untrained, late) >= untrained
    assert most.penalty(untrained, early) == -least.penalty(untrained, early)
    values = [least.penalty(untrained, early), least.penalty(untrained, late)]
    assert least.best(values) == values[1]
    assert most.best([-value for value in values]) == -values[1]
