"""The length of a trial in updates, and the length of an epoch if schedules run by epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from sweeper.spec.values import parse_positive, parse_whole
from sweeper.types import InputError

UNITS = ("step", "epoch")


class HorizonNode(TypedDict):
    """Keys of `train` that set the length of a trial."""

    steps: int | None
    epochs: float | None
    batch_size: int


def horizon(train: HorizonNode, schedule_unit: object, size: Callable[[], int]) -> tuple[int, float | None]:
    """Return the updates of a trial, and those of an epoch if schedules hold each LR through an epoch.

    Args:
        train: The keys of `train`.
        schedule_unit: `schedule_unit`, "step" or "epoch".
        size: Returns the number of training examples; called only if epochs count.

    Raises:
        InputError: If there is no such length.
    """
    batch_size = parse_whole("train.batch_size", train["batch_size"])
    steps = _steps(train, size, batch_size)
    return steps, _epoch(schedule_unit, steps, size, batch_size)


def _steps(train: HorizonNode, size: Callable[[], int], batch_size: int) -> int:
    """Return the updates of a trial: `train.steps`, or those of `train.epochs`."""
    steps, epochs = train["steps"], train["epochs"]
    remedy = "Write train.steps=null train.epochs=10, in Python epochs=10 alone"
    if steps is None and epochs is None:
        raise InputError("train.steps", "null", "neither steps nor epochs are set", remedy)
    if steps is not None and epochs is not None:
        raise InputError("train.epochs", epochs, f"train.steps={steps} is set, too", remedy)
    if steps is not None:
        return parse_whole("train.steps", steps)
    return max(1, round(parse_positive("train.epochs", epochs) * size() / batch_size))


def _epoch(unit: object, steps: int, size: Callable[[], int], batch_size: int) -> float | None:
    """Return the updates of an epoch, whole or not, if `schedule_unit` is "epoch". A trial needs two epochs then."""
    if unit not in UNITS:
        raise InputError("schedule_unit", unit, "no such unit", f"Choose {' or '.join(UNITS)}")
    if unit == "step":
        return None
    epoch = size() / batch_size
    if round(steps / epoch) < 2:
        length = f"a trial of {steps} updates is {steps / epoch:.2g} epochs long ({epoch:.4g} updates each)"
        remedy = "Write schedule_unit=step, or train two epochs or more: train.steps=null train.epochs=10"
        raise InputError("schedule_unit", unit, f"{length}, so the LR would hardly change", remedy)
    return epoch
