"""The check of numbers that count something."""

from __future__ import annotations


def whole(owner: str, least: int, **numbers: int) -> None:
    """Raise ValueError, naming `owner`.name=value, for a number that is no whole one of at least `least`."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{owner}.{name}={number}: this is no count. Choose a whole number of at least {least}.")
