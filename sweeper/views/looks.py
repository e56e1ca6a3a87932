"""How each study of a sweep is drawn: color, dashes and marker, the same in all its figures.

Related families share a color. Dashes and markers tell them apart, so no two studies depend on color alone or look the
same: families of users, and several studies of one family, get the next free dashes and marker of their color.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.text.colors import KIN, kin_of

if TYPE_CHECKING:
    from sweeper.types import Record

Dash = str | tuple[float, tuple[float, ...]]  # as matplotlib takes it

# The first four are for the catalog's families of one color, the others for families of users and further studies.
DASHES: tuple[Dash, ...] = (
    "solid",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (4, 1, 1, 1)),
    (0, (8, 1, 1, 1, 1, 1)),
    (0, (10, 3)),
    (0, (3, 3)),
    (0, (12, 2, 4, 2)),
)
MARKERS = ("o", "s", "^", "D", "P", "v", "*", "X")
FREE = 4  # the first place that no family of the catalog has


@dataclass(frozen=True)
class Look:
    """Color, dash pattern and marker, as matplotlib takes them."""

    color: str
    dash: Dash
    marker: str


def look(family: str) -> Look:
    """Return how a family is drawn when it is the only one of its color."""
    color, place = kin_of(family)
    return _look(color, place if place >= 0 else FREE)


def looks(families: Mapping[str, str]) -> dict[str, Look]:
    """Return how each study is drawn, no two alike.

    Args:
        families: The family of each study.
    """
    taken: set[tuple[str, int]] = set()
    found = {}
    for study in sorted(families, key=lambda study: (kin_of(families[study])[1] < 0, study)):
        color, place = kin_of(families[study])
        if place < 0 or (color, place) in taken:
            free = itertools.chain(range(FREE, len(DASHES)), range(FREE), itertools.count(len(DASHES)))
            place = next(place for place in free if (color, place) not in taken)
        taken.add((color, place))
        found[study] = _look(color, place)
    return found


def looks_of(records: Iterable[Record]) -> dict[str, Look]:
    """Return how each study of these trials is drawn."""
    return looks({record.study: record.family for record in records if not record.prior_of})


def numbered(count: int) -> list[Look]:
    """Return so many looks for the trials of one study."""
    colors = [color for color, _ in KIN]
    return [_look(colors[place % len(colors)], place) for place in range(count)]


def _look(color: str, place: int) -> Look:
    """Return the look at a place of a color. A marker has other dashes each time that the places begin again."""
    return Look(color, DASHES[place % len(DASHES)], MARKERS[(place + place // len(DASHES)) % len(MARKERS)])
