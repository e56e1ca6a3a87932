"""Import paths in stored sweeps that have changed since."""

from __future__ import annotations

from typing import Any

MOVED = {"sweeper.training.probe.ProbedTrainer": "sweeper.training.lanes.probe.ProbedTrainer"}


def with_current_paths(stored: Any) -> Any:
    """Return the stored configuration with the current path of each `_target_`."""
    if isinstance(stored, dict):
        return {
            key: MOVED.get(value, value) if key == "_target_" else with_current_paths(value)
            for key, value in stored.items()
        }
    return [with_current_paths(value) for value in stored] if isinstance(stored, list) else stored
