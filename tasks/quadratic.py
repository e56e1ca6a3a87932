"""A noisy quadratic, whose expected loss under SGD is known exactly for any schedule.

The loss is sum_k s_k x_k^2 / 2 with curvatures s_k = k^-1.5, from x_k = 1 on. The gradient of one example is s_k x_k +
sqrt(s_k (sum_j s_j x_j^2 + NOISE)) e_k with standard normal e_k: the noise of a linear regression with these
eigenvalues (L. Wu et al., 2022, arXiv 2207.02628). `expected_loss` is the mean over all e.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .examples import Examples
from .problems import Problem

Floats = NDArray[np.float64]

SIZE, POWER, NOISE = 40, 1.5, 0.02
BATCH = 4  # examples of an update, for which `expected_loss` holds
EXAMPLES = 4096


def curvatures() -> Floats:
    """Return s_k, float64 [SIZE], largest first."""
    return np.arange(1, SIZE + 1, dtype=np.float64) ** -POWER


def expected_loss(lr_LS: Floats) -> Floats:
    """Return the expected loss after each update of SGD with a batch of BATCH examples.

    With p_k the mean of x_k^2, an update makes p_k (1 - lr s_k)^2 + lr^2 s_k (sum_j s_j p_j + NOISE) / BATCH of it.

    Args:
        lr_LS: LR of each update.

    Returns:
        Float64 of the same shape. Infinite from where it overflows.
    """
    s_K = curvatures()
    p_LK = np.ones((*lr_LS.shape[:-1], SIZE))
    loss_L, loss_LS = (p_LK * s_K).sum(axis=-1), np.empty(lr_LS.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(lr_LS.shape[-1]):
            lr_L = lr_LS[..., step, None]
            noise_L = loss_L[..., None] + NOISE
            p_LK = (1 - lr_L * s_K) ** 2 * p_LK + lr_L**2 * s_K * noise_L / BATCH
            loss_L = (p_LK * s_K).sum(axis=-1)  # no matrix product, whose last bit depends on the other rows
            loss_LS[..., step] = loss_L / 2
    return np.where(np.isnan(loss_LS), math.inf, loss_LS)


def _point_loss(output_B: Tensor, target_B: Tensor) -> Tensor:
    return output_B


def _log_loss(output: Tensor, target: Tensor) -> dict[str, float]:
    return {"log_loss": math.log(float(output.mean()))}


UNTRAINED = float(curvatures().sum() / 2)
QUADRATIC = Problem(_point_loss, _log_loss, lambda data: UNTRAINED)


class Quadratic(Examples):
    """Data of the noisy quadratic: inputs are the noise e, float32 [B, SIZE], and 0 where the loss is evaluated.

    Args:
        seed: Of the noise.
    """

    def __init__(self, seed: int = 0) -> None:
        noise = torch.randn(EXAMPLES, SIZE, generator=torch.Generator().manual_seed(seed))
        parts = {"train": noise, "valid": torch.zeros(1, SIZE), "test": torch.zeros(1, SIZE)}
        pairs = {part: (inputs, torch.zeros(len(inputs))) for part, inputs in parts.items()}
        super().__init__([pairs], inputs=SIZE, outputs=1, problem=QUADRATIC, batch_size=BATCH)

    @staticmethod
    def expected_loss(lr_S: Floats) -> Floats:
        """Return the expected loss after each update: `expected_loss` of this module."""
        return expected_loss(lr_S)


class Point(nn.Module):
    """The point x. Its output is the loss of each example, [B]."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.ones(SIZE))
        self.register_buffer("s", torch.from_numpy(curvatures()).float())
        self.s: Tensor

    def forward(self, noise_B: Tensor) -> Tensor:
        value = (self.s * self.x**2).sum()
        spread = torch.sqrt(self.s * (value + NOISE)).detach()  # noise of the gradient, not a part of the loss
        return value / 2 + noise_B @ (spread * self.x)
