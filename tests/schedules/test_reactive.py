"""Families with a controller: its hyperparameters next to any factor's, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.schedules import FACTORS, controller_of, family, lr_trace
from sweeper.schedules.families import parameters_of
from sweeper.schedules.reactive import CONTROLLERS, PREFIX, controller_parameters
from sweeper.types import InputError

NEEDED = {"plateau": {}, "plateau_keras": {}, "greedy": {}, "wall_time": {"budget": 60.0}}
COMMON = ("peak_lr", "warmup", "warmup_shape", "warmup_join", "max_momentum", "base_momentum")


def node(controller: str | None, factor: str = "constant", **numbers: Any) -> dict[str, Any]:
    own = {} if controller is None else {"controller": controller, **NEEDED[controller]}
    return {"factor": factor, "peak_lr": 0.1, **own, **numbers}


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_controller_goes_with_any_factor_and_leaves_its_trace_alone(controller: str, factor: str) -> None:
    bare, reactive = family("f", node(None, factor)), family("f", node(controller, factor))
    np.testing.assert_array_equal(lr_trace(reactive, {}, 50), lr_trace(bare, {}, 50))
    beside = controller_parameters(controller, FACTORS[factor])
    assert not beside.keys() & (parameters_of(bare).keys() | set(COMMON))
    told = controller_of(reactive, reactive.space)
    assert told is not None
    defaults = {number.name: number.default for number in CONTROLLERS[controller]}
    assert told == {"name": controller, **defaults, **NEEDED[controller]}


def test_a_number_that_the_factor_has_too_is_told_apart() -> None:
    reactive = family("p", node("plateau", "cosine", decay=0.01, mult_decay={"low": 0.1, "high": 0.9}, patience=3))
    told = controller_of(reactive, {**reactive.space, "mult_decay": 0.5})
    assert told is not None
    assert (told["decay"], told["patience"], reactive.space["decay"]) == (0.5, 3, 0.01)
    assert [name for name in parameters_of(reactive) if name.startswith(PREFIX)] == ["mult_decay"]
    assert lr_trace(reactive, {"mult_decay": 0.5}, 50)[-1] < 0.002


def test_warmup_goes_before_a_plateau() -> None:
    trace_S = lr_trace(family("p", node("plateau", warmup=0.2)), {}, 50)
    np.testing.assert_allclose(trace_S, 0.1 * np.minimum((np.arange(50) + 1) / 11, 1.0), rtol=1e-15)


def test_a_closed_form_has_no_controller_and_null_is_none() -> None:
    assert controller_of(family("c", node(None)), {}) is None
    assert family("c", {**node(None), "controller": None}).controller is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            node(None) | {"controller": "platau"},
            r"schedule\.x\.controller=platau: no such controller\. Did you mean plateau",
        ),
        (node("plateau", decay=1.0), r"schedule\.x\.decay=1\.0: out of bounds"),
        (node("plateau", decay={"low": 0.0, "high": 0.5}), r"schedule\.x\.decay=0\.0: out of bounds"),
        (node("plateau", patience=-1), r"schedule\.x\.patience=-1: out of bounds"),
        (node("plateau", direction="down"), r"schedule\.x\.direction=down: not one of its options"),
        (node("plateau", metric="test/loss"), r"schedule\.x\.metric=test/loss: not a metric that a schedule may react"),
        (node("plateau", metric={"choice": ["valid/loss", "loss"]}), r"schedule\.x\.metric=loss: not a metric"),
        (node("plateau", mult_decay=0.5), r"schedule\.x\.mult_decay: no such hyperparameter"),
        (node("plateau", hold=1), r"schedule\.x\.hold: no such hyperparameter"),
        (node("wall_time", budget=0), r"schedule\.x\.budget=0: out of bounds"),
        ({**node(None), "controller": "wall_time"}, r"schedule\.x\.budget: missing\. Write a value"),
        (node("wall_time", shape="exponential"), r"schedule\.x\.decay=0: an exponential never reaches 0"),
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        family("x", given)
