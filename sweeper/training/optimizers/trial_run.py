"""Three updates of a tiny model, which show whether an optimizer uses the LR of each update in that update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.training.optimizers.looking import Forward

LRS = (1e-3, 1e-3, 1e-2)  # of the updates; a second run has 1e-3 in the last one


def is_lr_ignored(build: Callable[[nn.Module], torch.optim.Optimizer]) -> bool:
    """Return whether another LR in the last update leads to the same weights, bit for bit, in float64.

    Return False if an update fails (an optimizer may need sparse gradients). The trial itself will report why.

    Args:
        build: Returns an optimizer of a model.
    """
    try:
        return torch.equal(_weights_after(build, LRS), _weights_after(build, (LRS[0],) * len(LRS)))
    except Exception:
        return False


def has_one_lr(build: Callable[[nn.Module], torch.optim.Optimizer]) -> bool:
    """Return whether the second of two groups moves although its LR is almost 0.

    Optimizers that estimate one LR for all groups do this. Return False if an update fails.

    Args:
        build: Returns an optimizer of a model with two weights, each in a group.
    """
    try:
        change = (_weights_after(build, LRS, (1.0, 1e-9)) - _flat(tiny_model())).abs()
    except Exception:
        return False
    first, second = change.chunk(2)
    return bool(second.max() > 1e-3 * first.max())


def tiny_model() -> nn.Sequential:
    """Return a model of two float64 matrices with fixed weights. Nothing is drawn."""
    model = nn.Sequential(
        *(nn.Linear(2, 2, bias=False, device="meta", dtype=torch.float64) for _ in range(2))
    ).to_empty(device="cpu")
    with torch.no_grad():
        for number, weight in enumerate(model.parameters(), start=1):
            weight.copy_(torch.sin(torch.arange(1.0, weight.numel() + 1) * number).view_as(weight))
    return model


def _weights_after(
    build: Callable[[nn.Module], torch.optim.Optimizer], lrs: tuple[float, ...], factors: tuple[float, ...] = (1.0, 1.0)
) -> Tensor:
    """Return the weights of the tiny model after updates with these LRs.

    Args:
        build: Returns an optimizer of a model.
        lrs: LR of each update.
        factors: Factor of the LR of each group; those beyond the last group are not used.
    """
    model, inputs_B = tiny_model(), torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.3, -2.0]], dtype=torch.float64)
    target_B = torch.tensor([0, 1, 1])
    optimizer = build(model)
    for lr in lrs:
        for group, factor in zip(optimizer.param_groups, factors, strict=False):
            group["lr"] = lr * factor
        optimizer.zero_grad()
        output_B = _Classification.forward(model, inputs_B)
        loss_B = _Classification.loss(output_B, target_B)
        if hasattr(optimizer, "look"):
            optimizer.look(Forward(_Classification, model, inputs_B, target_B, output_B, loss_B, 0))  # type: ignore[arg-type]
        loss_B.mean().backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        optimizer.step()
    return _flat(model)


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


class _Classification:
    """The part of a task that an optimizer uses."""

    @staticmethod
    def forward(model: nn.Module, inputs_B: Any) -> Tensor:
        output_B: Tensor = model(inputs_B)
        return output_B

    @staticmethod
    def loss(output_B: Tensor, target_B: Tensor) -> Tensor:
        return functional.cross_entropy(output_B, target_B, reduction="none")
