"""The check of numbers that count something, and of dropout rates."""

from __future__ import annotations


def check_counts(owner: str, least: int, **numbers: int) -> None:
    """Raise ValueError, naming `owner`.name=value, for a number that is no whole one of at least `least`."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{owner}.{name}={number}: this is no count. Choose a whole number of at least {least}.")


def check_dropout(dropout: float) -> None:
    """Raise ValueError for a dropout rate outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"model.dropout={dropout}: it is the fraction of units dropped. Choose one in [0, 1).")
