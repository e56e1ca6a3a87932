"""Which learning-rate schedule, with which settings, is best for my model and my data, and can I trust the answer?

sweep(task, families, ...)         train a sweep, or resume it; returns a Sweep
find_lr(task, ...)                 find the LRs to search, with an LR range test
load(name)                         open a stored Sweep
retune(old, task, ...)             tune again for another question, and compare with the old winner
lr_trace(family, params, steps)    the LR of every update, float64 [steps]
InputError                         something the user gave cannot be used
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.api import Sweep, find_lr, load, retune, sweep
    from sweeper.schedules import lr_trace
    from sweeper.types import InputError

__version__ = "0.1.0"
__all__ = ["InputError", "Sweep", "find_lr", "load", "lr_trace", "retune", "sweep"]

_WHERE = {
    "InputError": "sweeper.types",
    "Sweep": "sweeper.api",
    "find_lr": "sweeper.api",
    "load": "sweeper.api",
    "lr_trace": "sweeper.schedules",
    "retune": "sweeper.api",
    "sweep": "sweeper.api",
}


def __getattr__(name: str) -> Any:
    """Heavy imports happen at first use: `import sweeper` takes milliseconds."""
    if name not in _WHERE:
        raise AttributeError(f"module 'sweeper' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
