"""Spaces: what is searched and what is fixed, back and forth, and every way of writing one wrongly."""

import json
import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper.search.space import axes, fingerprint, grid, point
from sweeper.types import Choice, InputError, Range


def taken_apart(space):
    return axes(space, {name: f"schedule.cosine.{name}" for name in space})


def test_dimensions_become_distributions_in_alphabetical_order():
    found = taken_apart(
        {
            "warmup": Choice((0, 0.05, "auto", None, True)),
            "peak_lr": Range(1e-3, 3, log=True),
            "decay": Range(0, 1, step=0.25),
            "cycles": Range(1, 9, step=2),
            "count": Range(1, 100, log=True),
            "end": "open",
            "betas": [0.9, 0.99],
        }
    )
    assert list(found.distributions.items()) == [
        ("count", IntDistribution(1, 100, log=True)),
        ("cycles", IntDistribution(1, 9, step=2)),
        ("decay", FloatDistribution(0, 1, step=0.25)),
        ("peak_lr", FloatDistribution(1e-3, 3, log=True)),
        ("warmup", CategoricalDistribution((0, 0.05, "auto", None, True))),
    ]
    assert found.fixed == {"end": "open", "betas": (0.9, 0.99)}


def test_a_range_or_choice_of_one_value_is_fixed():
    found = taken_apart({"a": Range(2, 2), "b": Choice(((1, 2),)), "c": Range(0.5, 0.5, log=True)})
    assert found.searched == {}
    assert found.fixed == {"a": 2, "b": (1, 2), "c": 0.5}


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        (Range(2, 1), r"cosine\.x=2\.\.1: an empty range: low is above high"),
        (Range(0, 1, log=True), r"cosine\.x\.low=0: has no logarithm"),
        (Range(1, 10, log=True, step=1), r"cosine\.x\.step=1: a logarithmic range cannot have a step"),
        (Range(0, 1, step=0), r"cosine\.x\.step=0: not positive"),
        (Range(0, math.inf), r"cosine\.x\.high=inf: not a finite number"),
        (Range(math.nan, 1), r"cosine\.x\.low=nan: not a finite number"),
        (Range(True, 2), r"cosine\.x\.low=true: not a number"),
        (Range(0.05, 0.6, step=0.1), r"cosine\.x\.high=0\.6: not on the grid.*Write 0\.55 or 0\.65"),
        (Range(1, 10, step=4), r"cosine\.x\.high=10: not on the grid.*Write 9 or 13"),
        (Choice(()), r"cosine\.x\.choice=\[\]: no options"),
        (Choice((1, 2, 1.0)), r"cosine\.x\.choice=1\.0: this option repeats an earlier one"),
        (Choice((1, True)), r"cosine\.x\.choice=true: this option repeats an earlier one"),
        (Choice(((1, 2), (1, 2))), r"cosine\.x\.choice=\[1, 2\]: this option repeats"),
    ],
)
def test_what_cannot_be_searched_is_named(dimension, said):
    with pytest.raises(InputError, match=said):
        taken_apart({"x": dimension})


def test_decimal_steps_end_where_they_are_written():
    """In floats 0.3 is no multiple of 0.1, and 0.1 + 2 * 0.1 is above 0.3."""
    found = taken_apart({"x": Range(0.1, 0.3, step=0.1), "y": Range(0, 0.7, step=0.1)})
    assert grid(found) == {"x": [0.1, 0.2, 0.3], "y": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}


numbers = st.floats(-1e6, 1e6, allow_nan=False)
options = st.one_of(
    st.integers(-5, 5),
    numbers,
    st.text(max_size=3),
    st.none(),
    st.lists(st.one_of(numbers, st.text(max_size=2)), max_size=3).map(tuple),
)


@st.composite
def dimensions(draw):
    kind = draw(st.sampled_from(["choice", "whole", "stepped", "number", "log"]))
    if kind == "choice":
        found = draw(st.lists(options, min_size=2, max_size=5, unique_by=lambda v: json.dumps(v if v != 0 else 0)))
        kept = [v for i, v in enumerate(found) if not any(_same(v, w) for w in found[:i])]
        return Choice(tuple(kept))
    if kind == "whole":
        low, step, count = draw(st.integers(-50, 50)), draw(st.integers(1, 9)), draw(st.integers(1, 20))
        return Range(low, low + step * count, step=step)
    if kind == "stepped":
        low, step, count = draw(st.integers(-50, 50)), draw(st.integers(1, 9)), draw(st.integers(1, 20))
        return Range(low / 100, (low + step * count) / 100, step=step / 100)
    low, width = draw(st.floats(1e-6, 10)), draw(st.floats(1e-3, 10))
    return Range(low, low + width, log=kind == "log")


def _same(one, other):
    label = [json.dumps(v) if isinstance(v, tuple) else v for v in (one, other)]
    return label[0] == label[1]


