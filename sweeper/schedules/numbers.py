"""Hyperparameters of a factor, declared by the annotations and defaults of its keyword parameters.

    def wsd(tau_LS, decay_steps_L, *, decay: Floor = 0.0, cooldown: RunFraction = 0.2, end: End = "closed"): ...

The annotation of a number holds its bounds, that of a word its options. All names, checks and units of a family derive
from them, so a factor needs no other declaration. Without an annotation, the type of the default decides: any finite
number, or any word. A number is real unless it is annotated `int`: a factor sees float64 in either case.
"""

from __future__ import annotations

import inspect
import math
import numbers
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from sweeper.types import Dimension, Floats, InputError, Range, Value, did_you_mean, values_of


@dataclass(frozen=True)
class Bounds:
    """The values that a number may have.

    Attributes:
        low: Smallest value.
        high: Largest value.
        open_low: Whether `low` itself is excluded.
        open_high: Whether `high` itself is excluded.
        whole: Whether only whole numbers are possible.
        floor: Whether it is the smallest g that the family aims for.
        run: Whether it is a fraction of the run's updates. `lr_trace` converts it to a fraction of decay_steps, which
            is the unit of all fractions that a factor receives.
        ticks: Of a length: the smallest number of ticks, updates or epochs, in which the family's shape still shows.
        left: Of a length: the number of ticks that must follow it.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    whole: bool = False
    floor: bool = False
    run: bool = False
    ticks: int = 0
    left: int = 0

    def contains(self, value: float) -> bool:
        """Return whether the value is allowed."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and not (self.whole and value % 1)

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        high = f"{'below' if self.open_high else 'at most'} {self.high:g}"
        return " and ".join(text for text, end in ((low, self.low), (high, self.high)) if math.isfinite(end))


ANY = Bounds(-math.inf, math.inf)
ANY_WHOLE = Bounds(-math.inf, math.inf, whole=True)
PEAK_LR = Bounds(0, math.inf, open_low=True)
WARMUP = Bounds(0, 1, open_high=True, left=2)  # a single tick after it could not show any shape

# Annotations of a factor's keyword parameters. At run time every number is a float64 array [L, 1].
Fraction = Annotated[Floats | float, Bounds(0, 1)]
PositiveFraction = Annotated[Floats | float, Bounds(0, 1, open_low=True)]
RunFraction = Annotated[Floats | float, Bounds(0, 1, open_low=True, run=True)]
Floor = Annotated[Floats | float, Bounds(0, 1, floor=True)]
PositiveFloor = Annotated[Floats | float, Bounds(0, 1, open_low=True, floor=True)]
OpenFraction = Annotated[Floats | float, Bounds(0, 1, open_low=True, open_high=True)]
Positive = Annotated[Floats | float, Bounds(0, math.inf, open_low=True)]
AtLeastOne = Annotated[Floats | float, Bounds(1, math.inf)]
AtLeastZero = Annotated[Floats | float, Bounds(0, math.inf)]
AtMostZero = Annotated[Floats | float, Bounds(-math.inf, 0)]
BelowOne = Annotated[Floats | float, Bounds(0, 1, open_high=True)]
Milestones = Annotated[tuple[float, ...], Bounds(0, 1, open_low=True, open_high=True, left=1)]
LogFactors = Annotated[tuple[float, ...], Bounds(-math.inf, 0)]
End = Literal["open", "closed"]

# Lengths that need several ticks, or another schedule comes out: a cosine cycle of one tick is a constant, a triangle
# of three misses its peak by a third. `sweeper.schedules.ticks` bounds a sweep's space by them.
Cooldown = Annotated[Floats | float, Bounds(0, 1, open_low=True, run=True, ticks=2)]
Rise = Annotated[Floats | float, Bounds(0, 1, open_low=True, open_high=True, ticks=2, left=1)]
Cycle2 = Annotated[Floats | float, Bounds(0, math.inf, open_low=True, ticks=2)]
Cycle3 = Annotated[Floats | float, Bounds(0, math.inf, open_low=True, ticks=3)]
Cycle4 = Annotated[Floats | float, Bounds(0, math.inf, open_low=True, ticks=4)]


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter of a factor, momentum or controller.

    Attributes:
        name: Its name.
        kind: A number, a word, or a list of numbers, which is never vectorized over trials.
        default: Its default.
        required: Whether it has no default.
        bounds: Of a number, or of each number of a list.
        options: Of a word. () allows any text.
    """

    name: str
    kind: Literal["number", "word", "list"]
    default: Value = None
    required: bool = False
    bounds: Bounds = ANY
    options: tuple[Value, ...] = ()


def parameters(factor: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the hyperparameters of a factor: its parameters after the first two, in their order."""
    return _parameters(factor)


