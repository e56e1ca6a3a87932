"""Hypergradient descent (Baydin et al. 2018, arXiv 1703.04782): the LR itself descends, by the trend of the gradients.

A multiplier m, 1 at first, scales every update of a usual optimizer, so LR t is m_t lr_t. The derivative of update t's
loss by m is g_t . d_{t-1} / m, d being how far the weights moved, which gives the paper's multiplicative rule

    m_t = m_{t-1} (1 - hyper_lr cos(g_t, d_{t-1})):

longer steps while the gradient still points along the last one, shorter ones when it turned. Beside a constant LR it
is the paper's method; beside a schedule it corrects the schedule's height and leaves its shape. The cosine has no
unit, so one hyper_lr serves all models and LRs; the paper's additive rule has one that must be tuned with the LR.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sgd(params: Any, lr: float, hyper_lr: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0,
        nesterov: bool = False) -> Hypergradient:  # fmt: skip
    """SGD-HD."""
    inner = torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    return Hypergradient(inner, hyper_lr)


def adam(params: Any, lr: float, hyper_lr: float = 0.01, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
         weight_decay: float = 0.0) -> Hypergradient:  # fmt: skip
    """Adam-HD, with AdamW's decoupled weight decay."""
    return Hypergradient(torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay), hyper_lr)


class Hypergradient(torch.optim.Optimizer):
    """Hypergradient descent around an optimizer whose movement is proportional to its LR, as SGD's and AdamW's are.

    Nothing is read from the device: m is a tensor there, and the inner update is scaled after it was made.
    """

    def __init__(self, inner: torch.optim.Optimizer, hyper_lr: float) -> None:
        if not 0 <= hyper_lr < 1:
            raise ValueError(f"hyper_lr {hyper_lr} is not in [0, 1)")
        super().__init__(inner.param_groups, {"hyper_lr": hyper_lr})
        self._inner = inner

    def multiplier(self) -> Tensor:
        """m of the last update, []."""
        multiplier: Tensor = self._shared_state()["multiplier"]
        return multiplier.clone()

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # no closure
        weights = [weight for group in self.param_groups for weight in group["params"] if weight.grad is not None]
        multiplier = self._next_multiplier(weights)
        before = [weight.clone() for weight in weights]
        self._inner.param_groups, self._inner.state = self.param_groups, self.state
        self._inner.step()
        for weight, old in zip(weights, before, strict=True):
            moved = weight.sub(old).mul_(multiplier)
            self.state[weight]["moved"] = moved
            torch.add(old, moved, out=weight)
        self._shared_state()["multiplier"] = multiplier

    def _shared_state(self) -> dict[str, Any]:
        """Where m is kept: beside what belongs to the first weight."""
        memory: dict[str, Any] = self.state[self.param_groups[0]["params"][0]]
        return memory

    def _next_multiplier(self, weights: list[Tensor]) -> Tensor:
        pairs = [(w.grad, self.state[w]["moved"]) for w in weights if w.grad is not None and "moved" in self.state[w]]
        if not pairs:  # the first update
            return torch.ones((), dtype=weights[0].dtype, device=weights[0].device)
        multiplier: Tensor = self._shared_state()["multiplier"] * (
            1 - self.param_groups[0]["hyper_lr"] * _cosine(pairs)
        )
        return multiplier


def _cosine(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Between all first and all second tensors as one vector each; 0 where one is 0."""
    gradients, moves = zip(*pairs, strict=True)
    dot = torch.stack([torch.sum(gradient * moved) for gradient, moved in pairs]).sum()
    lengths = torch.stack([torch.stack([torch.linalg.vector_norm(one) for one in of]) for of in (gradients, moves)])
    length = torch.linalg.vector_norm(lengths, dim=1).prod()
    return torch.where(length > 0, dot / length, torch.zeros_like(dot))
