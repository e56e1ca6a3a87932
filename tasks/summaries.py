"""What data say in the first line of a sweep's output: how the target was understood, and what was standardized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LISTED = 5  # names of classes


def classification(classes: int, names: Sequence[Any] = ()) -> str:
    """Return "classification, 3 classes (cat, dog, owl)".

    Args:
        classes: Number of classes.
        names: Names of the classes; empty if they have none.
    """
    listed = ", ".join(str(name) for name in names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    return f"classification, {classes} classes" + (f" ({listed})" if names else "")


def regression(target: str, values: Any) -> str:
    """Return "regression on y (442 different values)", which shows if classes were given as floats.

    Args:
        target: Name of the target.
        values: All its values.
    """
    count = np.unique(np.asarray(values)).size
    return f"regression on {target} ({count} different value{'' if count == 1 else 's'})"


def standardization(things: Sequence[str]) -> str:
    """Return "10 inputs and the target are standardized"."""
    verb = "is" if len(things) == 1 and things[0].startswith(("the ", "1 ")) else "are"
    return f"{' and '.join(things)} {verb} standardized"


def count_of(number: int, noun: str) -> str:
    """Return "1 input", "2 inputs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
