"""A searched or fixed value as a person writes it: `{low, high, log, step}`, `{choice: [...]}`, or the plain value.

Used for the numbers of schedules, optimizers and models alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.schedules.numbers import finite_number
from sweeper.types import Choice, Dimension, InputError, Number, Range, Value, did_you_mean

_WORDS = ("low", "high", "log", "step", "choice")


def dimension(key: str, node: Any) -> Dimension | Value:
    """A Range, a Choice or the fixed value; lists become tuples. `key`: the full path, for the InputError.

    Raises InputError: an empty or endless range, a logarithm of what is not positive, log and step together,
    a step that is not positive, an empty choice, a key that is none of low, high, log, step, choice.
    """
    if not isinstance(node, Mapping):
        return _value(key, node)
    unknown = [word for word in node if word not in _WORDS]
    if unknown:
        raise InputError(
            f"{key}.{unknown[0]}", None, "no such key of a searched value", did_you_mean(unknown[0], _WORDS)
        )
    if "choice" not in node:
        return _range(key, node.get("low"), node.get("high"), node.get("log", False), node.get("step"))
    if len(node) > 1:
        raise InputError(key, None, "a choice and a range in one", "Keep either choice, or low and high")
    return _choice(f"{key}.choice", node["choice"])


def to_plain(dimension: Dimension | Value) -> Any:
    """Return the written form of a searched or fixed value, as plain data: the inverse of `dimension`."""
    if isinstance(dimension, Range):
        return {"low": dimension.low, "high": dimension.high, "log": dimension.log, "step": dimension.step}
    if isinstance(dimension, Choice):
        return {"choice": list(dimension.options)}
    return list(dimension) if isinstance(dimension, tuple) else dimension


def check_range(key: str, given: Range) -> None:
    """Raise InputError for a range that is empty, endless, or has a step or logarithm that it cannot have."""
    low, high, step = given.low, given.high, given.step
    for word, number in (("low", low), ("high", high), ("step", step)):
        if number is not None:
            finite_number(f"{key}.{word}", number)
    if low > high:
        raise InputError(key, f"{low}..{high}", "an empty range: low is above high", "Exchange low and high")
    if given.log and low <= 0:
        raise InputError(f"{key}.low", low, "has no logarithm", "Raise low above 0, or write log: false")
    if step is not None and given.log:
        raise InputError(f"{key}.step", step, "a logarithmic range has no step", "Drop step, or write log: false")
    if step is not None and step <= 0:
        raise InputError(f"{key}.step", step, "not positive", "Write a step above 0, or drop it")


def _value(key: str, value: Any) -> Value:
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Sequence):
        return tuple(_value(key, one) for one in value)
    if isinstance(value, Mapping):
        raise InputError(key, dict(value), "a mapping inside a list", "Write plain values there")
    finite_number(key, value)
    whole: Value = value
    return whole


def _choice(key: str, options: object) -> Choice:
    if isinstance(options, str) or not isinstance(options, Sequence) or not options:
        raise InputError(key, options, "no list of options", "Write one value or more: {choice: [0, 0.1]}")
    return Choice(tuple(_value(key, option) for option in options))


def _range(key: str, low: Number | None, high: Number | None, log: object, step: Number | None) -> Range:
    if low is None or high is None:
        end = "low" if low is None else "high"
        raise InputError(f"{key}.{end}", None, "missing", "A range is {low: ..., high: ...}")
    if not isinstance(log, bool):
        raise InputError(f"{key}.log", log, "neither true nor false", "Write log: true or log: false")
    written = Range(low, high, log, step)
    check_range(key, written)
    return written
