"""Convert a Space to what Optuna searches and what is fixed, and Optuna's values back to ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper.schedules.space import check_range
from sweeper.types import Choice, Dimension, InputError, Number, Range, Space, Value, first_of

Scalar = float | int | str | bool | None  # an option that Optuna can hold

ON_GRID = 1e-8  # largest distance from a grid point, in steps (Optuna's tolerance)


@dataclass(frozen=True)
class Axes:
    """A space, split into the dimensions that are searched and the values that are fixed.

    A range or choice with a single value counts as fixed.

    Attributes:
        searched: The searched dimensions, in alphabetical order.
        fixed: The fixed values.
        keys: The config path of each name.
        distributions: Optuna's distribution of each searched dimension.
    """

    searched: Mapping[str, Dimension]
    fixed: Mapping[str, Value]
    keys: Mapping[str, str]
    distributions: Mapping[str, BaseDistribution]

    def values(self, stored: Mapping[str, Scalar]) -> dict[str, Value]:
        """Return all hyperparameters of a trial, searched and fixed, from Optuna's values of the searched ones."""
        return {**self.fixed, **{name: _from_optuna(self.searched[name], value) for name, value in stored.items()}}

    @property
    def lists(self) -> dict[str, dict[str, Value]]:
        """For each choice between lists, its options by the label that Optuna holds."""
        choices = {name: dimension for name, dimension in self.searched.items() if isinstance(dimension, Choice)}
        lists = {
            name: [option for option in choice.options if isinstance(option, tuple)] for name, choice in choices.items()
        }
        return {name: {json.dumps(option): option for option in options} for name, options in lists.items() if options}


def axes(space: Space, keys: Mapping[str, str]) -> Axes:
    """Split a space into searched and fixed hyperparameters.

    Args:
        space: The space.
        keys: The config path of each name; errors name it.

    Raises:
        InputError: A range or choice cannot be searched.
    """
    for name, dimension in space.items():
        if isinstance(dimension, Range | Choice):
            _check(keys[name], dimension)
    fixed = {name: _to_tuple(first_of(dimension)) for name, dimension in space.items() if _is_single(dimension)}
    searched = {
        name: dimension
        for name, dimension in sorted(space.items())
        if isinstance(dimension, Range | Choice) and name not in fixed
    }
    distributions = {name: _distribution(dimension) for name, dimension in searched.items()}
    return Axes(searched, fixed, keys, distributions)


def point(axes: Axes, values: Mapping[str, Value], key: str) -> dict[str, Scalar]:
    """Return a point as Optuna stores it. Optuna samples what the point leaves out.

    Args:
        axes: The space.
        values: Hyperparameters by name. A fixed one may repeat its value.
        key: The config key of the point; errors name it.

    Raises:
        InputError: A name is not searched, or a value is outside the space.
    """
    stored: dict[str, Scalar] = {}
    for name, value in values.items():
        path = f"{key}.{name}"
        if name in axes.searched:
            stored[name] = _to_optuna(path, axes.searched[name], value)
        elif name not in axes.fixed:
            remedy = f"Choose one of {', '.join(axes.searched)}" if axes.searched else "Drop it"
            raise InputError(path, value, "no such hyperparameter", remedy)
        elif _to_tuple(value) != axes.fixed[name]:
            remedy = f"Drop it, or search {axes.keys[name]}"
            raise InputError(path, value, f"this hyperparameter is fixed at {axes.fixed[name]}", remedy)
    return stored


def grid(axes: Axes) -> dict[str, list[Scalar]]:
    """Return the values of each searched hyperparameter, as Optuna stores them.

    Raises:
        InputError: A hyperparameter has no grid.
    """
    return {name: _grid_values(axes.keys[name], dimension) for name, dimension in axes.searched.items()}


