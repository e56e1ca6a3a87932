"""Dotted paths that stored sweeps name and that are called otherwise today."""

from __future__ import annotations

from typing import Any

MOVED = {"sweeper.training.probe.ProbedTrainer": "sweeper.training.lanes.probe.ProbedTrainer"}


def with_current_paths(stored: Any) -> Any:
    """The stored configuration with each `_target_` that has moved at the path it has today."""
    if isinstance(stored, dict):
        return {
            key: MOVED.get(value, value) if key == "_target_" else with_current_paths(value)
            for key, value in stored.items()
        }
    return [with_current_paths(value) for value in stored] if isinstance(stored, list) else stored
