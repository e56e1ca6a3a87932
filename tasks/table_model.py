"""A model for tables: embeddings of the categories and a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .counts import check_counts
from .models import layers


class TableMLP(nn.Module):
    """A multilayer perceptron with entity embeddings: numbers [B, inputs], or a `Row`, -> [B, outputs].

    Numbers and embeddings are concatenated and pass through hidden layers. Embeddings are initialized with a normal
    distribution of standard deviation 1 / sqrt(embedding), except those of code 0 (missing or unknown), which are 0.

    Source: Guo and Berkhahn 2016, arXiv 1604.06737, section 3.

    Args:
        inputs: Number of numeric columns.
        outputs: Number of classes, or 1.
        categories: Number of codes of each categorical column.
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        embedding: Size of an embedding.
        dropout: Dropout rate.

    Raises:
        ValueError: If an argument cannot be used.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        categories: Sequence[int] = (),
        width: int = 64,
        depth: int = 2,
        embedding: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts("model", 1, embedding=embedding)
        self.embedding: nn.Embedding | None = None
        if categories:  # one table holds the codes of all columns, so that there is one lookup
            first_C = torch.tensor([0, *categories]).cumsum(0)
            self.embedding = nn.Embedding(int(first_C[-1]), embedding)
            self.register_buffer("first_C", first_C[:-1])
            nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
            with torch.no_grad():
                self.embedding.weight[first_C[:-1]] = 0
        self.layers = layers(inputs + embedding * len(categories), outputs, width, depth, dropout)

    def forward(self, inputs_B: Any) -> Tensor:
        if self.embedding is not None:
            numbers_BF, code_BC = inputs_B
            embedded = self.embedding(code_BC + self.first_C).flatten(1)
            inputs_B = torch.cat([numbers_BF, embedded.to(numbers_BF.dtype)], dim=1)
        output: Tensor = self.layers(inputs_B)
        return output
