"""Natural gradient with the exact Fisher matrix of a batch, for small models: w -= LR (F + damping I)^-1 g.

F = 1/B sum_b J_b^T H_b J_b. J_b are the derivatives of an example's outputs by the weights, and H_b the second
derivatives of its loss by its outputs. Cross-entropy of logits and squared error are -log p(target | outputs) of an
exponential family in its natural parameters. For such a loss, H_b does not depend on the target, and F is the Fisher
matrix of the model's predictive distribution, with the exact sum over all classes (Martens 2020, "New insights and
perspectives on the natural gradient method", section 9.2).

Source: Amari 1998, "Natural gradient works efficiently in learning".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.training.optimizers.descent import descend
from sweeper.training.optimizers.looking import Forward
from sweeper.types import InputError

LARGEST = 2**27  # elements of a root of the Fisher matrix, or of what it is computed from: 0.5 GB in float32


class NaturalGradient(torch.optim.Optimizer):
    """Exact natural gradient descent.

    `step` does not change the weights without a `look`, or after a `look` at a loss that is not finite.

    Args:
        params: Parameters, or parameter groups.
        lr: The LR.
        damping: Added to the diagonal of the Fisher matrix; positive.
        momentum: Momentum of the natural gradients.
        weight_decay: Decoupled weight decay.

    Raises:
        ValueError: If damping is not positive.
        InputError: In `look`, if the matrix is too large, or if the loss has no Fisher matrix of this form.
    """

    def __init__(
        self, params: Any, lr: float = 0.1, damping: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        if damping <= 0:
            raise ValueError(f"damping={damping} must be positive")
        super().__init__(params, {"lr": lr, "damping": damping, "momentum": momentum, "weight_decay": weight_decay})
        self._root_RP: Tensor | None = None
        self._is_loss_checked = False

    def look(self, forward: Forward) -> None:
        """Compute the Fisher matrix at these weights, on this batch."""
        if not forward.loss_B.isfinite().all():
            return
        self._root_RP = fisher_root(forward, self._weights())
        if not self._is_loss_checked:
            _check_loss(forward)
            self._is_loss_checked = True

    def step(self) -> None:  # type: ignore[override] # no closure
        weights, root_RP = self._weights(), self._root_RP
        if root_RP is None:
            return
        gradient_P = torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in weights])
        natural_P = damped_solution(root_RP, gradient_P, self.param_groups[0]["damping"])
        pieces = torch.split(natural_P, [weight.numel() for weight in weights])
        descend(self, {weight: piece.view_as(weight) for weight, piece in zip(weights, pieces, strict=True)})
        self._root_RP = None

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.param_groups for weight in group["params"] if weight.requires_grad]


def fisher_root(forward: Forward, weights: Sequence[Tensor]) -> Tensor:
    """Return a root U [R, P] of the Fisher matrix, U^T U = F, with R = B K rows for B examples of K outputs.

    Each row is a vector-Jacobian product. The graph is that of the training's own forward pass, so dropout masks and
    batch statistics are those of the gradient.

    Args:
        forward: The forward pass of the update.
        weights: The P weights.

    Raises:
        InputError: If the matrix is too large.
    """
    rows, columns = forward.output_B.numel(), sum(weight.numel() for weight in weights)
    if rows * max(rows, columns) > LARGEST:
        problem = f"the exact Fisher matrix of {rows} outputs of a batch and {columns} weights is too large"
        raise InputError("optimizer", "NaturalGradient", problem, "Use optimizer=kfac, which approximates it")
    hessian_BKK = output_hessian(forward, forward.target_B)
    examples, outputs = hessian_BKK.shape[:2]
    value_BK, vector_BKK = torch.linalg.eigh(hessian_BKK / examples)
    root_BKK = vector_BKK * value_BK.clamp(min=0).sqrt()[:, None]  # root root^T = H / B
    place_B = torch.arange(examples, device=root_BKK.device)
    seed_BKBK = root_BKK.new_zeros(examples, outputs, examples, outputs)
    seed_BKBK[place_B, :, place_B] = root_BKK.transpose(1, 2)
    products = torch.autograd.grad(
        forward.output_B,
        weights,
        seed_BKBK.view(rows, *forward.output_B.shape),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
    root_RP: Tensor = torch.cat([each.reshape(rows, -1) for each in products], dim=1)
    return root_RP


def output_hessian(forward: Forward, target_B: Tensor) -> Tensor:
    """Return the second derivatives of each example's loss by its own K outputs, [B, K, K].

    Args:
        forward: The forward pass.
        target_B: Targets of the loss, in place of the forward pass's own.
    """
    output_B = forward.output_B.detach().requires_grad_()
    loss = forward.task.loss(output_B, target_B).sum()
    (slope_B,) = torch.autograd.grad(loss, output_B, create_graph=True)
    slope_BK = slope_B.reshape(len(slope_B), -1)
    if not slope_BK.requires_grad:  # a loss that is linear in the outputs
        return torch.zeros(*slope_BK.shape, slope_BK.shape[1], dtype=slope_BK.dtype, device=slope_BK.device)
    columns = [
        torch.autograd.grad(slope_K.sum(), output_B, retain_graph=True)[0].reshape(slope_BK.shape)
        for slope_K in slope_BK.unbind(1)
    ]
    return torch.stack(columns, dim=1)


def damped_solution(root_RP: Tensor, gradient_P: Tensor, damping: float) -> Tensor:
    """Return (U^T U + damping I)^-1 g, [P].

    It solves for the smaller of U^T U and U U^T (Woodbury identity), in float64 except on mps.

    Args:
        root_RP: U.
        gradient_P: g.
        damping: Positive.
    """
    dtype = torch.float32 if root_RP.device.type == "mps" else torch.float64
    root_RP, g_P = root_RP.to(dtype), gradient_P.to(dtype)
    rows, columns = root_RP.shape
    if columns <= rows:
        matrix = root_RP.T @ root_RP
        solution_P: Tensor = _solve(matrix, g_P, damping)
    else:
        matrix = root_RP @ root_RP.T
        solution_P = (g_P - root_RP.T @ _solve(matrix, root_RP @ g_P, damping)) / damping
    natural_P: Tensor = solution_P.to(gradient_P.dtype)
    return natural_P


def _solve(matrix: Tensor, vector: Tensor, damping: float) -> Tensor:
    """Return (matrix + damping I)^-1 vector."""
    factor = torch.linalg.cholesky(matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))
    solution: Tensor = torch.cholesky_solve(vector[:, None], factor)[:, 0]
    return solution


def _check_loss(forward: Forward) -> None:
    """Check that the second derivatives are a Fisher matrix: they must not depend on the targets. Raises InputError."""
    shifted_B = forward.target_B.roll(1, 0)
    if not torch.allclose(
        output_hessian(forward, forward.target_B), output_hessian(forward, shifted_B), rtol=1e-3, atol=1e-6
    ):
        problem = "the second derivatives of the loss depend on the targets, so they are no Fisher matrix"
        raise InputError("optimizer", "NaturalGradient", problem, "Use cross-entropy or squared error, unweighted")
