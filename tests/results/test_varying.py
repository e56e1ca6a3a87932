"""The comparison under a change: whom it compares, what it wants, what it finds, and how that is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from sweeper.results import varied_words
from sweeper.results.changes import Change, by_key, change_of, from_keys
from sweeper.results.choosing import Candidate
from sweeper.results.varying import SEEDS, Comparison, compared, draw_vary_seeds
from sweeper.results.verdict import Seeds, ValueRow
from sweeper.types import Record, TrialId, seed_of

FAMILIES = ("wsd", "cosine", "constant")
SEED_LIST = list(range(100, 100 + SEEDS))
DOUBLE = Change("train.steps", 2.0, is_factor=True)
NOISE = np.random.default_rng(0).normal(size=(len(FAMILIES), SEEDS))


def candidate(family, number=3):
    ended = (1.0, (), 1, None, "", 0.0, (), (), None, None, None)
    record = Record(f"{family}-abc", family, number, "complete", {}, (), *ended)
    return Candidate(record, (record,))


def comparison(families=FAMILIES, direction="minimize", **changes):
    given = {
        "change": DOUBLE,
        "candidates": [candidate(family) for family in families],
        "values": [200] * len(families),
        "seeds": SEED_LIST,
        "objective": {"metric": "valid/loss", "direction": direction, "at": "last"},
        "allow_divergence": 0.05,
    }
    return Comparison(**{**given, **changes})


def rows(value_KS, families=FAMILIES, stage="vary"):
    """Rows of values; NaN is a diverged training, infinity a failed one."""
    return [
        ValueRow(
            family=family,
            trial=3,
            stage=stage,
            seed=seed,
            fold=0,
            value=float(value) if np.isfinite(value) else None,
            state="diverged" if np.isnan(value) else "failed" if np.isinf(value) else "complete",
        )
        for family, value_S in zip(families, value_KS, strict=True)
        for seed, value in zip(SEED_LIST, value_S, strict=True)
    ]


@pytest.mark.parametrize(
    ("written", "change", "of_three"),
    [
        ("x0.5", Change("k", 0.5, is_factor=True), 1.5),
        ("x2", Change("k", 2.0, is_factor=True), 6.0),
        ("x1e-3", Change("k", 0.001, is_factor=True), 0.003),
        (0.01, Change("k", 0.01), 0.01),
        (64, Change("k", 64), 64),
        ("1e-3", Change("k", 0.001), 0.001),
    ],
)
def test_a_change_is_read_and_written(written, change, of_three):
    assert change_of("k", written) == change
    assert change.apply(3) == pytest.approx(of_three, rel=1e-15)
    assert from_keys(by_key([change])) == (change,)


def test_changes_are_stored_by_key_in_their_order():
    changes = [change_of("a", "x2"), change_of("b", 3), change_of("a", 0.1)]
    assert by_key(changes) == {"a": ["x2", 0.1], "b": [3]}
    assert [change.suffix for change in changes] == ["a=x2", "b=3", "a=0.1"]


def test_seeds_of_changes_are_fresh():
    """The second judging seed is what the first seed of a change would be: it takes the next index."""
    own = [seed_of(7, "confirm", 2, "vary", index) for index in range(1, SEEDS + 2)]
    taken = Seeds(choose=[1], judge=[2, own[0]])
    assert list(draw_vary_seeds(7, 3, 2, taken)) == own[1:]
    assert list(draw_vary_seeds(7, 3, 2, Seeds(choose=[1], judge=[2]))) == own[:-1]


def test_a_comparison_wants_each_training_once():
    one = comparison()
    wanted = one.wanted([])
    assert len(wanted) == len(FAMILIES) * SEEDS
    assert {order.trial for order in wanted} == {TrialId(f"{family}-abc", 3) for family in FAMILIES}
    assert {order.replicate.stage for order in wanted} == {"vary"}
    assert [order.replicate.seed for order in wanted[::3]] == SEED_LIST
    assert len(one.wanted(rows(NOISE, stage="judge"))) == len(wanted), "trainings of the verdict count for nothing"
    assert one.wanted(rows(NOISE)) == []
    assert one.result(rows(NOISE)[1:]) is None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_is_found_is_that_of_a_paired_test(direction):
    value_KS = NOISE + np.array([[0.0], [-2.0], [1.0]]) * (1 if direction == "minimize" else -1)
    found = comparison(direction=direction).result(rows(value_KS))
    assert found["leader"] == {"family": "cosine", "trial": 3}
    assert (found["change"], found["value"], found["seeds"]) == ("train.steps", "x2", SEED_LIST)
    for row, value_S in zip(found["configurations"], value_KS, strict=True):
        assert row["values"] == pytest.approx(value_S)
        assert (row["n"], row["value"], row["diverged"]) == (SEEDS, 200, 0)
        assert (row["mean"], row["sd"]) == pytest.approx((value_S.mean(), value_S.std(ddof=1)))
    assert [one["b"]["family"] for one in found["contrasts"]] == ["wsd", "constant"]
    for one, k in zip(found["contrasts"], (0, 2), strict=True):
        oracle = stats.ttest_rel(value_KS[1], value_KS[k])
        ends = oracle.confidence_interval(0.95)
        assert (one["mean"], one["t"], one["p"]) == pytest.approx(
            ((value_KS[1] - value_KS[k]).mean(), oracle.statistic, oracle.pvalue)
        )
        assert (one["low"], one["high"]) == pytest.approx((ends.low, ends.high))


@pytest.mark.parametrize(
    ("bad", "leader"),
    [
        ({}, "cosine"),
        ({1: 2}, "cosine"),  # two of eight are no proof of more than 5 %
        ({1: 3}, "wsd"),
        ({0: 3, 1: 3}, "constant"),
        ({0: 8, 1: 8, 2: 8}, None),
    ],
)
def test_what_diverges_too_often_leads_no_more(bad, leader):
    value_KS = NOISE / 10 + np.array([[0.0], [-2.0], [1.0]])
    for k, count in bad.items():
        value_KS[k, :count] = np.nan
    found = comparison().result(rows(value_KS))
    assert (found["leader"] and found["leader"]["family"]) == leader
    assert [row["diverged"] for row in found["configurations"]] == [bad.get(k, 0) for k in range(3)]


def test_a_failed_training_takes_no_part():
    value_KS = NOISE / 10 + np.array([[0.0], [-2.0], [1.0]])
    value_KS[1, 0] = np.inf
    assert comparison().result(rows(value_KS))["leader"]["family"] == "wsd"


# --- whom it compares -------------------------------------------------------------------------------


def verdict_with(*configurations, leader="wsd", ended_by="decided"):
    made = [
        {"family": name, "trial": 3, "same_as": [], "n": 8, "status": "out", "barred": False, **changes}
        for name, changes in configurations
    ]
    return {
        "leader": None if leader is None else {"family": leader, "trial": 3},
        "ended_by": ended_by,
        "configurations": made,
        "objective": {"metric": "valid/loss", "direction": "minimize", "at": "last"},
    }


BARRED, FAILED, LEFT_OUT = {"barred": True, "status": "barred"}, {"status": "void"}, {"status": "not confirmed", "n": 0}
SAME = {"same_as": [{"family": "constant", "trial": 0}]}


@pytest.mark.parametrize(
    ("configurations", "expected"),
    [
        ([("wsd", {}), ("cosine", {}), ("linear", {}), ("constant", {})], ["wsd", "cosine", "constant"]),
        ([("wsd", {}), ("constant", {}), ("cosine", {})], ["wsd", "constant"]),
        ([("wsd", {}), ("cosine", BARRED), ("linear", {}), ("constant", {})], ["wsd", "linear", "constant"]),
        ([("wsd", {}), ("cosine", FAILED), ("linear", {}), ("constant", {})], ["wsd", "linear", "constant"]),
        ([("wsd", {}), ("cosine", {}), ("constant", FAILED)], ["wsd", "cosine"]),
        ([("wsd", SAME), ("cosine", {}), ("linear", {})], ["wsd", "cosine"]),
        ([("wsd", {}), ("cosine", {}), ("linear", SAME)], ["wsd", "cosine", "linear"]),
        ([("wsd", {}), ("cosine", LEFT_OUT)], ["wsd"]),
    ],
)
def test_leader_runner_up_and_constant_are_compared(configurations, expected):
    planned = SimpleNamespace(
        everyone=[one for name, _ in configurations for one in (candidate(name, 1), candidate(name))]
    )
    found = compared(verdict_with(*configurations), planned)
    assert [(one.record.family, one.record.number) for one in found] == [(name, 3) for name in expected]


@pytest.mark.parametrize("unfinished", [{"leader": None}, {"ended_by": "interrupted"}])
def test_nothing_is_compared_before_there_is_a_verdict(unfinished):
    planned = SimpleNamespace(everyone=[candidate("wsd"), candidate("cosine")])
    assert compared(verdict_with(("wsd", {}), ("cosine", {}), **unfinished), planned) == []


# --- words ------------------------------------------------------------------------------------------


def varied(change, shift, **nan):
    """What is found if wsd, cosine and constant have these means, with little noise."""
    value_KS = NOISE / nan.pop("over", 10) + np.array(shift)[:, None]
    for family, count in nan.items():
        value_KS[FAMILIES.index(family), :count] = np.nan
    return comparison(change=change).result(rows(value_KS))


CHANGES = [change_of("optimizer.weight_decay", "x0.5"), change_of("optimizer.weight_decay", "x2"), DOUBLE]
STAYING = (0.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], []),
        ([varied(DOUBLE, STAYING)], ["With train.steps x2: wsd stays the leader (8 seeds)."]),
        (
            [varied(change, STAYING) for change in CHANGES],
            [
                "With optimizer.weight_decay x0.5 and x2, and train.steps x2: wsd stays the leader (8 seeds each).",
            ],
        ),
        (
            [varied(Change("train.batch_size", 64), (0.0, -1.0, 2.0)), varied(DOUBLE, STAYING)],
            [
                "With train.batch_size 64: cosine beats wsd by 1.124 (1.059 to 1.188), p = 1.3e-09, 8 seeds, "
                "unadjusted.",
                "With train.steps x2: wsd stays the leader (8 seeds).",
            ],
        ),
        (
            [varied(DOUBLE, (0.0, 1.0, 3.0), over=1)],
            ["With train.steps x2: cosine leads wsd by 0.24 (-0.41 to 0.88), 8 seeds, unadjusted."],
        ),
        (
            [varied(DOUBLE, (0.0, 1.0, 2.0), wsd=4)],
            ["With train.steps x2: cosine leads (8 seeds; wsd diverged on 4)."],
        ),
        (
            [varied(DOUBLE, (0.0, 1.0, 2.0), wsd=8)],
            ["With train.steps x2: cosine leads (8 seeds; wsd diverged on 8)."],
        ),
        (
            [varied(DOUBLE, STAYING, wsd=8, cosine=8, constant=8)],
            ["With train.steps x2: none leads, since all diverge too often or failed (8 seeds)."],
        ),
    ],
)
def test_words_of_changes(found, expected):
    assert varied_words.lines({**verdict_with(), "varied": found}) == expected
