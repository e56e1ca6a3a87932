"""Reactive schedules: the hyperparameters of controllers, and their names next to those of a factor.

    lr[t] = trace[t] * mult[t]

The trace is the closed form. mult is 1 until the controller changes it after a report, for the updates that follow. The
controllers are in sweeper/training/controllers.py, because they run during training, which does not know families. If
factor and controller have a hyperparameter of the same name, the controller's gets a prefix: `mult_decay` of a plateau
over a cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sweeper.schedules.numbers import ANY, Bounds, Parameter, parameters
from sweeper.types import Dimension, Factor, Family, InputError, Value, values_of

PREFIX = "mult_"

_INSIDE = Bounds(0, 1, open_low=True, open_high=True)
_COUNT = Bounds(0, float("inf"), whole=True)
_THRESHOLD = Bounds(0, float("inf"))
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
        _number("threshold", 1e-4, _THRESHOLD),
        _RELATIVE,
        _number("cooldown", 0, _COUNT),
        _number("floor", 0.0, Bounds(0, 1)),
        *_WATCHED,
    ),
    "plateau_keras": (
        _number("decay", 0.1, _INSIDE),
        _number("patience", 3, _COUNT),
        _number("threshold", 1e-4, _THRESHOLD),
        _number("cooldown", 0, _COUNT),
        _number("floor", 0.0, Bounds(0, 1)),
        *_WATCHED,
    ),
    "greedy": (
        _number("decay", 0.8, _INSIDE),
        _number("patience", 1, _COUNT),
        _number("threshold", 1e-6, _THRESHOLD),
        _RELATIVE,
        _number("cooldown", 0, _COUNT),
        _number("hold", 0, _COUNT),
        _number("floor", 1e-3, Bounds(0, 1)),
        _number("ceiling", 10.0, Bounds(1, float("inf"))),
        _number("reset", 500, Bounds(1, float("inf"), whole=True)),
        *_WATCHED,
    ),
    "wall_time": (
        _number("budget", None, Bounds(0, float("inf"), open_low=True)),
        Parameter("shape", "word", "cosine", options=("cosine", "linear", "1-sqrt", "exponential")),
        _number("decay", 0.0, Bounds(0, 1)),
    ),
}


def controller_parameters(controller: str, factor: Factor) -> dict[str, Parameter]:
    """Return the controller's hyperparameters by their names in a family with that factor."""
    declared = {parameter.name: parameter for parameter in CONTROLLERS[controller]}
    return {name: replace(declared[plain], name=name) for plain, name in _names(controller, factor).items()}


def controller_of(family: Family, params: Mapping[str, Value]) -> dict[str, Value] | None:
    """Return `Job.controller`: the controller's name and its hyperparameters, without prefixes.

    Args:
        family: The family.
        params: All hyperparameters of the trial, by their names in the family.

    Returns:
        None if the family has no controller.
    """
    if family.controller is None:
        return None
    names = _names(family.controller, family.factor)
    return {"name": family.controller, **{plain: params[name] for plain, name in names.items()}}


def check_together(family: str, controller: str, factor: Factor, space: Mapping[str, Dimension | Value]) -> None:
    """Check what the bounds of a single hyperparameter do not cover.

    Args:
        family: The family's name, for the error.
        controller: Its controller.
        factor: Its factor.
        space: Its hyperparameters.

    Raises:
        InputError: If the metric is not one of the training or validation part, or an exponential should reach 0.
    """
    names = _names(controller, factor)
    for metric in _watched(names, space):
        part, _, name = str(metric).partition("/")
        if metric != "train/loss" and (part != "valid" or not name):  # a schedule must not see the test part
            remedy = "Choose valid/loss, another metric of the validation part, or train/loss"
            key = f"schedule.{family}.{names['metric']}"
            raise InputError(key, metric, "not a metric that a schedule may react to", remedy)
    shapes = values_of(space[names["shape"]]) if "shape" in names else ()
    if "exponential" in shapes and 0 in values_of(space[names["decay"]]):
        key = f"schedule.{family}.{names['decay']}"
        raise InputError(key, 0, "an exponential never reaches 0", "Write a number above 0")


def watched_metrics(family: Family) -> list[tuple[str, str]]:
    """Return the metrics that a family's controller may watch, each after the config path that names it."""
    names = {} if family.controller is None else _names(family.controller, family.factor)
    return [(f"schedule.{family.name}.{names['metric']}", str(metric)) for metric in _watched(names, family.space)]


def _watched(names: Mapping[str, str], space: Mapping[str, Dimension | Value]) -> tuple[Value, ...]:
    return values_of(space[names["metric"]]) if "metric" in names else ()


def _names(controller: str, factor: Factor) -> dict[str, str]:
    """Return the name of each of the controller's hyperparameters in a family with that factor."""
    of_factor = parameters(factor)
    names = (parameter.name for parameter in CONTROLLERS[controller])
    return {name: f"{PREFIX}{name}" if name in of_factor else name for name in names}
