"""The closed form of every family as plain Python, against the LRs that trials have."""

import ast

import numpy as np
import pytest

from sweeper.export import formulas
from sweeper.export.closed_form import closed_form, jax_source, keras_source, python_source
from sweeper.schedules import family, lr_trace, momentum_trace
from sweeper.schedules.families import FACTORS, MOMENTA
from sweeper.schedules.numbers import parameters
from sweeper.spec.composing import compose
from sweeper.spec.requests import request
from sweeper.types import Choice, Family, Range

from .conftest import CLOSED, run

HORIZONS = (1, 2, 3, 7, 50, 331)
EPOCHS = (None, 10.0, 3.125)


@pytest.fixture(scope="module")
def nodes():
    """The configuration of every family that has a closed form."""
    composed = compose(request(CLOSED, {})).nodes["schedule"]
    assert sorted(composed) == sorted(CLOSED)
    assert len(CLOSED) == 31
    return composed


def draw(dimension, rng):
    if isinstance(dimension, Range):
        low, high = dimension.low, dimension.high
        return float(np.exp(rng.uniform(*np.log([low, high])))) if dimension.log else float(rng.uniform(low, high))
    return dimension.options[rng.integers(len(dimension.options))] if isinstance(dimension, Choice) else dimension


def check(built, params, horizons=HORIZONS, epochs=EPOCHS):
    for steps in horizons:
        for epoch in epochs:
            names = run(python_source(closed_form(built, params, steps, epoch)))
            expected_S = lr_trace(built, params, steps, epoch=epoch)
            lr_S = [names["lr"](step) for step in range(steps)]
            np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * params["peak_lr"])
            assert names["lr"](steps) == names["lr"](steps + 7) == lr_S[-1]
            momentum_S = momentum_trace(built, params, steps, epoch=epoch)
            assert ("momentum" in names) == (momentum_S is not None)
            if momentum_S is not None:
                momenta = [names["momentum"](step) for step in range(steps)]
                np.testing.assert_allclose(momenta, momentum_S, rtol=0, atol=1e-12)


def test_every_factor_and_momentum_is_written_down():
    assert {name: factor for factor, formula in formulas.OF_FACTOR.items() for name in [formula.__name__]} == FACTORS
    assert list(formulas.OF_MOMENTUM) == list(MOMENTA.values())


@pytest.mark.parametrize("name", CLOSED)
def test_the_file_has_the_lr_of_every_update(name, nodes):
    rng = np.random.default_rng(CLOSED.index(name))
    built = family(name, nodes[name])
    for _ in range(4):
        check(built, {key: draw(dimension, rng) for key, dimension in built.space.items()})


def words_of(factor):
    """Return the words of a factor, each option of each alone."""
    return [(name, option) for name, p in parameters(factor).items() for option in p.options]


VARIANTS = [(name, {word: option}) for name, factor in FACTORS.items() for word, option in words_of(factor)] + [
    *((name, {"cycle_mult": 2.0, "cycle_fit": fit}) for name in ("sgdr", "sawtooth") for fit in ("fitted", "free")),
    *((name, {"cycle_mult": 1.37, "cycle_fit": fit}) for name in ("sgdr", "sawtooth") for fit in ("fitted", "free")),
    ("sgdr", {"decay": 0.5, "end_factor": 0.1}),
    ("sawtooth", {"decay": 1.0, "end_factor": 0.1}),
    ("cycle_warmup_cosine", {"cycle_warmup": 0.0}),
    ("cycle_warmup_cosine", {"cycle_warmup": 0.7, "cycle_mult": 1.5, "decay": 0.5}),
    ("clr", {"decay": 0.5, "up_share": 0.2, "cycle_fit": "free"}),
    ("clr", {"decay": 0.3, "scale_mode": "iterations", "base_factor": 0.0}),
    ("cosine_power", {"base": 1.0}),
    ("cosine_power", {"base": 1.0 + 1e-9}),
    ("cosine_power", {"base": 1e6}),
    ("exponential", {"floor": 0.2}),
    ("inverse_time", {"floor": 0.2}),
    ("power", {"exponent": 1e-4, "decay": 0.1}),
    ("power", {"exponent": 3.0, "decay": 1.0}),
    ("power", {"exponent": 0.5, "decay": 1e-6, "end": "closed"}),
    ("polynomial", {"decay": 1.0, "power": 0.3, "end": "closed"}),
    ("wsd", {"decay": 0.0, "cooldown": 1.0}),
    ("wsd", {"cooldown": 1.0, "end": "open"}),
    ("power_wsd", {"decay": 0.0, "timescale": 1.0, "cooldown": 1.0}),
    ("multistep", {"milestones": (0.5, 0.1, 0.5)}),
    ("knots", {"log_factors": (-1.0,)}),
    ("knots", {"log_factors": (0.0, -3.0, -1.0, -4.0, -0.5), "end": "closed"}),
    ("onecycle", {"warmup": 1e-3}),
    ("onecycle", {"warmup": 0.9, "three_phase": True}),
    ("onecycle", {"warmup": 0.5, "three_phase": True, "end": "open", "anneal": "linear", "decay": 0.0}),
    ("noam", {"warmup": 0.999}),
    ("stlr", {"warmup": 0.999}),
    ("step", {"cycle": 5.0}),
]