@given(st.dictionaries(st.sampled_from("abcdef"), dimensions(), min_size=1), st.integers(0, 1000))
def test_what_optuna_proposes_lies_in_the_space_and_can_be_a_start_point(space, seed):
    found = taken_apart(space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    proposed = study.ask(fixed_distributions=dict(found.distributions)).params
    values = found.values(proposed)
    assert values.keys() == space.keys()
    for name, value in values.items():
        dimension = space[name]
        if isinstance(dimension, Choice):
            assert value in dimension.options
        else:
            assert dimension.low <= value <= dimension.high
            assert isinstance(value, int) == all(isinstance(n, int) for n in (dimension.low, dimension.high))
    assert found.values(point(found, values, "start")) == values
    assert json.loads(json.dumps(proposed)) == proposed, "the journal holds it"


@given(dimensions())
def test_a_grid_is_inside_its_dimension(dimension):
    found = taken_apart({"x": dimension})
    if not found.searched:
        assert grid(found) == {}
    elif isinstance(dimension, Range) and dimension.step is None:
        with pytest.raises(InputError, match=r"schedule\.cosine\.x: a grid needs a list of values.*step"):
            grid(found)
    else:
        points = grid(found)["x"]
        assert len(set(points)) == len(points)
        for value in points:
            distribution = found.distributions["x"]
            assert distribution.to_external_repr(distribution.to_internal_repr(value)) == value
            assert point(found, {"x": found.values({"x": value})["x"]}, "start") == {"x": value}
        if isinstance(dimension, Range):
            assert (points[0], points[-1]) == (dimension.low, dimension.high)


def test_whole_numbers_are_a_grid_without_a_step():
    assert grid(taken_apart({"x": Range(2, 5)})) == {"x": [2, 3, 4, 5]}
    with pytest.raises(InputError, match="a grid needs a list of values"):
        grid(taken_apart({"x": Range(2, 5, log=True)}))


SPACE = {
    "peak_lr": Range(1e-3, 3.0, log=True),
    "decay": Range(0.0, 1.0, step=0.25),
    "cycles": Range(1, 9),
    "warmup": Choice((0, 0.1, (1, 2))),
    "end": "open",
    "one": Choice((0.5,)),
}


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"peek_lr": 1}, r"start\.peek_lr=1: no such hyperparameter. Choose one of cycles, decay, peak_lr, warmup"),
        (
            {"peak_lr": 3.1},
            r"start\.peak_lr=3\.1: not a number in the searched range. Use a number from 0\.001 to 3\.0",
        ),
        ({"peak_lr": "high"}, r"start\.peak_lr=high: not a number"),
        ({"peak_lr": True}, r"start\.peak_lr=true: not a number"),
        ({"peak_lr": math.nan}, r"start\.peak_lr=nan: not a number"),
        ({"decay": 0.3}, r"start\.decay=0\.3: not on the grid from 0\.0 in steps of 0\.25. Write 0\.25"),
        ({"cycles": 2.5}, r"start\.cycles=2\.5: not on the grid"),
        ({"warmup": 0.2}, r"start\.warmup=0\.2: not an option. Choose one of 0, 0\.1, \(1, 2\)"),
        ({"warmup": False}, r"start\.warmup=false: not an option"),
        ({"end": "closed"}, r"start\.end=closed: this hyperparameter is fixed at open.*schedule\.cosine\.end"),
    ],
)
def test_a_point_outside_the_space_is_named(given_, said):
    with pytest.raises(InputError, match=said):
        point(taken_apart(SPACE), given_, "start")


def test_a_point_may_repeat_what_is_fixed_and_write_lists_and_whole_numbers():
    stored = point(
        taken_apart(SPACE), {"end": "open", "one": 0.5, "warmup": [1, 2], "peak_lr": 1, "cycles": 2.0}, "start"
    )
    assert stored == {"warmup": "[1, 2]", "peak_lr": 1.0, "cycles": 2}
    assert isinstance(stored["cycles"], int)
    assert isinstance(stored["peak_lr"], float)


def test_a_fingerprint_changes_with_the_space_alone():
    reordered = dict(reversed(SPACE.items()))
    assert fingerprint(reordered) == fingerprint(SPACE)
    assert fingerprint({**SPACE, "decay": Range(0, 1, step=0.25)}) == fingerprint(SPACE), "0 and 0.0"
    others = [
        {**SPACE, "peak_lr": Range(1e-3, 3.0)},
        {**SPACE, "peak_lr": Range(1e-3, 2.0, log=True)},
        {**SPACE, "decay": Range(0.0, 1.0, step=0.5)},
        {**SPACE, "cycles": Range(1.0, 9.0)},
        {**SPACE, "warmup": Choice((0.1, 0, (1, 2)))},
        {**SPACE, "warmup": Choice((0, 0.1, (1, 3)))},
        {**SPACE, "end": "closed"},
        {**SPACE, "end": None},
        {**SPACE, "more": 1},
        {name: value for name, value in SPACE.items() if name != "end"},
    ]
    assert len({fingerprint(space) for space in [SPACE, *others]}) == 1 + len(others)
    assert fingerprint({"x": 1}) == "878b8120", "it is stored: it must stay the same from version to version"
