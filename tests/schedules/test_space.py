"""Searched and fixed values as the user writes them."""

import re
from typing import Any

import pytest

from sweeper.schedules import by_spelling, dimension, to_plain
from sweeper.types import Choice, InputError, Range


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (0.1, 0.1),
        (3, 3),
        ("linear", "linear"),
        (True, True),
        (None, None),
        ([1, [2, 3]], (1, (2, 3))),
        ({"low": 1e-3, "high": 1}, Range(1e-3, 1)),
        ({"low": 1e-3, "high": 1, "log": True}, Range(1e-3, 1, log=True)),
        ({"low": 1, "high": 9, "step": 2}, Range(1, 9, step=2)),
        ({"low": 2, "high": 2}, Range(2, 2)),
        ({"choice": [0, 0.1]}, Choice((0, 0.1))),
        ({"choice": ["a", [1, 2], None]}, Choice(("a", (1, 2), None))),
    ],
)
def test_what_is_written(node: Any, expected: Any) -> None:
    assert dimension("k", node) == expected


@pytest.mark.parametrize("ends", [{"low": 1, "high": 9}, {"low": 1, "high": 9, "step": 2}])
def test_a_range_is_whole_or_real_as_its_hyperparameter_is(ends: Any) -> None:
    told = {whole: dimension("k", ends, whole) for whole in (True, False, None)}
    assert [one.is_whole for one in told.values() if isinstance(one, Range)] == [True, False, True]
    assert by_spelling({"k": told[False], "fixed": 1}) == {"k": told[None], "fixed": 1}
    mixed = dimension("k", {**ends, "high": 9.0}, None)
    assert isinstance(mixed, Range)
    assert not mixed.is_whole
    with pytest.raises(InputError, match=r"k\.high=9\.0: must be a whole number\. Write one, such as 9"):
        dimension("k", {**ends, "high": 9.0}, True)


def test_whole_numbers_stay_whole() -> None:
    whole = dimension("k", {"low": 1, "high": 9, "step": 2})
    assert isinstance(whole, Range)
    assert [type(value) for value in (whole.low, whole.high, whole.step)] == [int, int, int]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"low": 2, "high": 1}, "optimizer.lr=2..1: an empty range: low is above high. Swap low and high"),
        ({"low": 0, "high": 1, "log": True}, "optimizer.lr.low=0: has no logarithm. Raise low above 0"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "optimizer.lr.step=1: a logarithmic range cannot have a step"),
        ({"low": 1, "high": 2, "step": 0}, "optimizer.lr.step=0: not positive"),
        ({"low": 1, "high": 2, "step": -1}, "optimizer.lr.step=-1: not positive"),
        ({"low": 1, "high": 2, "step": "a"}, "optimizer.lr.step=a: text instead of a number"),
        ({"low": 1}, "optimizer.lr.high: missing. Write a range as {low: ..., high: ...}"),
        ({"high": 1}, "optimizer.lr.low: missing"),
        ({}, "optimizer.lr.low: missing"),
        ({"low": 0, "high": float("inf")}, "optimizer.lr.high=inf: not a finite number"),
        ({"low": "1e-3", "high": 1}, "optimizer.lr.low=1e-3: text instead of a number. Write a number"),
        ({"low": True, "high": 1}, "optimizer.lr.low=true: not a number"),
        ({"low": 1, "high": 2, "log": "yes"}, "optimizer.lr.log=yes: neither true nor false"),
        ({"low": 1, "hihg": 2}, "optimizer.lr.hihg: no such key in a searched value. Did you mean high?"),
        ({"choice": []}, "optimizer.lr.choice=[]: not a list of options"),
        ({"choice": "abc"}, "optimizer.lr.choice=abc: not a list of options"),
        ({"choice": [1], "low": 0}, "optimizer.lr: has both a choice and a range"),
        ({"choice": [{"low": 1}]}, "optimizer.lr.choice={low: 1}: a mapping inside a list"),
        (float("nan"), "optimizer.lr=nan: not a finite number"),
        ({"choice": [float("inf")]}, "optimizer.lr.choice=inf: not a finite number"),
    ],
)
def test_what_is_refused(node: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        dimension("optimizer.lr", node)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Range(1e-3, 1, log=True), {"low": 1e-3, "high": 1, "log": True, "step": None}),
        (Range(1, 9, step=2), {"low": 1, "high": 9, "log": False, "step": 2}),
        (Choice((0, "a", None)), {"choice": [0, "a", None]}),
        ((0.9, 0.99), [0.9, 0.99]),
        ("linear", "linear"),
        (None, None),
    ],
)
def test_the_written_form_reads_as_the_same_value(value: Any, written: Any) -> None:
    assert to_plain(value) == written
    assert dimension("k", written) == value
