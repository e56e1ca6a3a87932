"""What an optimizer may have beside `step()`: a look at the forward pass, weights to evaluate, an LR of its own.

Each of these methods is optional, and a trainer calls it where it is there:

- `look(forward)`, between the forward and the backward pass of every update, may differentiate what it sees. It keeps
  the graph (`retain_graph=True`) for the backward pass, leaves `.grad` alone, and draws by `forward.key`, never from a
  global generator, so that an update stays a function of its job.
- `eval()` and `train()` turn the weights into those to evaluate, and back (schedule-free's averages).
- `multiplier()`, a tensor [] on the weights' device: what the last update multiplied its group's LR by.

A constructor whose first parameter is called `model` is given the model in place of its parameters.
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
    """A forward pass: loss_B = task.loss(output_B, target_B) of output_B = task.forward(model, inputs_B).

    key: 32 bits that are this update's alone, sweeper.training.randomness.key_of(seed, LOOK, update).
    """

    task: Task
    model: nn.Module
    inputs_B: Any
    target_B: Tensor
    output_B: Any
    loss_B: Tensor
    key: int


def has_model_argument(target: Callable[..., Any]) -> bool:
    """Whether a constructor asks for the model in place of its parameters."""
    return next(iter(inspect.signature(target).parameters), "") == "model"


@contextlib.contextmanager
def evaluated_weights(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Iterator[None]:
    """The weights to evaluate within; afterwards those of the training, to the last bit."""
    if not callable(getattr(optimizer, "eval", None)):
        yield
        return
    kept = [parameter.detach().clone() for parameter in parameters]
    optimizer.eval()  # type: ignore[attr-defined] # optional
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined] # optional
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
