"""What a sweep would try, before it is paid for: candidates of each family as a random sampler draws them, the
extremes of each searched number, and what they have in common. Trains nothing, and needs no data.
"""  # fmt: skip

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.schedules import ENDS_HIGH, cycles_run, height_at_end, lr_traces, to_plain
from sweeper.text.columns import clean
from sweeper.text.numbers import share_text
from sweeper.types import Dimension, Family, Floats, Range, Value, seed_of, values_of

if TYPE_CHECKING:
    from sweeper.search.space import Axes

Params = Mapping[str, Value]

CANDIDATES = 300  # drawn for the figures in the table
SHOWN = 30  # of them drawn as lines
FINEST = 10_000  # updates at most that a schedule is computed for here: longer runs have the same shapes
MANY = 0.1  # share of candidates that end high from which a family is warned of


@dataclass(frozen=True)
class Extreme:
    """The LR [S] with one number at an end of its range and all others in their middle."""

    number: str
    end: str  # "low" or "high"
    value: Value
    lr_S: Floats


@dataclass(frozen=True)
class Preview:
    """One family: its searched numbers and what they make of the LR.

    candidates: how many were drawn (1 where nothing is searched). lr_LS: of the first SHOWN, each S points evenly
    over the run. ends_high: share of the candidates that end more than 10 % of their peak above their floor.
    largest_lr: of the candidates and the extremes.
    cycles: fewest, median, most that a candidate runs; None for a family without cycles. controller: of a reactive
    family, of which all this is before anything is seen.
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
        """What the drawing cannot show."""
        if self.controller is None:
            return None
        return (
            f"{clean(self.family)}: drawn with its multiplier at 1. What its controller ({self.controller}) makes of "
            "the LR is known only when it has trained."
        )

    @property
    def warning(self) -> str | None:
        """What a person should know before a sweep of this family."""
        if self.ends_high <= MANY:
            return None
        return (
            f"{clean(self.family)}: {share_text(round(self.ends_high, 2))} of its candidates end more than "
            f"{share_text(ENDS_HIGH)} of their peak above their floor: they stop in mid-air."
        )


def previewed(family: Family, steps: int, *, epoch: float | None = None, seed: int = 0) -> Preview:
    """Draw candidates of the family and look at them. epoch: as in lr_trace. Raises InputError as a sweep would."""
    run = _shortened(steps, epoch)
    axes = _axes(family)
    drawn = candidates(axes, seed_of(seed, "preview", family.name), CANDIDATES)
    lr_LS = run.lr_traces(family, drawn[:SHOWN])
    heights = [height_at_end(family, params, run.steps, epoch=run.epoch) for params in drawn]
    counts = [cycles_run(family, params, run.steps, epoch=run.epoch) for params in drawn]
    cycles = [count for count in counts if count is not None]
    extremes = _extremes(family, axes, run)
    largest = [run.lr_traces(family, drawn[start : start + SHOWN]).max() for start in range(0, len(drawn), SHOWN)]
    return Preview(
        family=family.name,
        searched=axes.searched,
        steps=steps,
        candidates=len(drawn),
        lr_LS=lr_LS,
        extremes=extremes,
        ends_high=float(np.mean(np.array(heights) > ENDS_HIGH)),
        largest_lr=max(map(float, (*largest, *(extreme.lr_S.max() for extreme in extremes)))),
        cycles=(min(cycles), float(np.median(cycles)), max(cycles)) if cycles else None,
        controller=family.controller,
    )


@dataclass(frozen=True)
class _Run:
    """How long a run is, and its epochs, as in lr_trace."""

    steps: int
    epoch: float | None

    def lr_traces(self, family: Family, params: Sequence[Params]) -> Floats:
        return lr_traces(family, params, self.steps, epoch=self.epoch)


def _shortened(steps: int, epoch: float | None) -> _Run:
    """The run, a long one in fewer updates: its epochs with it, until they are shorter than one of these."""
    if steps <= FINEST:
        return _Run(steps, epoch)
    shorter = None if epoch is None else epoch * FINEST / steps
    return _Run(FINEST, shorter if shorter is not None and shorter > 1 else None)


def as_json(previews: Sequence[Preview]) -> list[dict[str, Any]]:
    """The table for programs, one a family; searched numbers as a person writes them."""
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
    """Points as Optuna's random sampler proposes them; a single one where nothing is searched."""
    from optuna.samplers import RandomSampler

    if not axes.searched:
        return [axes.values({})]
    sampler = RandomSampler(seed=seed)
    stored = (
        {
            name: sampler.sample_independent(None, None, name, kind)  # type: ignore[arg-type]  # it looks at no study
            for name, kind in axes.distributions.items()
        }
        for _ in range(count)
    )
    return [axes.values(point) for point in stored]


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
    """The middle of a range, or of the options in their order."""
    if isinstance(dimension, Range):
        return dimension.middle
    options = _in_order(dimension)
    return options[round((len(options) - 1) / 2)]


def _in_order(dimension: Dimension) -> list[Value]:
    """Numbers by size; words and lists as they are."""
    values = values_of(dimension)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sorted(values, key=lambda value: float(value))  # type: ignore[arg-type]  # checked
    return list(values)


# --- in words ---------------------------------------------------------------------------------------


def space_text(dimension: Dimension) -> str:
    """0.001..1 log, 0..1 by 0.25, 0|0.02|0.05."""
    if isinstance(dimension, Range):
        step = f" by {dimension.step:g}" if dimension.step is not None else ""
        return f"{dimension.low:g}..{dimension.high:g}{' log' if dimension.log else step}"
    return "|".join(value_word(option) for option in dimension.options)


def value_word(value: Value) -> str:
    """A number, word or list in few characters."""
    if isinstance(value, tuple):
        return "[" + ",".join(value_word(one) for one in value) + "]"
    return f"{value:.3g}" if isinstance(value, int | float) and not isinstance(value, bool) else clean(str(value))
