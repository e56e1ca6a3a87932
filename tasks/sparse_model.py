"""A linear model of sparse features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .counts import check_counts


class SparseLinear(nn.Module):
    """Softmax regression on nonzero features: `Words` [B, K] -> [B, outputs].

    The output is the sum over features of a row of weights times the value, plus a bias. Weights and bias start at 0,
    so seeds differ only in their batches. A rare feature seldom has a gradient, so Adagrad's steps for it stay large.
    The sum equals that of nn.EmbeddingBag, for which vmap has no batching rule.

    Source: Duchi, Hazan and Singer 2011, Adaptive subgradient methods, JMLR 12.

    Args:
        inputs: Number of features.
        outputs: Number of classes.

    Raises:
        ValueError: If an argument cannot be used.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        check_counts("model", 1, inputs=inputs, outputs=outputs)
        self.weight = nn.Embedding(inputs, outputs)
        nn.init.zeros_(self.weight.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, inputs_B: Any) -> Tensor:
        feature_BK, value_BK = inputs_B
        output: Tensor = (self.weight(feature_BK) * value_BK.unsqueeze(-1)).sum(-2) + self.bias
        return output
