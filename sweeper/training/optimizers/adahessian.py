"""AdaHessian (Yao et al. 2021, arXiv 2006.00719) of pytorch-optimizer, with counted randomness."""

from __future__ import annotations

from typing import Any

import pytorch_optimizer
import torch
from torch import Tensor

from sweeper.training.optimizers.looking import Forward
from sweeper.training.randomness import absorb, mix


class AdaHessian(pytorch_optimizer.AdaHessian):
    """Adam with the Hessian's diagonal in place of the squared gradient.

    Hutchinson's estimate of the diagonal is z * (H z) for random signs z, which are hashes of (seed, update, weight,
    element). It differentiates the gradient once more, so an update is about three times the work of Adam's. If an
    estimate is due and there was no `look`, `step` does not change the weights.

    Args:
        params: Parameters, or parameter groups.
        lr: The LR.
        betas: Decay of the averages of the gradient and of the squared diagonal.
        eps: Added to the denominator.
        weight_decay: Decoupled weight decay.
        hessian_power: Power of the diagonal.
        update_period: Updates from one estimate to the next.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        update_period: int = 1,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            hessian_power=hessian_power,
            update_period=update_period,
            eps=eps,
        )
        self._hessian: list[Tensor] | None = None

    def look(self, forward: Forward) -> None:
        """Estimate the diagonal, if an estimate is due in this update."""
        if not self._is_due():
            return
        weights = [weight for group in self.param_groups for weight in group["params"] if weight.requires_grad]
        gradients = torch.autograd.grad(
            forward.loss_B.mean(), weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        signs = [_signs(absorb(forward.key, place), weight) for place, weight in enumerate(weights)]
        products = torch.autograd.grad(
            gradients, weights, signs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        diagonal = {weight: sign * product for weight, sign, product in zip(weights, signs, products, strict=True)}
        self._hessian = [
            diagonal.get(weight, torch.zeros_like(weight)) for group in self.param_groups for weight in group["params"]
        ]

    def step(self) -> None:  # type: ignore[override] # no closure
        """Update the weights with the newest estimate."""
        if self._hessian is None and self._is_due():
            return
        super().step(hessian=self._hessian)
        self._hessian = None

    def _is_due(self) -> bool:
        return bool(self.param_groups[0].get("step", 0) % self.update_period == 0)


def _signs(key: int, weight: Tensor) -> Tensor:
    """Return -1 or 1 for each element, in the weight's shape and type."""
    place = torch.arange(weight.numel(), device=weight.device)
    bit = mix(mix(place) ^ key) & 1
    return (2 * bit - 1).to(weight.dtype).view_as(weight)
