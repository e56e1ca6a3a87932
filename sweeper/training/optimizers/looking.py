"""Optional methods of an optimizer in addition to `step()`.

A trainer calls these methods if the optimizer has them:

- `look(forward)` is called between the forward and the backward pass of every update, and may differentiate the outputs
  and losses. It must keep the graph (`retain_graph=True`) for the backward pass and must not change `.grad`. It draws
  by `forward.key`, never from a global generator, so that an update depends on its job alone.
- `eval()` and `train()` change the weights to those to evaluate, and back (the averages of schedule-free optimizers).
- `multiplier()` returns what the last update multiplied its group's LR by, a tensor [] on the weights' device.

A constructor whose first parameter is called `model` gets the model instead of its parameters.
See docs/decisions/0008-optimizers.md.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sweeper.types import Task


class Forward(NamedTuple):
    """The forward pass of an update.

    Attributes:
        task: What is trained.
        model: The model.
        inputs_B: Inputs of the batch.
        target_B: Its targets.
        output_B: task.forward(model, inputs_B).
        loss_B: task.loss(output_B, target_B).
        key: 32 bits that only this update has: sweeper.training.randomness.key_of(seed, LOOK, update).
    """

    task: Task
    model: nn.Module
    inputs_B: Any
    target_B: Tensor
    output_B: Any
    loss_B: Tensor
    key: int


def has_model_argument(target: Callable[..., Any]) -> bool:
    """Return whether a constructor takes the model instead of its parameters."""
    return next(iter(inspect.signature(target).parameters), "") == "model"


@contextlib.contextmanager
def evaluated_weights(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Switch to the weights to evaluate, and restore the weights of the training bit for bit at the end.

    Args:
        optimizer: Its `eval` and `train` are called, if it has them.
        parameters: All parameters that `eval` may change.
    """
    if not callable(getattr(optimizer, "eval", None)):
        yield
        return
    copies = [parameter.detach().clone() for parameter in parameters]
    optimizer.eval()  # type: ignore[attr-defined] # optional
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined] # optional
        with torch.no_grad():
            for parameter, value in zip(parameters, copies, strict=True):
                parameter.copy_(value)
