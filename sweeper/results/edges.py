"""Whether a trial's hyperparameters lie at an end of their ranges, and what to type to widen them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sweeper.schedules import dimension, fit_to_run
from sweeper.schedules.families import parameters_of
from sweeper.schedules.numbers import Bounds
from sweeper.types import Choice, Dimension, Family, InputError, Number, Range, Value

AT_END = 0.05  # share of a range, in its logarithm if it is searched there, that counts as its end
FEWEST = 3  # options of a choice, fewer of which are nothing but ends
SHARED = {"peak_lr": "optimizer.peak_lr", "warmup": "warmup"}  # the keys from which families have them by default
FACTOR, SHARE = 3.0, 0.5  # by which an end is moved: of a logarithmic range, and in widths of another one

End = Literal["low", "high"]


@dataclass(frozen=True)
class Edge:
    """A hyperparameter at an end of its range.

    Attributes:
        name: The hyperparameter.
        end: Which end.
        limit: The value of that end.
        remedy: The override that widens the range; "" if another range makes another sweep.
    """

    name: str
    end: End
    limit: Number
    remedy: str


@dataclass(frozen=True)
class Space:
    """What the search of one family may try.

    Attributes:
        family: The family, with its space as written.
        keys: The config path of a hyperparameter that several families share.
        steps: Updates of a trial.
        epoch: Updates of an epoch if the LR is held through each epoch, else None.
        others: The hyperparameters of optimizer and model by config path. They identify the sweep.
    """

    family: Family
    keys: Mapping[str, str]
    steps: int
    epoch: float | None
    others: Mapping[str, Dimension]

    def edges(self, params: Mapping[str, Value]) -> list[Edge]:
        """Return the hyperparameters of a trial at ends beyond which its family has more values, the peak LR first."""
        fitted = _fitted(self.family, self)
        found = [edge for name, one in fitted.items() if (edge := self._edge(name, one, params.get(name)))]
        others = [_other_edge(name, one, params.get(name)) for name, one in self.others.items()]
        return sorted([*found, *filter(None, others)], key=lambda edge: edge.name != "peak_lr")

    def _edge(self, name: str, searched: Dimension, value: Value) -> Edge | None:
        end = _end_of(searched, value)
        if end is None:
            return None
        wider = _wider(searched, end, parameters_of(self.family)[name].bounds)
        if wider is None:
            return None
        space = {**self.family.space, name: wider}
        if _fitted(replace(self.family, space=space), self).get(name, searched) == searched:
            return None  # a length that is bounded by that of the run
        return Edge(name, end, _limit(searched, end), self._widened(name, wider, end))

    def override(self, name: str, searched: Dimension) -> str:
        """Return the override that replaces the range or choice of this family alone."""
        return _replaced(f"schedule.{self.family.name}.{name}", searched)

    def _widened(self, name: str, wider: Dimension, end: End) -> str:
        """Return the override that sets one end of a range: of all families if they share it."""
        key = self.keys.get(name, f"schedule.{self.family.name}.{name}")
        if isinstance(wider, Choice):
            return _replaced(key, wider)
        if name in SHARED and name not in self.keys:  # a part of what all share cannot be changed for one family
            return self.override(name, wider)
        return f"{key}.{end}={_limit(wider, end):g}"


def spaces(
    families: Mapping[str, Family], steps: int, epoch: float | None, nodes: Mapping[str, object]
) -> dict[str, Space]:
    """Return the space of each study.

    Args:
        families: By study.
        steps: Updates of a trial.
        epoch: As in `Space`.
        nodes: The stored nodes of optimizer and model by name.
    """
    searched = [{name: one for name, one in family.space.items() if _is_searched(one)} for family in families.values()]
    keys = {
        name: key for name, key in SHARED.items() if len({str(space[name]) for space in searched if name in space}) == 1
    }
    others = {path: one for name, node in nodes.items() for path, one in _searched_inside(name, node)}
    return {study: Space(family, keys, steps, epoch, others) for study, family in families.items()}


def _searched_inside(path: str, node: object) -> Iterator[tuple[str, Dimension]]:
    """Yield the searched values below a node with their paths."""
    if not isinstance(node, Mapping):
        return
    try:
        parsed = dimension(path, node)
    except InputError:  # no searched value, but a section
        for name, inner in node.items():
            yield from _searched_inside(f"{path}.{name}", inner)
    else:
        if isinstance(parsed, Range | Choice):
            yield path, parsed


def _is_searched(one: Dimension | Value) -> bool:
    return isinstance(one, Range | Choice)


def _fitted(family: Family, space: Space) -> dict[str, Dimension]:
    """Return what is searched of a family in runs of this length; nothing if it is impossible."""
    try:
        fitted = fit_to_run(family, space.steps, space.epoch).space
    except InputError:
        return {}
    return {name: one for name, one in fitted.items() if isinstance(one, Range | Choice)}


def _other_edge(name: str, searched: Dimension, value: Value) -> Edge | None:
    end = _end_of(searched, value)
    return None if end is None else Edge(name, end, _limit(searched, end), "")


def _numbers(choice: Choice) -> list[Number]:
    """Return the options in order; [] if they have none, or are too few."""
    numbers = [one for one in choice.options if isinstance(one, int | float) and not isinstance(one, bool)]
    return sorted(numbers) if len(numbers) == len(choice.options) >= FEWEST else []


def _limit(searched: Dimension, end: End) -> Number:
    if isinstance(searched, Range):
        return searched.low if end == "low" else searched.high
    return _numbers(searched)[0 if end == "low" else -1]


def _end_of(searched: Dimension, value: Value) -> End | None:
    """Return the end of its range at which a value lies; None inside it."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if isinstance(searched, Choice):
        numbers = _numbers(searched)
        return None if not numbers else "low" if value <= numbers[0] else "high" if value >= numbers[-1] else None
    low, high, here = (math.log(one) if searched.log else one for one in (searched.low, searched.high, value))
    margin = 0.0 if searched.spacing else AT_END * (high - low)
    if low >= high:
        return None
    return "low" if here <= low + margin else "high" if here >= high - margin else None


