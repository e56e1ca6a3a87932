"""One trial stands for each family, in the order of the verdict, then of the search."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.tracking.events import decode_order, encode_order
from sweeper.tracking.mlflow.lineup import BEYOND, MOST, places
from sweeper.types import TrialId

STUDIES = {"a-1": "a", "a-2": "a", "b-1": "b", "c-1": "c"}  # a has two studies
TRIALS = st.dictionaries(
    st.builds(TrialId, st.sampled_from(sorted(STUDIES)), st.integers(0, 9)),
    st.integers(0, 20).map(float),  # equal ones are frequent
    max_size=30,
)
VALUES = {
    TrialId("a-1", 0): 3.0,
    TrialId("a-2", 0): 2.0,
    TrialId("b-1", 0): 1.0,
    TrialId("b-1", 1): 5.0,
    TrialId("c-1", 7): 4.0,
}


def shown(values, judged=(), direction="minimize"):
    """Return the trials that stand for a family, in order."""
    found = places(values, STUDIES, judged, direction)
    return [trial for _, trial in sorted((place, trial) for trial, place in found.items() if place != BEYOND)]


@pytest.mark.parametrize(
    ("direction", "judged", "order"),
    [
        ("minimize", [], ["b-1:0", "a-2:0", "c-1:7"]),
        ("maximize", [], ["b-1:1", "c-1:7", "a-1:0"]),
        ("minimize", ["a-1:0", "a-2:0", "b-1:1"], ["a-1:0", "b-1:1", "c-1:7"]),
        ("minimize", ["c-1:7"], ["c-1:7", "b-1:0", "a-2:0"]),
        ("minimize", ["c-1:8", "unknown:3"], ["b-1:0", "a-2:0", "c-1:7"]),
    ],
    ids=["lowest", "highest", "verdict", "part of the families", "trials that MLflow does not have"],
)
def test_the_verdict_comes_before_the_search(direction, judged, order):
    assert encode_order(shown(VALUES, decode_order(" ".join(judged)), direction)) == " ".join(order)


def test_at_most_nine_families_are_shown():
    studies = {f"f{k:02d}": f"f{k:02d}" for k in range(12)}
    found = places({TrialId(study, 0): 1.0 for study in studies}, studies, [], "minimize")
    assert list(found.values()) == [*(str(place) for place in range(1, MOST + 1)), *[BEYOND] * 3]


@given(TRIALS)
def test_every_complete_trial_has_a_place_and_every_family_one_trial(values):
    assert places(values, STUDIES, [], "minimize").keys() == values.keys()
    order = shown(values)
    assert {STUDIES[trial.study] for trial in order} == {STUDIES[trial.study] for trial in values}
    assert [values[trial] for trial in order] == sorted(
        min(value for trial, value in values.items() if STUDIES[trial.study] == family)
        for family in {STUDIES[trial.study] for trial in values}
    )


@given(st.lists(st.tuples(st.sampled_from(sorted(STUDIES)), st.integers(0, 20).map(float)), max_size=20))
def test_during_a_search_a_place_only_gets_worse(ended):
    """So a tag whose answer was lost is overwritten by what is sent later."""
    values, before = {}, {}
    for number, (study, value) in enumerate(ended):
        values[TrialId(study, number)] = value
        now = places(values, STUDIES, [], "minimize")
        assert all(
            now[trial] == BEYOND or (before[trial] != BEYOND and now[trial] >= before[trial]) for trial in before
        )
        before = now
