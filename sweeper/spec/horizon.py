"""The length of a trial in updates, and the length of an epoch if schedules run by epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from sweeper.spec.keys import LONGEST
from sweeper.types import InputError


class HorizonNode(TypedDict):
    """Keys of `train` that set the length of a trial."""

    steps: int | None
    epochs: float | None
    batch_size: int


def horizon(train: HorizonNode, schedule_unit: str, size: Callable[[], int]) -> tuple[int, float | None]:
    """Return the updates of a trial, and those of an epoch if schedules hold each LR through an epoch.

    Args:
        train: The keys of `train`.
        schedule_unit: `schedule_unit`, "step" or "epoch".
        size: Returns the number of training examples; called only if epochs count.

    Raises:
        InputError: If there is no such length.
    """
    steps = _steps(train, size)
    return steps, _epoch(steps, size() / train["batch_size"]) if schedule_unit == "epoch" else None


def _steps(train: HorizonNode, size: Callable[[], int]) -> int:
    """Return the updates of a trial: `train.steps`, or those of `train.epochs`."""
    steps, epochs = train["steps"], train["epochs"]
    if steps is None and epochs is None:
        remedy = "Write train.steps=1000 or train.epochs=10"
        raise InputError("train.steps", "null", "neither steps nor epochs are set", remedy)
    if steps is not None and epochs is not None:
        raise InputError("train.epochs", epochs, f"train.steps={steps} is set, too", "Leave one of them out")
    if epochs is None:
        assert steps is not None
        return steps
    updates = epochs * size() / train["batch_size"]
    if updates > LONGEST:
        raise InputError(
            "train.epochs", epochs, f"a trial would have {updates:.2g} updates", f"Write fewer: at most {LONGEST:,}"
        )
    return max(1, round(updates))


def _epoch(steps: int, epoch: float) -> float:
    """Return the updates of an epoch, whole or not. A trial of `steps` updates needs two epochs."""
    if round(steps / epoch) < 2:
        length = f"a trial of {steps} updates is {steps / epoch:.2g} epochs long ({epoch:.4g} updates each)"
        remedy = "Write schedule_unit=step, or train two epochs or more: train.epochs=10"
        raise InputError("schedule_unit", "epoch", f"{length}, so the LR would hardly change", remedy)
    return epoch
