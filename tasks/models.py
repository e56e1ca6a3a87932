"""The fully connected models of the examples: an n-gram network and a multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from .counts import check_counts, check_dropout


def layers(inputs: int, outputs: int, width: int, depth: int, dropout: float) -> nn.Sequential:
    """`depth` hidden layers (linear, ReLU, dropout) and a linear one: [B, inputs] -> [B, outputs].

    torch's initialisation: uniform within 1 / sqrt(features in), weights and biases.
    """
    check_counts("model", 0, depth=depth)
    check_counts("model", 1, inputs=inputs, outputs=outputs, width=width)
    check_dropout(dropout)
    sizes = [inputs, *[width] * depth]
    hidden: list[nn.Module] = []
    for a, b in pairwise(sizes):
        hidden += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]  # at 0 too: one structure for every trial
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))


class MLP(nn.Module):
    """A multilayer perceptron with ReLU: [B, ...] of `inputs` numbers each -> [B, outputs]; depth 0 is linear."""

    def __init__(self, inputs: int, outputs: int, width: int = 64, depth: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = layers(inputs, outputs, width, depth, dropout)

    def forward(self, inputs_B: Tensor) -> Tensor:
        output: Tensor = self.layers(inputs_B.flatten(1))
        return output


class NGram(nn.Module):
    """The next symbol from the last `context` ones: int64 [B, context] -> [B, outputs].

    Bengio et al. 2003 (A neural probabilistic language model, section 2) without its direct connections and with
    ReLU for tanh: each symbol is embedded, the embeddings are concatenated and go through hidden layers.
    Embeddings start normal with standard deviation 1 / sqrt(embedding), so their length is about 1: torch's own,
    sqrt(embedding) times as long, ends at a validation loss about .06 higher on the default text.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        context: int,
        width: int = 64,
        depth: int = 1,
        embedding: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts("model", 1, inputs=inputs, context=context, embedding=embedding)
        self.embedding = nn.Embedding(inputs, embedding)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        self.layers = layers(context * embedding, outputs, width, depth, dropout)

    def forward(self, inputs_B: Tensor) -> Tensor:
        output: Tensor = self.layers(self.embedding(inputs_B).flatten(1))
        return output
