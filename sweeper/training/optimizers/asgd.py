"""Averaged SGD (Polyak and Juditsky 1992), which evaluates the average of the weights.

torch.optim.ASGD applies an LR one update late, and does not evaluate the average.
"""

from __future__ import annotations

from typing import Any

import torch


class ASGD(torch.optim.Optimizer):
    """Averaged SGD.

    Update t, counted from 1, is w = (1 - lambd eta) w - eta g with eta = lr / (1 + lambd lr (t - 1))^alpha.

    Args:
        params: Parameters, or parameter groups.
        lr: The LR.
        lambd: Decay of the weights and of the LR.
        alpha: Power of the LR's decay.
        t0: Updates before averaging starts.
        weight_decay: Share of the weights that is added to the gradient.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # no closure
        for group in self.param_groups:
            lr, lambd = group["lr"], group["lambd"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                finished = state.get("updates", 0)
                eta = lr / (1 + lambd * lr * finished) ** group["alpha"]
                gradient = weight.grad.add(weight, alpha=group["weight_decay"])
                weight.mul_(1 - lambd * eta).add_(gradient, alpha=-eta)
                state["updates"] = finished + 1
                if "average" not in state:
                    state["average"] = weight.clone()
                state["average"].lerp_(weight, 1 / max(1, finished + 1 - group["t0"]))

    def eval(self) -> None:
        """Put the averages in place of the weights."""
        self._swap()

    def train(self) -> None:
        """Put the weights back."""
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, state in self.state.items():
            current = weight.clone()
            weight.copy_(state["average"])
            state["average"].copy_(current)
