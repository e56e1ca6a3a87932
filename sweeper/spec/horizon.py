"""How long a trial is: its updates, and those of an epoch through which an LR is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from sweeper.spec.values import parse_positive, parse_whole
from sweeper.types import InputError

UNITS = ("step", "epoch")


class HorizonNode(TypedDict):
    """Keys of `train` that say how long a trial is."""

    steps: int | None
    epochs: float | None
    batch_size: int


def horizon(train: HorizonNode, schedule_unit: object, size: Callable[[], int]) -> tuple[int, float | None]:
    """Updates of a trial, and of an epoch where the schedules hold each LR through one.

    size: how many examples there are to train on; asked only where epochs are counted. Raises InputError.
    """
    batch_size = parse_whole("train.batch_size", train["batch_size"])
    steps = _steps(train, size, batch_size)
    return steps, _epoch(schedule_unit, steps, size, batch_size)


def _steps(train: HorizonNode, size: Callable[[], int], batch_size: int) -> int:
    """Updates of a trial: `train.steps`, or as many as `train.epochs` take."""
    steps, epochs = train["steps"], train["epochs"]
    remedy = "Write train.steps=null train.epochs=10, in Python epochs=10 alone"
    if steps is None and epochs is None:
        raise InputError("train.steps", "null", "the horizon needs steps or epochs", remedy)
    if steps is not None and epochs is not None:
        raise InputError("train.epochs", epochs, f"the horizon is given already, by train.steps={steps}", remedy)
    if steps is not None:
        return parse_whole("train.steps", steps)
    return max(1, round(parse_positive("train.epochs", epochs) * size() / batch_size))


def _epoch(unit: object, steps: int, size: Callable[[], int], batch_size: int) -> float | None:
    """Updates of an epoch, whole or not, where `schedule_unit` is epoch; a run of one epoch has nothing to schedule."""
    if unit not in UNITS:
        raise InputError("schedule_unit", unit, "not a unit of schedules", f"Choose {' or '.join(UNITS)}")
    if unit == "step":
        return None
    epoch = size() / batch_size
    if round(steps / epoch) < 2:
        told = f"a trial of {steps} updates is {steps / epoch:.2g} epochs long ({epoch:.4g} updates each)"
        remedy = "Write schedule_unit=step, or train two epochs or more: train.steps=null train.epochs=10"
        raise InputError("schedule_unit", unit, f"{told}, so that the LR would hardly change", remedy)
    return epoch
