"""Check one value of the configuration: a whole number, a number, a switch. Errors name the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite

from sweeper.types import InputError, did_you_mean


def parse_whole(key: str, value: object, least: int = 1) -> int:
    """Return a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(key, value, f"not a whole number of at least {least}", "Write one, such as 20")
    return value


def parse_positive(key: str, value: object, unit: str = "", example: str = "10") -> float:
    """Return a finite number above 0. For the error: `unit`, such as " of seconds", and an `example`."""
    if not is_number(value) or not 0 < value < inf:  # type: ignore[operator] # it is a number
        raise InputError(key, value, f"not a positive number{unit}", f"Write one, such as {example}")
    return value  # type: ignore[return-value] # an int stays one: it is stored as it was written


def parse_switch(key: str, value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise InputError(key, value, "neither true nor false", "Write true or false")
    return value


def check_keys(section: str, node: object, known: Sequence[str]) -> None:
    """Raise InputError for a key of a section that nothing reads, or a section that is not a mapping."""
    if not isinstance(node, Mapping):
        shown = "null" if node is None else node
        raise InputError(section, shown, "not a mapping of keys", f"Set {section}.{known[0]}=... and the like")
    for key, value in node.items():
        if key not in known:
            raise InputError(f"{section}.{key}", value, "no such key", did_you_mean(key, known))


def is_number(value: object) -> bool:
    """Whether a value is a finite number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
