"""What is trained: data, models, and what is a loss. Knows nothing of sweeper.

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
}


if __name__ != "sweeper.tasks":  # a second name would make every class twice, and ours the user's own code
    raise ImportError(f"import sweeper.tasks, not {__name__}: this folder is the package's part `sweeper.tasks`")


def __getattr__(name: str) -> Any:
    """Imports torch at first use alone."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
