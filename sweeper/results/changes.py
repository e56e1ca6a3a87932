"""A change of the configuration under which a confirmation repeats its comparison (`confirm.vary`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sweeper.types import Number

LEVEL = 0.05  # of a contrast under a change, not adjusted for their number

Written = str | Number  # "x0.5" or 0.01


class Change(NamedTuple):
    """One hyperparameter at another value, or at its own one times a factor.

    Attributes:
        key: Its config path, such as "optimizer.weight_decay".
        number: The value, or the factor.
        is_factor: Whether it is a factor.
    """

    key: str
    number: Number
    is_factor: bool = False

    @property
    def written(self) -> Written:
        """The value as it is written: "x0.5" for a factor."""
        return f"x{self.number:.12g}" if self.is_factor else self.number

    @property
    def suffix(self) -> str:
        """What tells the studies of this change from others: "train.steps=x2"."""
        return f"{self.key}={self.written}"

    def apply(self, value: Number) -> Number:
        """Return what takes the place of a value, before it is rounded."""
        return self.number * value if self.is_factor else self.number


def change_of(key: str, written: Written) -> Change:
    """Return the change that is written so. A ValueError if it is neither "x" and a number, nor a number."""
    if not isinstance(written, str):
        return Change(key, written)
    return Change(key, float(written.removeprefix("x")), written.startswith("x"))


def by_key(changes: Sequence[Change]) -> dict[str, list[Written]]:
    """Return the changes as they are written, by key."""
    return {one.key: [other.written for other in changes if other.key == one.key] for one in changes}


def from_keys(written: Mapping[str, Sequence[Written]]) -> tuple[Change, ...]:
    """Return the changes that `by_key` wrote."""
    return tuple(change_of(key, one) for key, several in written.items() for one in several)