@lru_cache(maxsize=256)
def _parameters(factor: Callable[..., Any]) -> dict[str, Parameter]:
    try:
        hints = typing.get_type_hints(factor, include_extras=True)
    except NameError:  # an annotation in the user's code that only a type checker can resolve
        hints = {}
    after_two = list(inspect.signature(factor).parameters.values())[2:]
    keywords = [p for p in after_two if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return {p.name: _parameter(p, hints.get(p.name)) for p in keywords}


def _parameter(declared: inspect.Parameter, hint: Any) -> Parameter:
    required = declared.default is inspect.Parameter.empty
    default = None if required else declared.default
    if typing.get_origin(hint) is Literal:
        return Parameter(declared.name, "word", default, required, options=typing.get_args(hint))
    if hint is bool or isinstance(default, bool):
        return Parameter(declared.name, "word", default, required, options=(False, True))
    if hint is str or isinstance(default, str):
        return Parameter(declared.name, "word", default, required)
    any_number = ANY_WHOLE if hint is int else ANY
    bounds = next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Bounds)), any_number)
    bare = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    is_list = typing.get_origin(bare) is tuple or isinstance(default, tuple)
    return Parameter(declared.name, "list" if is_list else "number", default, required, bounds)


def check(key: str, parameter: Parameter, value: Dimension | Value) -> None:
    """Check a fixed or searched value: the whole range, or every option of a choice.

    Args:
        key: The config key, for the error.
        parameter: The hyperparameter.
        value: Its value.

    Raises:
        InputError: If the hyperparameter cannot have the value.
    """
    if isinstance(value, Range) and parameter.kind != "number":
        raise InputError(key, None, "a range, but it needs a fixed value", _remedy(parameter))
    for one in values_of(value):
        _check_value(key, parameter, one)


def _check_value(key: str, parameter: Parameter, value: Value) -> None:
    if parameter.kind == "word":
        known = isinstance(value, str) if not parameter.options else value in parameter.options
        if not known or isinstance(value, bool) != isinstance((parameter.options or ("",))[0], bool):
            raise InputError(key, value, "not one of its options", _remedy(parameter, value))
    elif parameter.kind == "list":
        if not isinstance(value, tuple) or not value:
            raise InputError(key, value, "not a list of numbers", _remedy(parameter))
        for one in value:
            _check_number(key, parameter, one)
    else:
        _check_number(key, parameter, value)


def _check_number(key: str, parameter: Parameter, value: object) -> None:
    number = finite_number(key, value)
    if not parameter.bounds.contains(number):
        raise InputError(key, value, "out of bounds", _remedy(parameter))


def finite_number(key: str, value: object) -> float:
    """Return the value as a float.

    Args:
        key: The config key, for the error.
        value: The value.

    Raises:
        InputError: If it is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        problem = "text instead of a number" if isinstance(value, str) else "not a number"
        raise InputError(key, value, problem, "Write a number, such as 1.0e-3")
    number = float(value)
    if not math.isfinite(number):
        raise InputError(key, value, "not a finite number", "Write a finite number, such as 1.0e-3")
    return number


def _remedy(parameter: Parameter, word: object = "") -> str:
    if parameter.kind == "word":
        return did_you_mean(word, parameter.options) if parameter.options else "Write a word"
    number = "whole number" if parameter.bounds.whole else "number"
    what = f"a list of {number}s" if parameter.kind == "list" else f"a {number}"
    return f"Write {what} {parameter.bounds}".rstrip()