@pytest.mark.parametrize(("name", "numbers"), VARIANTS, ids=lambda value: str(value))
def test_every_word_and_edge_of_a_factor(name, numbers):
    built = family(name, {"factor": name, "peak_lr": 0.3, "warmup": 0.17, **numbers})
    check(built, {"peak_lr": 0.3, "warmup": 0.17, **numbers})


@pytest.mark.parametrize("join", ["prefix", "overlay", "product"])
@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt", "exponential"])
def test_every_ramp(shape, join):
    for warmup in (0.0, 0.03, 0.3, 0.99):
        ramp = {"warmup": warmup, "warmup_shape": shape, "warmup_join": join}
        check(family("sgdr", {"factor": "sgdr", "peak_lr": 0.3, **ramp}), {"peak_lr": 0.3})
        check(family("constant", {"factor": "constant", "peak_lr": 0.3, **ramp}), {"peak_lr": 0.3})


@pytest.mark.parametrize("numbers", [{}, {"three_phase": True}, {"anneal": "linear"}, {"end": "open"}], ids=str)
def test_momentum_of_onecycle(numbers):
    node = {"factor": "onecycle", "peak_lr": 0.3, "momentum": "cycled", **numbers}
    check(family("onecycle", node), {"peak_lr": 0.3})


@pytest.mark.parametrize("ramp", [{}, {"warmup": 0.2}], ids=str)
@pytest.mark.parametrize("numbers", [{}, {"decay": 0.5}, {"decay": 0.3, "scale_mode": "iterations"}], ids=str)
def test_momentum_of_clr(numbers, ramp):
    node = {"factor": "clr", "peak_lr": 0.3, "momentum": "cycled", **numbers, **ramp}
    check(family("clr", node), {"peak_lr": 0.3})


@pytest.mark.parametrize("name", CLOSED)
def test_another_number_of_steps_in_the_file_is_that_horizon(name, nodes):
    built = family(name, nodes[name])
    params = {key: draw(one, np.random.default_rng(1)) for key, one in built.space.items()}
    text = python_source(closed_form(built, params, 100, 7.5))
    names = run(text.replace("STEPS = 100", "STEPS = 333"))
    expected_S = lr_trace(built, params, 333, epoch=7.5)
    lr_S = [names["lr"](step) for step in range(333)]
    np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * params["peak_lr"])


def test_a_long_run_has_the_same_lrs():
    for name in ("sgdr", "cosine", "power", "clr"):
        built = family(name, {"factor": name, "peak_lr": 0.3, "warmup": 0.01})
        form, expected_S = closed_form(built, {"peak_lr": 0.3}, 10**6, None), lr_trace(built, {}, 10**6)
        lr = run(python_source(form))["lr"]
        for step in range(0, 10**6, 9_973):
            assert abs(lr(step) - expected_S[step]) <= 1e-12 * 0.3


@pytest.mark.parametrize("source", [python_source, jax_source, keras_source])
def test_the_file_has_one_public_function_and_needs_nothing_of_ours(source):
    built = family("sgdr", {"factor": "sgdr", "peak_lr": 0.3, "warmup": 0.1})
    tree = ast.parse(source(closed_form(built, {}, 100, None)))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [name for name in functions if not name.startswith("_")] == ["lr"]
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"bisect", "itertools", "math", "keras", "jax.numpy"}


def test_a_factor_of_the_users_own_and_a_reactive_one_have_no_closed_form():
    own = Family("mine", lambda tau_LS, decay_steps_L: np.ones(tau_LS.shape), "none", {})
    reactive = family("plateau", {"factor": "constant", "controller": "plateau", "peak_lr": 0.1})
    assert closed_form(own, {"peak_lr": 0.1}, 10, None) is None
    assert closed_form(reactive, {}, 10, None) is None
