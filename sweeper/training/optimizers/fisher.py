"""Natural gradient with the exact Fisher matrix of a batch, for small models: w -= LR (F + damping I)^-1 g.

F = 1/B sum_b J_b^T H_b J_b: J_b are the derivatives of an example's outputs, H_b the second derivatives of its loss by
its outputs. For a loss that is -log p(target | outputs) of an exponential family in its natural parameters, that is
cross-entropy of logits and squared error, H_b does not depend on the target, and F is the Fisher matrix of the model's
predictive distribution, the sum over all classes being exact (Martens 2020, "New insights and perspectives on the
natural gradient method", section 9.2). Amari 1998, "Natural gradient works efficiently in learning".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.training.optimizers.descent import descend
from sweeper.training.optimizers.looking import Forward
from sweeper.types import InputError

LARGEST = 2**27  # numbers in a root of the Fisher matrix, or in what it is made from: 0.5 GB in float32


class NaturalGradient(torch.optim.Optimizer):
    """Exact natural gradient descent.

    damping: added to the Fisher matrix's diagonal. momentum: of the natural gradients. weight_decay: decoupled.
    Without a look, or after one at a loss that is not finite, the weights stay where they are.
    Raises InputError in an update whose matrix is too large, or whose loss has no Fisher matrix of this form.
    """

    def __init__(
        self, params: Any, lr: float = 0.1, damping: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        if damping <= 0:
            raise ValueError(f"damping {damping} is not positive")
        super().__init__(params, {"lr": lr, "damping": damping, "momentum": momentum, "weight_decay": weight_decay})
        self._root_RP: Tensor | None = None
        self._known = False

    def look(self, forward: Forward) -> None:
        """The Fisher matrix at these weights, on this batch."""
        if not forward.loss_B.isfinite().all():
            return
        self._root_RP = fisher_root(forward, self._weights())
        if not self._known:
            _check_loss(forward)
            self._known = True

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
    """U [R, P] with U^T U = F, R = B K rows for B examples of K outputs: a vector-Jacobian product for each row.

    Of the graph of the training's own forward pass, so dropout masks and batch statistics are those of the gradient.
    """
    rows, columns = forward.output_B.numel(), sum(weight.numel() for weight in weights)
    if rows * max(rows, columns) > LARGEST:
        problem = f"a batch has {rows} outputs and the model {columns} weights: their exact Fisher matrix is too large"
        raise InputError("optimizer", "NaturalGradient", problem, "Use optimizer=kfac, which approximates it.")
    hessian_BKK = output_hessian(forward, forward.target_B)
    examples, outputs = hessian_BKK.shape[:2]
    value_BK, vector_BKK = torch.linalg.eigh(hessian_BKK / examples)
    root_BKK = vector_BKK * value_BK.clamp(min=0).sqrt()[:, None]  # root root^T = H / B
    place_B = torch.arange(examples, device=root_BKK.device)
    seed_BKBK = root_BKK.new_zeros(examples, outputs, examples, outputs)
    seed_BKBK[place_B, :, place_B] = root_BKK.transpose(1, 2)
    found = torch.autograd.grad(
        forward.output_B,
        weights,
        seed_BKBK.view(rows, *forward.output_B.shape),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
    root_RP: Tensor = torch.cat([each.reshape(rows, -1) for each in found], dim=1)
    return root_RP


def output_hessian(forward: Forward, target_B: Tensor) -> Tensor:
    """[B, K, K]: second derivatives of each example's loss by its own outputs, flattened."""
    output_B = forward.output_B.detach().requires_grad_()
    loss = forward.task.loss(output_B, target_B).sum()
    (slope_B,) = torch.autograd.grad(loss, output_B, create_graph=True)
    slope_BK = slope_B.flatten(1)
    if not slope_BK.requires_grad:  # a loss that is linear in the outputs
        return torch.zeros(*slope_BK.shape, slope_BK.shape[1], dtype=slope_BK.dtype, device=slope_BK.device)
    columns = [
        torch.autograd.grad(slope_K.sum(), output_B, retain_graph=True)[0].flatten(1) for slope_K in slope_BK.unbind(1)
    ]
    return torch.stack(columns, dim=1)


def damped_solution(root_RP: Tensor, gradient_P: Tensor, damping: float) -> Tensor:
    """(U^T U + damping I)^-1 g, by the smaller of the two matrices U^T U and U U^T (Woodbury), in float64 if it can."""
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
    factor = torch.linalg.cholesky(matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))
    solution: Tensor = torch.cholesky_solve(vector[:, None], factor)[:, 0]
    return solution


def _check_loss(forward: Forward) -> None:
    """Whether the outputs' second derivatives are a Fisher matrix: they are the same whatever the targets."""
    shifted_B = forward.target_B.roll(1, 0)
    if not torch.allclose(
        output_hessian(forward, forward.target_B), output_hessian(forward, shifted_B), rtol=1e-3, atol=1e-6
    ):
        problem = "the loss's second derivatives depend on the targets, so they are no Fisher matrix"
        raise InputError("optimizer", "NaturalGradient", problem, "Use cross-entropy or squared error, unweighted.")