def _wider(searched: Dimension, end: End, bounds: Bounds) -> Dimension | None:
    """Return a wider range or choice; None if its end is that of what is possible."""
    if isinstance(searched, Choice):
        numbers = _numbers(searched)
        beyond = _within(_next_option(numbers, end), _limit(searched, end), end, bounds)
        return None if beyond is None else Choice((beyond, *numbers) if end == "low" else (*numbers, beyond))
    limit = _limit(searched, end)
    beyond = _within(_moved(searched, end), limit, end, bounds)
    if beyond is None:
        return None
    return replace(searched, low=beyond) if end == "low" else replace(searched, high=beyond)


def _next_option(numbers: list[Number], end: End) -> Number:
    if end == "high":
        return _rounded(2 * numbers[-1] - numbers[-2], numbers)
    lower = 2 * numbers[0] - numbers[1]
    return _rounded(lower if lower > 0 or numbers[0] <= 0 else numbers[0] / 2, numbers)


def _rounded(number: Number, like: list[Number]) -> Number:
    return round(number) if all(isinstance(one, int) for one in like) else float(f"{number:.3g}")


def _moved(searched: Range, end: End) -> Number:
    """Return the end of a range, moved outwards to a round number."""
    low, high, spacing = searched.low, searched.high, searched.spacing
    if searched.log:
        moved = low / FACTOR if end == "low" else high * FACTOR
        return max(1, round(moved)) if searched.is_whole else float(f"{moved:.1g}")
    distance = SHARE * (high - low)
    if spacing:
        distance = spacing * math.ceil(distance / spacing)
    moved = low - distance if end == "low" else high + distance
    return round(moved) if searched.is_whole else float(f"{moved:.2g}")


def _within(beyond: Number, limit: Number, end: End, bounds: Bounds) -> Number | None:
    """Return a value beyond a limit, as far as it is possible; None if nothing is."""
    inside = max(beyond, bounds.low) if end == "low" else min(beyond, bounds.high)
    is_beyond = inside < limit if end == "low" else inside > limit
    return inside if is_beyond and bounds.contains(inside) else None


def _replaced(key: str, searched: Dimension) -> str:
    """Return the override that replaces a range or choice, in quotes for a shell."""
    if isinstance(searched, Choice):
        return f"'{key}={{choice: [{', '.join(f'{one:g}' for one in _numbers(searched))}]}}'"
    step = "" if searched.step is None else f", step: {searched.step:g}"
    return f"'{key}={{low: {searched.low:g}, high: {searched.high:g}{', log: true' if searched.log else ''}{step}}}'"
