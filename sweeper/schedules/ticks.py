"""The lengths of a family in a given run: how few ticks show its shape.

A tick is what has one LR: an update, or with `schedule_unit: epoch` an epoch. In a short run, a small fraction is so
few ticks that another schedule comes out under the family's name: a cosine cycle of one tick is a constant, a triangle
of one tick stays at its lowest LR. So a factor declares how many ticks a length needs (`Bounds.ticks`), and how many
must follow it (`Bounds.left`). What is searched is bounded by that, and other values are errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from sweeper.schedules.clock import tick_count, whole_updates
from sweeper.schedules.families import key_of, parameters_of
from sweeper.schedules.numbers import Bounds
from sweeper.types import Dimension, Family, InputError, Number, Range, Value, values_of


def fit(family: Family, steps: int, epoch: float | None = None) -> Family:
    """Return the family with its searched lengths bounded by what its shape needs in this run.

    The low end of a range is raised if it rounds to fewer ticks than needed, the high end lowered if too few follow.
    Lengths after the warmup are bounded for the longest warmup.

    Args:
        family: The family.
        steps: Updates of the run.
        epoch: Updates of an epoch, as in `lr_trace`.

    Raises:
        InputError: If the shape does not fit into a fixed length, an option, an end of a range with a step (which is
            a list of values), or any length of a range.
    """
    run = _Span(tick_count(steps, epoch), "updates" if epoch is None else "epochs")
    space = dict(family.space)
    if family.warmup == "prefix":
        space["warmup"] = _fit(family, "warmup", space["warmup"], run)
    rest = run._replace(ticks=run.ticks - _longest_ramp(replace(family, space=space), run))
    for name, parameter in parameters_of(family).items():
        if (family.warmup, name) != ("prefix", "warmup"):
            space[name] = _fit(family, name, space[name], run if parameter.bounds.run else rest)
    return replace(family, space=space)


class _Span(NamedTuple):
    """What a length is a fraction of: a number of ticks, and their name."""

    ticks: int
    unit: str

    def ticks_of(self, fraction: Number) -> int:
        return int(whole_updates(fraction, self.ticks))


def _longest_ramp(family: Family, run: _Span) -> int:
    """Return the largest number of ticks by which a ramp delays the factor."""
    if family.warmup != "prefix" or "prefix" not in values_of(family.space["warmup_join"]):
        return 0
    return max(map(run.ticks_of, _numbers(values_of(family.space["warmup"]))))


def _fit(family: Family, name: str, dimension: Dimension | Value, span: _Span) -> Dimension | Value:
    """Return a hyperparameter of the family, within its bounds if it is a length."""
    key, bounds = key_of(family, name), parameters_of(family)[name].bounds
    if not (bounds.ticks or bounds.left):
        return dimension
    if not isinstance(dimension, Range) or dimension.spacing is not None:
        for length in _numbers(values_of(dimension)):
            _check(key, bounds, length, span)
        return dimension
    low, high = dimension.low, dimension.high
    _check(f"{key}.low", replace(bounds, ticks=0), low, span)
    _check(f"{key}.high", replace(bounds, left=0), high, span)
    if span.ticks_of(low) < bounds.ticks:
        low = min(bounds.ticks / span.ticks, high)
    if span.ticks - span.ticks_of(high) < bounds.left:
        high = max(1 - bounds.left / span.ticks, low)
    return replace(dimension, low=low, high=high)


def _check(key: str, bounds: Bounds, length: Number, span: _Span) -> None:
    ticks = span.ticks_of(length)
    if ticks < bounds.ticks:
        least = bounds.ticks / span.ticks
        remedy = f"Write at least {least:.3g}, or train longer" if bounds.contains(least) else "Train longer"
        problem = f"{ticks} of {span.ticks} {span.unit}, but the shape needs {bounds.ticks}"
        raise InputError(key, length, problem, f"{remedy}, or leave this family out")
    if bounds.left and span.ticks - ticks < bounds.left:
        most = 1 - bounds.left / span.ticks
        remedy = f"Write at most {most:.3g}, or train longer" if bounds.contains(most) else "Train longer"
        problem = f"leaves {max(0, span.ticks - ticks)} of {span.ticks} {span.unit}, but the shape needs {bounds.left}"
        raise InputError(key, length, problem, f"{remedy}, or leave this family out")


def _numbers(values: Iterable[Value]) -> list[Number]:
    """Return the numbers among some values, also those in lists."""
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [one for one in flat if isinstance(one, int | float) and not isinstance(one, bool)]
