"""A step along given directions, with momentum and decoupled weight decay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def descend(optimizer: torch.optim.Optimizer, directions: Mapping[Tensor, Tensor]) -> None:
    """Update w -= LR (b + weight_decay w) with b = momentum b + d, for each weight w that has a direction d.

    Args:
        optimizer: Its groups have lr, momentum and weight_decay; its state holds b as "momentum_buffer".
        directions: The direction of each weight, in the weight's shape.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight not in directions:
                continue
            direction = directions[weight]
            if group["momentum"]:
                state = optimizer.state[weight]
                buffer = state.get("momentum_buffer")
                state["momentum_buffer"] = direction = (
                    direction.clone() if buffer is None else buffer.mul_(group["momentum"]).add_(direction)
                )
            weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
