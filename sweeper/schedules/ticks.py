"""The lengths of a family in a given run: how few ticks show its shape.

A tick is what has one LR: an update, or with `schedule_unit: epoch` an epoch. In a short run, a small fraction is so
few ticks that another schedule comes out under the family's name: a cosine cycle of one tick is a constant, a triangle
of one tick stays at its lowest LR. So a factor declares how many ticks a length needs (`Bounds.ticks`), and how many
must follow it (`Bounds.left`). What is searched is bounded by that, and other values are errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sweeper.schedules.clock import tick_count, whole_updates
from sweeper.schedules.families import FACTORS, key_of, parameters_of
from sweeper.schedules.lengths import fitted_length, shortest_fit, shortest_wave, wave_count
from sweeper.schedules.numbers import Bounds
from sweeper.types import Dimension, Family, InputError, Number, Range, Value, values_of


def fit_to_run(family: Family, steps: int, epoch: float | None = None) -> Family:
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
    of_run = [name for name, one in parameters_of(family).items() if one.bounds.run or name == "warmup"]
    bounded = replace(family, space={**family.space, **{name: _fit(family, name, run) for name in of_run}})
    rest = replace(run, ticks=run.ticks - _longest_ramp(bounded, run))
    others = {name: _fit(family, name, rest) for name in family.space if name not in of_run}
    return replace(family, space={**bounded.space, **others})


@dataclass(frozen=True)
class _Span:
    """What a length is a fraction of: a number of ticks, and what they are.

    Attributes:
        ticks: Their number.
        unit: "updates" or "epochs".
        mults: Of a length that is fitted to whole cycles: the possible `cycle_mult`.
        waves: Whether it is fitted to whole waves.
    """

    ticks: int
    unit: str
    mults: tuple[float, ...] = ()
    waves: bool = False

    def ticks_of(self, fraction: Number) -> int:
        """Return the number of ticks of a length, the smallest that it can be fitted to."""
        fitted = [fitted_length(self.ticks, fraction, mult) for mult in self.mults]
        fitted += [self.ticks / float(wave_count(fraction, "fitted"))] if self.waves else []
        return min([int(whole_updates(fraction, self.ticks)), *(int(length + 0.5) for length in fitted)])

    def fraction_of(self, ticks: int) -> float:
        """Return the smallest length that has so many ticks, however it is fitted."""
        fitted = [shortest_fit(self.ticks, ticks, mult) for mult in self.mults]
        fitted += [shortest_wave(self.ticks, ticks)] if self.waves else []
        return max([ticks / self.ticks, *fitted])


def _longest_ramp(family: Family, run: _Span) -> int:
    """Return the largest number of ticks by which a ramp delays the factor."""
    if family.warmup != "prefix" or "prefix" not in values_of(family.space["warmup_join"]):
        return 0
    return max(map(run.ticks_of, _numbers(values_of(family.space["warmup"]))))


def _fit(family: Family, name: str, span: _Span) -> Dimension | Value:
    """Return a hyperparameter of the family, within its bounds if it is a length."""
    key, bounds, dimension = key_of(family, name), parameters_of(family)[name].bounds, family.space[name]
    if not (bounds.ticks or bounds.left):
        return dimension
    if name == "cycle" and "fitted" in values_of(family.space.get("cycle_fit")):
        waves = family.factor is FACTORS["cosine_waves"]
        mults = tuple(map(float, _numbers(values_of(family.space.get("cycle_mult", 1.0)))))
        span = replace(span, waves=waves, mults=() if waves else mults)
    if not isinstance(dimension, Range) or dimension.spacing is not None:
        for length in _numbers(values_of(dimension)):
            _check(key, bounds, length, span)
        return dimension
    low, high = dimension.low, dimension.high
    _check(f"{key}.low", replace(bounds, ticks=0), low, span)
    _check(f"{key}.high", replace(bounds, left=0), high, span)
    if span.ticks_of(low) < bounds.ticks:
        low = min(span.fraction_of(bounds.ticks), high)
    if bounds.left and span.ticks - span.ticks_of(high) < bounds.left:
        high = max(1 - bounds.left / span.ticks, low)
    return replace(dimension, low=low, high=high)


def _check(key: str, bounds: Bounds, length: Number, span: _Span) -> None:
    """Raise InputError if a length has fewer ticks than its shape needs, or fewer follow."""
    ticks = span.ticks_of(length)
    after = max(0, span.ticks - ticks)
    if ticks < bounds.ticks:
        problem = f"{ticks} of {span.ticks} {span.unit}, but the shape needs {bounds.ticks}"
        limit, word = span.fraction_of(bounds.ticks) if span.ticks >= bounds.ticks else -1, "least"
    elif bounds.left and after < bounds.left:
        problem = f"leaves {after} of {span.ticks} {span.unit}, but the shape needs {bounds.left}"
        limit, word = 1 - bounds.left / span.ticks, "most"
    else:
        return
    remedy = f"Write at {word} {limit:.3g}, or train longer" if bounds.contains(limit) else "Train longer"
    raise InputError(key, length, problem, f"{remedy}, or leave this family out")


def _numbers(values: Iterable[Value]) -> list[Number]:
    """Return the numbers among some values, also those in lists."""
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [one for one in flat if isinstance(one, int | float) and not isinstance(one, bool)]
