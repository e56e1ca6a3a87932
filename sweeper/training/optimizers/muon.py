"""Muon for a whole model: torch's Muon for the matrices of hidden layers, AdamW for everything else, with one LR.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". Its updates are scaled to the size of
AdamW's (Liu et al. 2025, arXiv 2502.16982), so one LR, and one range to search it in, fits both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon and torch.optim.AdamW together.

    Muon trains the weights of all linear layers except the last one. AdamW trains embeddings, convolutions, biases,
    normalization and the last linear layer.

    Args:
        model: The model whose parameters are trained.
        lr: LR of both.
        momentum: Of Muon.
        nesterov: Of Muon.
        ns_steps: Newton-Schulz iterations of Muon.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Of both, decoupled.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        hidden = hidden_matrices(model)
        others = [weight for weight in model.parameters() if all(weight is not matrix for matrix in hidden)]
        self._parts: list[torch.optim.Optimizer] = []
        if hidden:
            self._parts.append(
                torch.optim.Muon(
                    hidden,
                    lr=lr,
                    weight_decay=weight_decay,
                    momentum=momentum,
                    nesterov=nesterov,
                    ns_steps=ns_steps,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    def step(self) -> None:  # type: ignore[override] # no closure
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state
            part.step()


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Return the weights of all linear layers except the last one, in the order of the model.

    A weight that is shared with the last layer or an embedding is left out.
    """
    linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    embedded = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    return [weight for weight in linear[:-1] if all(weight is not other for other in (linear[-1], *embedded))]
