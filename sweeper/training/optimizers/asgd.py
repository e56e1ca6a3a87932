"""Averaged SGD whose updates use the LR of their own time, and whose averages are what is evaluated."""

from __future__ import annotations

from typing import Any

import torch


class ASGD(torch.optim.ASGD):
    """torch.optim.ASGD (Polyak and Juditsky 1992), which uses an LR one update late and evaluates no average.

    The LR of update t (from 1) is lr / (1 + lambd lr (t - 1))^alpha. t0: updates before averaging begins.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=False)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # no closure
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if "eta" in state:
                    lr, done = group["lr"], float(state["step"])
                    state["eta"].fill_(lr / (1 + group["lambd"] * lr * done) ** group["alpha"])
        super().step()

    def eval(self) -> None:
        """The averages in place of the weights."""
        self._exchange()

    def train(self) -> None:
        """The weights again."""
        self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                average = self.state[weight].get("ax")
                if average is not None:
                    kept = weight.clone()
                    weight.copy_(average)
                    average.copy_(kept)
