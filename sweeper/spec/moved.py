"""Names that have changed or were removed: import paths of stored sweeps, and choices of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeper.importing import REMOVED
from sweeper.spec.aliases import similar
from sweeper.types import InputError

MOVED = {"sweeper.training.probe.ProbedTrainer": "sweeper.training.lanes.probe.ProbedTrainer"}
REMOVED_CHOICES = {
    ("optimizer", "adahessian"): "sweeper.training.optimizers.adahessian",
    ("optimizer", "asgd"): "sweeper.training.optimizers.asgd",
}  # the module that went with the file of conf/


def with_current_paths(stored: Any) -> Any:
    """Return the stored configuration with the current path of each `_target_`."""
    if isinstance(stored, dict):
        return {
            key: MOVED.get(value, value) if key == "_target_" else with_current_paths(value)
            for key, value in stored.items()
        }
    return [with_current_paths(value) for value in stored] if isinstance(stored, list) else stored


def no_such_choice(group: str, choice: str, options: Sequence[str]) -> InputError:
    """Return the error for a choice without a file: what replaces it if it was removed, else the closest option."""
    module = REMOVED_CHOICES.get((group, choice))
    if module is not None:
        return InputError(group, choice, "no longer part of sweeper", REMOVED[module])
    return InputError(group, choice, "no such choice", similar(group, choice, options))