def fingerprint(space: Space) -> str:
    """Return eight hex digits that identify a space. The order of its names and 1 or 1.0 make no difference."""
    text = json.dumps({name: _to_json(dimension) for name, dimension in space.items()}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


# --- one dimension ----------------------------------------------------------------------------------


def _check(key: str, dimension: Dimension) -> None:
    if isinstance(dimension, Choice):
        _check_choice(key, dimension)
        return
    check_range(key, dimension)
    low, high, step = dimension.low, dimension.high, dimension.step
    if step is None:
        return
    last = _last_grid_point(dimension)
    if last != high:
        raise InputError(
            f"{key}.high",
            high,
            f"not on the grid from {low} in steps of {step}",
            f"Write {last} or {decimal_sum(last, step)}",
        )


def _check_choice(key: str, choice: Choice) -> None:
    if not choice.options:
        raise InputError(f"{key}.choice", "[]", "no options", "Add at least one, such as {choice: [0, 0.1]}")
    labels = [_label(option) for option in choice.options]
    for place, label in enumerate(labels):
        if label in labels[:place]:  # to Optuna, 1, 1.0 and True are the same option
            raise InputError(f"{key}.choice", choice.options[place], "this option repeats an earlier one", "Drop it")


def _is_single(dimension: Dimension | Value) -> bool:
    if isinstance(dimension, Range):
        return dimension.low == dimension.high
    return not isinstance(dimension, Choice) or len(dimension.options) == 1


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution([_label(option) for option in dimension.options])
    low, high = dimension.low, dimension.high
    if dimension.is_whole:
        return IntDistribution(int(low), int(high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(low, high, dimension.log, dimension.step)


def _grid_values(key: str, dimension: Dimension) -> list[Scalar]:
    if isinstance(dimension, Choice):
        return [_label(option) for option in dimension.options]
    step = dimension.spacing
    if step is None:
        raise InputError(key, None, "a grid needs a list of values", "Set a step, or write {choice: [...]}")
    count = round((dimension.high - dimension.low) / step) + 1
    return [min(dimension.high, decimal_sum(dimension.low, step, i)) for i in range(count)]


def _to_json(dimension: Dimension | Value) -> Any:
    if isinstance(dimension, Choice):
        return {"choice": [_to_json(option) for option in dimension.options]}
    if isinstance(dimension, Range):
        ends = [_to_json(number) for number in (dimension.low, dimension.high, dimension.step)]
        return {"range": ends, "log": dimension.log, "whole": dimension.is_whole}
    if isinstance(dimension, list | tuple):
        return [_to_json(value) for value in dimension]
    return float(dimension) if isinstance(dimension, int) and not isinstance(dimension, bool) else dimension


# --- one value --------------------------------------------------------------------------------------


def _label(option: Value) -> Scalar:
    """Return an option as Optuna holds it: itself, or the JSON text of a list."""
    return json.dumps(option) if isinstance(option, tuple | list) else option


def _from_optuna(dimension: Dimension, stored: Scalar) -> Value:
    if isinstance(dimension, Choice):
        return next(option for option in dimension.options if _label(option) == stored)
    return stored


def _to_optuna(key: str, dimension: Dimension, value: Value) -> Scalar:
    if isinstance(dimension, Choice):
        label = _label(_to_tuple(value))
        for option in dimension.options:
            if _label(option) == label and isinstance(option, bool) == isinstance(value, bool):
                return _label(option)
        raise InputError(key, value, "not an option", f"Choose one of {', '.join(map(str, dimension.options))}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not dimension.low <= value <= dimension.high:
        remedy = f"Use a number from {dimension.low} to {dimension.high}"
        raise InputError(key, value, "not a number in the searched range", remedy)
    whole = dimension.is_whole
    step = dimension.step or (1 if whole else None)  # also for a whole logarithmic range, which has no spacing
    if step is not None:
        steps = (value - dimension.low) / step
        if abs(steps - round(steps)) > ON_GRID:
            near = decimal_sum(dimension.low, step, round(steps))
            raise InputError(key, value, f"not on the grid from {dimension.low} in steps of {step}", f"Write {near}")
    return round(value) if whole else float(value)


def _to_tuple(value: Any) -> Any:
    return tuple(_to_tuple(item) for item in value) if isinstance(value, list | tuple) else value


def _last_grid_point(dimension: Range) -> Number:
    """Return the last grid point up to `high`. In decimals, because in floats 0.3 is no multiple of 0.1."""
    low, high, step = (Decimal(str(number)) for number in (dimension.low, dimension.high, dimension.step))
    return (
        dimension.high
        if (high - low) % step == 0
        else decimal_sum(dimension.low, float(step), int((high - low) // step))
    )


def decimal_sum(low: Number, step: Number, count: int = 1) -> Number:
    """Return low + count * step, computed in decimals. It is an int if `low` is and the sum is whole."""
    total = Decimal(str(low)) + count * Decimal(str(step))
    return int(total) if isinstance(low, int) and total == int(total) and float(step).is_integer() else float(total)
