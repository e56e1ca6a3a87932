"""Which learning-rate schedule, with which settings, is best for my model and my data, and can I trust the answer?

lr_trace(family, params, steps): the LR of every update, float64 [steps].
load(name | folder): a stored sweep, with .trials and .families (pandas) and .trace(study, trial).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.answer.stored import Sweep, load
    from sweeper.schedules import lr_trace

__all__ = ["Sweep", "load", "lr_trace"]

_WHERE = {"Sweep": "sweeper.answer.stored", "load": "sweeper.answer.stored", "lr_trace": "sweeper.schedules"}


def __getattr__(name: str) -> Any:
    """Heavy imports happen at first use: `import sweeper` takes milliseconds."""
    if name not in _WHERE:
        raise AttributeError(f"module 'sweeper' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
