"""What is trained: data, models and losses. Imports nothing from the rest of sweeper.

from sweeper.tasks import Arrays, Supervised

task = Supervised(Arrays(X, y), Net)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arrays import Arrays
    from .digits import Digits
    from .models import MLP, NGram
    from .problems import CLASSIFICATION, REGRESSION, Problem, Supervised
    from .streamed import Streamed
    from .tabular import Table
    from .text import NextByte

__all__ = [
    "CLASSIFICATION",
    "MLP",
    "REGRESSION",
    "Arrays",
    "Digits",
    "NGram",
    "NextByte",
    "Problem",
    "Streamed",
    "Supervised",
    "Table",
]

_WHERE = {
    "Arrays": "arrays",
    "Digits": "digits",
    "NextByte": "text",
    "MLP": "models",
    "NGram": "models",
    "CLASSIFICATION": "problems",
    "REGRESSION": "problems",
    "Problem": "problems",
    "Streamed": "streamed",
    "Supervised": "problems",
    "Table": "tabular",
}


# Under a second name every class would exist twice, and ours would count as the user's own code.
if __name__ != "sweeper.tasks":
    raise ImportError(f"import sweeper.tasks, not {__name__}: this folder is the package `sweeper.tasks`")


def __getattr__(name: str) -> Any:
    """Import a module at the first use of one of its names, so that importing this package does not import torch."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
