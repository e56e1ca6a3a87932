"""A linear model of sparse features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .counts import check_counts


class SparseLinear(nn.Module):
    """Softmax regression on the features that are not 0: Words [B, K] -> [B, outputs].

    The sum of a row of weights for each feature, times its value, and a bias; all start at 0, and as nothing is drawn,
    seeds differ in their batches alone. A rare feature seldom has a gradient, and Adagrad's steps for it stay large
    (Duchi, Hazan and Singer 2011). The sum is that of nn.EmbeddingBag, written out for vmap, which has no rule for it.
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
