"""Searched and fixed values as the user writes them: `{low, high, log, step}`, `{choice: [...]}`, or a plain value.

The hyperparameters of schedules, optimizers and models all have this form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweeper.schedules.numbers import finite_number
from sweeper.types import Choice, Dimension, InputError, Range, Space, Value, did_you_mean

_WORDS = ("low", "high", "log", "step", "choice")


def dimension(key: str, node: Any, whole: bool | None = None) -> Dimension | Value:
    """Parse a searched or fixed value.

    Args:
        key: The config key, for the error.
        node: What the user wrote.
        whole: Whether the hyperparameter takes whole numbers, as in `Range`.

    Returns:
        A Range, a Choice, or the fixed value, with tuples instead of lists.

    Raises:
        InputError: If a key is unknown, the choice is empty, or the range is empty, infinite, has both log and step,
            values that log or step cannot have, or an end that is not whole where the hyperparameter is.
    """
    if not isinstance(node, Mapping):
        return _value(key, node)
    unknown = [word for word in node if word not in _WORDS]
    if unknown:
        raise InputError(
            f"{key}.{unknown[0]}", None, "no such key in a searched value", did_you_mean(unknown[0], _WORDS)
        )
    if "choice" not in node:
        return _range(key, node, whole)
    if len(node) > 1:
        raise InputError(key, None, "has both a choice and a range", "Keep either choice, or low and high")
    return _choice(f"{key}.choice", node["choice"])


def to_plain(dimension: Dimension | Value) -> Any:
    """Return a searched or fixed value as plain data, the inverse of `dimension`."""
    if isinstance(dimension, Range):
        return {"low": dimension.low, "high": dimension.high, "log": dimension.log, "step": dimension.step}
    if isinstance(dimension, Choice):
        return {"choice": list(dimension.options)}
    return list(dimension) if isinstance(dimension, tuple) else dimension


def by_spelling(space: Space) -> dict[str, Dimension | Value]:
    """Return a space whose ranges are whole if they are written so, whatever the hyperparameters are."""
    return {
        name: replace(dimension, whole=None) if isinstance(dimension, Range) else dimension
        for name, dimension in space.items()
    }


def check_range(key: str, searched: Range) -> None:
    """Check a range.

    Args:
        key: The config key, for the error.
        searched: The range.

    Raises:
        InputError: If it is empty, infinite, has both log and step, values that log or step cannot have, or an end that
            is not whole where the hyperparameter is.
    """
    low, high, step = searched.low, searched.high, searched.step
    for word, number in (("low", low), ("high", high), ("step", step)):
        if number is not None:
            finite_number(f"{key}.{word}", number)
        if searched.whole and isinstance(number, float):
            raise InputError(
                f"{key}.{word}", number, "must be a whole number", f"Write one, such as {round(number) or 1}"
            )
    if low > high:
        raise InputError(key, f"{low}..{high}", "an empty range: low is above high", "Swap low and high")
    if searched.log and low <= 0:
        raise InputError(f"{key}.low", low, "has no logarithm", "Raise low above 0, or write log: false")
    if step is not None and searched.log:
        raise InputError(
            f"{key}.step", step, "a logarithmic range cannot have a step", "Remove step, or write log: false"
        )
    if step is not None and step <= 0:
        raise InputError(f"{key}.step", step, "not positive", "Write a step above 0, or remove it")


def _value(key: str, value: Any) -> Value:
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Sequence):
        return tuple(_value(key, item) for item in value)
    if isinstance(value, Mapping):
        raise InputError(key, dict(value), "a mapping inside a list", "Write plain values there")
    finite_number(key, value)
    number: Value = value
    return number


def _choice(key: str, options: object) -> Choice:
    if isinstance(options, str) or not isinstance(options, Sequence) or not options:
        raise InputError(key, options, "not a list of options", "Write one or more values: {choice: [0, 0.1]}")
    return Choice(tuple(_value(key, option) for option in options))


def _range(key: str, node: Mapping[Any, Any], whole: bool | None) -> Range:
    low, high, log = node.get("low"), node.get("high"), node.get("log", False)
    if low is None or high is None:
        end = "low" if low is None else "high"
        raise InputError(f"{key}.{end}", None, "missing", "Write a range as {low: ..., high: ...}")
    if not isinstance(log, bool):
        raise InputError(f"{key}.log", log, "neither true nor false", "Write log: true or log: false")
    searched = Range(low, high, log, node.get("step"), whole)
    check_range(key, searched)
    return searched
