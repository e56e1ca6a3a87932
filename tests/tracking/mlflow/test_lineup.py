"""The best five of a study are told apart by a tag, whenever and in however many pieces the ranks are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.tracking.mlflow.ranks import BELOW, TOP, Ranking, ranks

VALUES = st.lists(st.integers(0, 20).map(float), max_size=40)  # equal ones are frequent


def test_the_best_five_have_numbers():
    values = {trial: float(value) for trial, value in enumerate([5, 3, 9, 1, 7, 2, 8])}
    assert ranks(values, "minimize") == {3: "1", 5: "2", 1: "3", 0: "4", 4: "5", 6: BELOW, 2: BELOW}
    assert ranks(values, "maximize")[2] == "1"


def test_of_equal_trials_the_earlier_is_ahead():
    assert ranks({4: 1.0, 2: 1.0}, "minimize") == ranks({4: 1.0, 2: 1.0}, "maximize") == {2: "1", 4: "2"}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@given(values=VALUES, asked=st.sets(st.integers(0, 39)))
def test_tags_written_on_the_way_end_as_the_ranks_are(direction, values, asked):
    ranking, tags = Ranking(), {}
    for trial, value in enumerate(values):
        ranking.add(trial, value)
        if trial in asked:
            tags |= ranking.changes(direction)
    tags |= ranking.changes(direction)
    assert tags == ranks(dict(enumerate(values)), direction)
    assert ranking.changes(direction) == {}


@given(values=VALUES)
def test_a_rank_only_gets_worse_so_a_tag_of_a_lost_answer_is_overwritten(values):
    ranking, told = Ranking(), {}
    for trial, value in enumerate(values):
        ranking.add(trial, value)
        news = ranking.changes("minimize")
        assert trial in news  # a new trial always gets its tag
        assert all(told[other] < rank for other, rank in news.items() if other in told)  # "5" < "6+", as text
        assert len(news) <= TOP + 1
        told |= news


def test_nothing_is_told_before_the_direction_is_known():
    ranking = Ranking()
    ranking.add(0, 1.0)
    assert ranking.changes(None) == {}
    assert ranking.changes("maximize") == {0: "1"}
