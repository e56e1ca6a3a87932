"""The LRs that a sweep would try: candidates of each family from a random sampler, and the extremes of each
searched hyperparameter. Trains nothing, and needs no data.
"""  # fmt: skip

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.schedules import ENDS_HIGH, cycles_run, height_at_end, lr_traces, to_plain
from sweeper.text.columns import clean
from sweeper.text.numbers import share_text
from sweeper.types import Dimension, Family, Floats, Range, Value, seed_of, values_of

if TYPE_CHECKING:
    from sweeper.search.space import Axes

Params = Mapping[str, Value]

CANDIDATES = 300  # of each family
SHOWN = 30  # of them, drawn as lines
FINEST = 10_000  # updates at most that a schedule is computed for; longer runs have the same shapes
MANY = 0.1  # share of candidates that end high above which a family has a warning


@dataclass(frozen=True)
class Extreme:
    """The LR with one hyperparameter at an end of its range and the others at their middle.

    Attributes:
        name: The hyperparameter; "" if nothing is searched.
        end: "low" or "high".
        value: Its value.
        lr_S: The LR, float64 [S].
    """

    name: str
    end: str
    value: Value
    lr_S: Floats


@dataclass(frozen=True)
class Preview:
    """The LRs that a sweep of one family would try.

    Attributes:
        family: Its name.
        searched: Its searched hyperparameters.
        steps: Updates of a trial.
        candidates: Number of candidates; 1 if nothing is searched.
        lr_LS: LR of the first SHOWN candidates at S evenly spaced updates, float64 [L, S].
        extremes: The LRs at the ends of each range.
        ends_high: Share of the candidates that end more than 10% of their peak above their floor.
        largest_lr: Largest LR of the candidates and the extremes.
        cycles: Fewest, median and most cycles of a candidate; None for a family without cycles.
        controller: The controller of a reactive family, which is drawn with its multiplier at 1.
    """

    family: str
    searched: Mapping[str, Dimension]
    steps: int
    candidates: int
    lr_LS: Floats
    extremes: Sequence[Extreme]
    ends_high: float
    largest_lr: float
    cycles: tuple[float, float, float] | None
    controller: str | None = None

    @property
    def note(self) -> str | None:
        """What the drawing cannot show; None if it shows everything."""
        if self.controller is None:
            return None
        return (
            f"{clean(self.family)}: drawn with its multiplier at 1. Its controller ({self.controller}) changes the LR "
            "during training."
        )

    @property
    def warning(self) -> str | None:
        """A problem with the search space; None if there is none."""
        if self.ends_high <= MANY:
            return None
        return (
            f"{clean(self.family)}: {share_text(round(self.ends_high, 2))} of its candidates end more than "
            f"{share_text(ENDS_HIGH)} of their peak above their floor. Their LR would fall further in a longer run."
        )


def preview_family(family: Family, steps: int, *, epoch: float | None = None, seed: int = 0) -> Preview:
    """Sample candidates of a family and compute their LRs.

    Args:
        family: The family.
        steps: Updates of a trial.
        epoch: As in `lr_trace`.
        seed: Of the random sampler.

    Raises:
        InputError: If a sweep of the family would raise it.
    """
    run = _shorten(steps, epoch)
    axes = _axes(family)
    points = candidates(axes, seed_of(seed, "preview", family.name), CANDIDATES)
    lr_LS = run.lr_traces(family, points[:SHOWN])
    heights = [height_at_end(family, params, run.steps, epoch=run.epoch) for params in points]
    counts = [cycles_run(family, params, run.steps, epoch=run.epoch) for params in points]
    cycles = [count for count in counts if count is not None]
    extremes = _extremes(family, axes, run)
    largest = [run.lr_traces(family, points[start : start + SHOWN]).max() for start in range(0, len(points), SHOWN)]
    return Preview(
        family=family.name,
        searched=axes.searched,
        steps=steps,
        candidates=len(points),
        lr_LS=lr_LS,
        extremes=extremes,
        ends_high=float(np.mean(np.array(heights) > ENDS_HIGH)),
        largest_lr=max(map(float, (*largest, *(extreme.lr_S.max() for extreme in extremes)))),
        cycles=(min(cycles), float(np.median(cycles)), max(cycles)) if cycles else None,
        controller=family.controller,
    )


