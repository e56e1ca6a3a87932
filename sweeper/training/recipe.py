"""How every trial of a sweep is trained: its optimizer, batches, precision, clipping, and the average of its weights.

Every trainer does what is said here, so that a trial gets the same numbers from each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.training.evaluation import Half
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.types import Floats, InputError

WEIGHTS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}  # by precision
HALF = {"bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """How every trial of a sweep is trained; the LR comes with the job.

    Args:
        optimizer: Without what is searched. A trial's "optimizer.<option>" replaces an option.
        batch_size: Examples of an update.
        precision: float32 or float64; bfloat16: weights and optimizer in float32, forward passes under torch.autocast.
        clip: The largest L2 norm of an update's gradients, which are scaled down to it as by
            torch.nn.utils.clip_grad_norm_. None: no clipping.
        accumulate: Micro-batches of an update, whose gradients are summed.
        ema: The decay of the average of the weights. None: no average.
        norms: Whether reports have the traces of sweeper.training.norms.

    Raises:
        InputError: for what no trainer can do. The optimizer is checked by `check_optimizer`.
    """

    optimizer: OptimizerSpec
    batch_size: int
    precision: str = "float32"
    clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    norms: bool = True

    def __post_init__(self) -> None:
        check_precision(self.precision)
        batch_size, clip, accumulate, ema = self.batch_size, self.clip, self.accumulate, self.ema
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(
                "train.batch_size", batch_size, "not a whole number of at least 1", "Write one, such as 20"
            )
        if clip is not None and not (_is_number(clip) and 0 < clip < float("inf")):
            raise InputError(
                "train.clip", clip, "no norm that gradients could have", "Write one, such as 1.0, or null."
            )
        if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
            told = "no number of micro-batches"
            raise InputError("train.accumulate", accumulate, told, "Write one, such as 4; 1: none.")
        if batch_size % accumulate:
            problem = f"train.batch_size={batch_size} cannot be cut into so many equal parts"
            raise InputError("train.accumulate", accumulate, problem, "Use a divisor of the batch size.")
        if ema is not None and not (_is_number(ema) and 0 < ema < 1):
            raise InputError("train.ema", ema, "no decay between 0 and 1", "Write one, such as 0.999, or null.")

    @property
    def settings(self) -> tuple[object, ...]:
        """What changes a training's numbers, as the digests of stored checkpoints have it."""
        keys = ("precision", "clip", "accumulate", "ema")
        update = ", ".join(f"{key}={getattr(self, key)!r}" for key in keys)
        return self.batch_size, _Verbatim(f"Recipe({update})"), sorted(self.optimizer.node().items())

    @property
    def weights(self) -> torch.dtype:
        return WEIGHTS[self.precision]

    def half(self, device: torch.device) -> Half | None:
        return Half(device.type, HALF[self.precision]) if self.precision in HALF else None


def check_precision(precision: object) -> None:
    """Raises InputError; float16 needs a loss scale, by which some updates of a schedule would be left out."""
    if precision == "float16":
        problem = "its gradients underflow without a loss scale, which leaves out updates of the schedule"
        raise InputError("train.precision", precision, problem, "Use bfloat16, or float32.")
    if precision not in WEIGHTS:
        raise InputError("train.precision", precision, "is not supported", f"Use one of {', '.join(WEIGHTS)}.")


# --- the average of the weights ---------------------------------------------------------------------


def newest_share(ema: float, first: int, count: int) -> Floats:
    """[S]: what the weights after updates first .. first + S - 1 weigh in their average.

    With t = first + 1, first + 2, ... that is 1 - min(ema, (t - 1) / (t + 8)). The average starts at the weights after
    the first update, and early on it forgets them: it is over the last tenth or so of the run, as with num_updates in
    tf.train.ExponentialMovingAverage, which counts one more.
    """
    step_S = np.arange(first + 1, first + 1 + count, dtype=np.float64)
    share_S: Floats = 1 - np.minimum(ema, (step_S - 1) / (step_S + 8))
    return share_S


def update_average(average: list[Tensor], weights: Sequence[Tensor], share: float) -> None:
    """Moves the average towards the weights, in place; an empty one becomes them."""
    with torch.no_grad():
        if average:
            torch._foreach_lerp_(average, list(weights), share)
        else:
            average.extend(weight.detach().clone() for weight in weights)


@contextlib.contextmanager
def swap_in_average(weights: Sequence[nn.Parameter], average: Sequence[Tensor]) -> Iterator[None]:
    """The model has the average for its weights within, where there is one."""
    held = [weight.data for weight in weights]
    try:
        for weight, value in zip(weights, average, strict=False):
            weight.data = value
        yield
    finally:
        for weight, value in zip(weights, held, strict=True):
            weight.data = value


class _Verbatim(str):
    """A text that is its own repr."""

    def __repr__(self) -> str:
        return str(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
