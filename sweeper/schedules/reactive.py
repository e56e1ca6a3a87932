"""Reactive schedules: what their controllers can be told, and how those numbers are called beside a factor's.

    lr[t] = trace[t] * mult[t]

The trace is a closed form as everywhere; mult is 1 until the controller, having seen a report, changes it for the
updates that follow. What each controller does stands in sweeper/training/controllers.py: it happens while training, and
training knows no families. A name that the factor has too gets a prefix here: `mult_decay` of a plateau over a cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sweeper.schedules.numbers import ANY, Bounds, Parameter, parameters
from sweeper.types import Dimension, Factor, Family, InputError, Value, values_of

PREFIX = "mult_"

_INSIDE = Bounds(0, 1, open_low=True, open_high=True)
_COUNT = Bounds(0, float("inf"))
_WATCHED = (
    Parameter("metric", "word", "valid/loss"),
    Parameter("direction", "word", "minimize", options=("minimize", "maximize")),
)
_RELATIVE = Parameter("threshold_mode", "word", "abs", options=("abs", "rel"))


def _number(name: str, default: float | None, bounds: Bounds = ANY) -> Parameter:
    return Parameter(name, "number", default, default is None, bounds)


CONTROLLERS: Mapping[str, tuple[Parameter, ...]] = {
    "plateau": (
        _number("decay", 0.1, _INSIDE),
        _number("patience", 2, _COUNT),
        _number("threshold", 1e-4, _COUNT),
        _RELATIVE,
        _number("cooldown", 0, _COUNT),
        _number("floor", 0.0, Bounds(0, 1)),
        *_WATCHED,
    ),
    "plateau_keras": (
        _number("decay", 0.1, _INSIDE),
        _number("patience", 3, _COUNT),
        _number("threshold", 1e-4, _COUNT),
        _number("cooldown", 0, _COUNT),
        _number("floor", 0.0, Bounds(0, 1)),
        *_WATCHED,
    ),
    "greedy": (
        _number("decay", 0.8, _INSIDE),
        _number("patience", 1, _COUNT),
        _number("threshold", 1e-6, _COUNT),
        _RELATIVE,
        _number("cooldown", 0, _COUNT),
        _number("hold", 0, _COUNT),
        _number("floor", 1e-3, Bounds(0, 1)),
        _number("ceiling", 10.0, Bounds(1, float("inf"))),
        _number("reset", 500, Bounds(1, float("inf"))),
        *_WATCHED,
    ),
    "wall_time": (
        _number("budget", None, Bounds(0, float("inf"), open_low=True)),
        Parameter("shape", "word", "cosine", options=("cosine", "linear", "1-sqrt", "exponential")),
        _number("decay", 0.0, Bounds(0, 1)),
    ),
}


def controller_parameters(controller: str, factor: Factor) -> dict[str, Parameter]:
    """The controller's numbers by the names they have in a family with that factor."""
    own = {one.name: one for one in CONTROLLERS[controller]}
    return {name: replace(own[called], name=name) for called, name in _names(controller, factor).items()}


def controller_of(family: Family, params: Mapping[str, Value]) -> dict[str, Value] | None:
    """What a Job is told of its controller: the name, and the trial's numbers by the names the controller has for them.

    params: all numbers of the trial, by their names in the family.
    """
    if family.controller is None:
        return None
    names = _names(family.controller, family.factor)
    return {"name": family.controller, **{called: params[name] for called, name in names.items()}}


def check_together(family: str, controller: str, factor: Factor, space: Mapping[str, Dimension | Value]) -> None:
    """Refuse what the bounds of one number do not show."""
    names = _names(controller, factor)
    for metric in values_of(space[names["metric"]]) if "metric" in names else ():
        part, _, name = str(metric).partition("/")
        if metric != "train/loss" and (part != "valid" or not name):  # of the test part nothing may be known
            remedy = "Write valid/loss, another metric of the validation part, or train/loss"
            key = f"schedule.{family}.{names['metric']}"
            raise InputError(key, metric, "not a metric that a schedule may react to", remedy)
    shapes = values_of(space[names["shape"]]) if "shape" in names else ()
    if "exponential" in shapes and 0 in values_of(space[names["decay"]]):
        key = f"schedule.{family}.{names['decay']}"
        raise InputError(key, 0, "an exponential never falls so far", "Write a number above 0")


def _names(controller: str, factor: Factor) -> dict[str, str]:
    """How each number of the controller is called in a family with that factor."""
    taken = parameters(factor)
    called = (one.name for one in CONTROLLERS[controller])
    return {name: f"{PREFIX}{name}" if name in taken else name for name in called}