@dataclass(frozen=True)
class _Run:
    """The length of a run and of its epochs, as in `lr_trace`."""

    steps: int
    epoch: float | None

    def lr_traces(self, family: Family, params: Sequence[Params]) -> Floats:
        return lr_traces(family, params, self.steps, epoch=self.epoch)


def _shorten(steps: int, epoch: float | None) -> _Run:
    """Return the run, or a long one scaled to FINEST updates. Its epochs are dropped if they get shorter than one."""
    if steps <= FINEST:
        return _Run(steps, epoch)
    shorter = None if epoch is None else epoch * FINEST / steps
    return _Run(FINEST, shorter if shorter is not None and shorter > 1 else None)


def as_json(previews: Sequence[Preview]) -> list[dict[str, Any]]:
    """Return the table for programs, one mapping per family. Search spaces are written as in a configuration."""
    return [
        {
            "family": one.family,
            "searched": {name: to_plain(dimension) for name, dimension in one.searched.items()},
            "candidates": one.candidates,
            "ends_high": one.ends_high,
            "largest_lr": one.largest_lr,
            "cycles": one.cycles and dict(zip(("fewest", "median", "most"), one.cycles, strict=True)),
            "controller": one.controller,
            "note": one.note,
            "warning": one.warning,
        }
        for one in previews
    ]


def candidates(axes: Axes, seed: int, count: int) -> list[dict[str, Value]]:
    """Return hyperparameters proposed by Optuna's random sampler; a single point if nothing is searched."""
    from sweeper.search.tried import random_points

    if not axes.searched:
        return [axes.values({})]
    return [axes.values(point) for point in islice(random_points(axes.distributions, seed), count)]


def _axes(family: Family) -> Axes:
    from sweeper.search.space import axes

    return axes(family.space, {name: f"schedule.{family.name}.{name}" for name in family.space})


def _extremes(family: Family, axes: Axes, run: _Run) -> list[Extreme]:
    middle = {**axes.fixed, **{name: _middle(dimension) for name, dimension in axes.searched.items()}}
    ends = [
        (name, end, _in_order(dimension)[place])
        for name, dimension in axes.searched.items()
        for end, place in (("low", 0), ("high", -1))
    ] or [("", "", None)]
    params = [{**middle, name: value} if name else middle for name, _, value in ends]
    lr_LS = run.lr_traces(family, params)
    return [Extreme(*end, lr_S) for end, lr_S in zip(ends, lr_LS, strict=True)]


def _middle(dimension: Dimension) -> Value:
    """Return the middle of a range, or the middle option in order."""
    if isinstance(dimension, Range):
        return dimension.middle
    options = _in_order(dimension)
    return options[round((len(options) - 1) / 2)]


def _in_order(dimension: Dimension) -> list[Value]:
    """Return the values to check, numbers sorted by size, others in their order."""
    values = values_of(dimension)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sorted(values, key=lambda value: float(value))  # type: ignore[arg-type]  # checked
    return list(values)


# --- as text ----------------------------------------------------------------------------------------


def space_text(dimension: Dimension) -> str:
    """Format a search space: 0.001..1 log, 0..1 by 0.25, 0|0.02|0.05."""
    if isinstance(dimension, Range):
        step = f" by {dimension.step:g}" if dimension.step is not None else ""
        return f"{dimension.low:g}..{dimension.high:g}{' log' if dimension.log else step}"
    return "|".join(value_word(option) for option in dimension.options)


def value_word(value: Value) -> str:
    """Format a value in few characters."""
    if isinstance(value, tuple):
        return "[" + ",".join(value_word(one) for one in value) + "]"
    return f"{value:.3g}" if isinstance(value, int | float) and not isinstance(value, bool) else clean(str(value))
