"""Checks of counts and of dropout rates."""

from __future__ import annotations


def check_counts(owner: str, least: int, **numbers: int) -> None:
    """Check that numbers are counts.

    Args:
        owner: The config group in the error: "data" or "model".
        least: The smallest count allowed.
        numbers: The numbers by config key.

    Raises:
        ValueError: If a number is not a whole number of at least `least`.
    """
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{owner}.{name}={number}: not a count. Choose a whole number of at least {least}")


def check_dropout(dropout: float) -> None:
    """Check a dropout rate.

    Raises:
        ValueError: If it is outside [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"model.dropout={dropout}: must be the fraction of units to drop. Choose a number in [0, 1)")
