"""The recipe of a sweep's trials: optimizer, batches, precision, clipping, and the average of the weights.

Every trainer follows it, so a trial has the same results from each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    """How every trial of a sweep is trained. The LR comes with the job.

    Attributes:
        optimizer: The optimizer and its fixed options. A trial's "optimizer.<option>" replaces one.
        batch_size: Examples of an update.
        precision: "float32", "float64", or "bfloat16": weights and optimizer are float32, and forward passes run under
            torch.autocast.
        clip: Largest L2 norm of an update's gradients. Larger ones are scaled down, as by
            torch.nn.utils.clip_grad_norm_. None for no clipping.
        accumulate: Micro-batches of an update, whose gradients are summed.
        ema: Decay of the average of the weights; None for no average.
        norms: Whether reports have the traces of sweeper.training.norms.

    Raises:
        InputError: If a batch cannot be divided. The bounds of each value are in `spec.keys`, and `check_optimizer`
            checks the optimizer.
    """

    optimizer: OptimizerSpec
    batch_size: int
    precision: str = "float32"
    clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    norms: bool = True

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            problem = f"train.batch_size={self.batch_size} cannot be divided into {self.accumulate} equal parts"
            raise InputError("train.accumulate", self.accumulate, problem, "Use a divisor of the batch size")

    @property
    def settings(self) -> tuple[object, ...]:
        """What changes a training's results, in the form that the digests of stored checkpoints have."""
        keys = ("precision", "clip", "accumulate", "ema")
        update = ", ".join(f"{key}={getattr(self, key)!r}" for key in keys)
        return self.batch_size, _Verbatim(f"Recipe({update})"), sorted(self.optimizer.node().items())

    @property
    def weights(self) -> torch.dtype:
        """Type of the weights."""
        return WEIGHTS[self.precision]

    def half(self, device: torch.device) -> Half | None:
        """Return the settings of mixed precision on `device`; None in full precision."""
        return Half(device.type, HALF[self.precision]) if self.precision in HALF else None


# --- the average of the weights ---------------------------------------------------------------------


def newest_share(ema: float, first: int, count: int) -> Floats:
    """Return the share of the newest weights in the average, for `count` updates.

    After update t, counted from 1, it is 1 - min(ema, (t - 1) / (t + 8)). So the average starts at the weights after
    the first update and early on covers about the last tenth of the run.

    Args:
        ema: Decay of the average.
        first: Number of the first update, counted from 0.
        count: Number of updates S.

    Returns:
        The shares, float64 [S].

    Source:
        num_updates in tf.train.ExponentialMovingAverage, which counts one update more.
    """
    step_S = np.arange(first + 1, first + 1 + count, dtype=np.float64)
    share_S: Floats = 1 - np.minimum(ema, (step_S - 1) / (step_S + 8))
    return share_S


def update_average(average: list[Tensor], weights: Sequence[Tensor], share: float) -> None:
    """Move the average towards the weights by `share`, in place. An empty average becomes a copy of them."""
    with torch.no_grad():
        if average:
            torch._foreach_lerp_(average, list(weights), share)
        else:
            average.extend(weight.detach().clone() for weight in weights)


@contextlib.contextmanager
def swap_in_average(weights: Sequence[nn.Parameter], average: Sequence[Tensor]) -> Iterator[None]:
    """Replace the weights by their average for a block of code, if there is one, then restore them."""
    originals = [weight.data for weight in weights]
    try:
        for weight, value in zip(weights, average, strict=False):
            weight.data = value
        yield
    finally:
        for weight, value in zip(weights, originals, strict=True):
            weight.data = value


class _Verbatim(str):
    """A string whose repr is the string itself."""

    def __repr__(self) -> str:
        return str(self)
