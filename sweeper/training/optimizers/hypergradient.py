"""Hypergradient descent (Baydin et al. 2018, arXiv 1703.04782): gradient descent on the LR itself.

A multiplier m, which starts at 1, scales every update of an ordinary optimizer, so the LR of update t is m_t lr_t. Let
d be how far an update moved the weights. The derivative of the loss of update t by m is g_t . d_{t-1} / m, which gives
the paper's multiplicative rule

    m_t = m_{t-1} (1 - hyper_lr cos(g_t, d_{t-1})).

Steps get longer as long as the negative gradient points along the last step, and shorter after it turned. With a
constant LR this is the paper's method. With a schedule it corrects the schedule's height and keeps its shape.

The cosine has no unit, so one hyper_lr fits all models and LRs. The hyper_lr of the paper's additive rule must be tuned
with the LR.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sgd(params: Any, lr: float, hyper_lr: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0,
        nesterov: bool = False) -> Hypergradient:  # fmt: skip
    """Return SGD with hypergradient descent (SGD-HD). The other arguments are those of torch.optim.SGD.

    Args:
        params: Parameters, or parameter groups.
        lr: LR before it is multiplied.
        hyper_lr: Step size of the multiplier, at least 0 and below 1.

    Raises:
        ValueError: If hyper_lr is out of range.
    """
    inner = torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    return Hypergradient(inner, hyper_lr)


def adam(params: Any, lr: float, hyper_lr: float = 0.01, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
         weight_decay: float = 0.0) -> Hypergradient:  # fmt: skip
    """Return Adam with hypergradient descent (Adam-HD) and decoupled weight decay, as in torch.optim.AdamW.

    Args:
        params: Parameters, or parameter groups.
        lr: LR before it is multiplied.
        hyper_lr: Step size of the multiplier, at least 0 and below 1.

    Raises:
        ValueError: If hyper_lr is out of range.
    """
    return Hypergradient(torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay), hyper_lr)


class Hypergradient(torch.optim.Optimizer):
    """Hypergradient descent with an inner optimizer whose steps are proportional to its LR, such as SGD or AdamW.

    Nothing is read from the device: m is a tensor there, and the step of the inner optimizer is scaled afterwards.

    Args:
        inner: The inner optimizer.
        hyper_lr: Step size of the multiplier, at least 0 and below 1.

    Raises:
        ValueError: If hyper_lr is out of range.
    """

    def __init__(self, inner: torch.optim.Optimizer, hyper_lr: float) -> None:
        if not 0 <= hyper_lr < 1:
            raise ValueError(f"hyper_lr={hyper_lr} must be at least 0 and below 1")
        super().__init__(inner.param_groups, {"hyper_lr": hyper_lr})
        self._inner = inner

    def multiplier(self) -> Tensor:
        """Return m of the last update, a tensor []."""
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
        """Return the state that holds m: that of the first weight."""
        state: dict[str, Any] = self.state[self.param_groups[0]["params"][0]]
        return state

    def _next_multiplier(self, weights: list[Tensor]) -> Tensor:
        """Return m of this update, a tensor []."""
        pairs = [(w.grad, self.state[w]["moved"]) for w in weights if w.grad is not None and "moved" in self.state[w]]
        if not pairs:  # the first update
            return torch.ones((), dtype=weights[0].dtype, device=weights[0].device)
        multiplier: Tensor = self._shared_state()["multiplier"] * (
            1 - self.param_groups[0]["hyper_lr"] * _cosine(pairs)
        )
        return multiplier


def _cosine(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the cosine between all first tensors and all second ones, as two vectors. It is 0 if one of them is 0."""
    gradients, moves = zip(*pairs, strict=True)
    dot = torch.stack([torch.sum(gradient * moved) for gradient, moved in pairs]).sum()
    lengths = torch.stack([torch.stack([torch.linalg.vector_norm(one) for one in of]) for of in (gradients, moves)])
    length = torch.linalg.vector_norm(lengths, dim=1).prod()
    return torch.where(length > 0, dot / length, torch.zeros_like(dot))
