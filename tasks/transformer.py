"""A small causal transformer that predicts the next symbol at every position of a sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .counts import check_counts, check_dropout

INITS = ("torch", "gpt2")


class Transformer(nn.Module):
    """A decoder-only transformer: int64 [B, context] -> [B, context, outputs], or [B, outputs] of the last position.

    It has pre-normalization and learned positions, as GPT-2: `depth` blocks of causal attention and a hidden layer of
    4 * width units with GELU.

    nanoGPT's version of GPT-2 is init="gpt2" with tied=True and optionally bias=False. Only its dropout of attention
    weights is missing here.

    Attention is written out, because vmap has no batching rule for scaled_dot_product_attention on the CPU and would
    loop over the models. Measured on one thread, forward and backward: 1.20 ms, and 1.06 ms with
    scaled_dot_product_attention; stacked 0.80 and 1.08 ms for each of 32 models (width 32, 16 positions, batch 8).
    With width 64 and 64 positions: 6.4 and 6.1 ms; stacked 7.8 and 7.3 ms for each of 8 models.

    Source: Vaswani et al. 2017, arXiv 1706.03762.

    Args:
        inputs: Size of the vocabulary.
        outputs: Number of classes.
        context: Largest number of positions.
        every: Whether each position has a target, and so an output.
        width: Size of a position's vector.
        depth: Number of blocks.
        heads: Attention heads of a block. They must divide `width`.
        dropout: Dropout rate.
        bias: Whether linear layers and normalizations have biases.
        tied: Whether the last layer shares its weights with the embedding of symbols. It then has no bias.
        init: "torch": torch's defaults, with embeddings of standard deviation 0.02. "gpt2": all weights normal with
            standard deviation 0.02, those of the last layer of each residual branch 0.02 / sqrt(2 * depth), biases 0.

    Raises:
        ValueError: If an argument cannot be used.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        context: int,
        every: bool = False,
        width: int = 32,
        depth: int = 2,
        heads: int = 2,
        dropout: float = 0.0,
        bias: bool = True,
        tied: bool = False,
        init: str = "torch",
    ) -> None:
        super().__init__()
        check_counts("model", 1, inputs=inputs, outputs=outputs, context=context, width=width, depth=depth, heads=heads)
        check_dropout(dropout)
        if width % heads:
            raise ValueError(f"model.heads={heads}: does not divide model.width={width}. Choose a divisor of it")
        if init not in INITS:
            raise ValueError(f"model.init={init}: there is no such initialization. Choose {' or '.join(INITS)}")
        if tied and inputs != outputs:
            raise ValueError(
                f"model.tied=true: {inputs} inputs and {outputs} outputs cannot share weights. Choose model.tied=false"
            )
        self.every = every
        self.symbol = nn.Embedding(inputs, width)
        self.position = nn.Embedding(context, width)
        for table in (self.symbol, self.position):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*[_Block(width, heads, dropout, bias) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, bias=bias)
        self.last = nn.Linear(width, outputs, bias=bias and not tied)
        if init == "gpt2":
            self.apply(_gpt2)
            for block in self.blocks:
                for layer in (block.attention[1].join, block.hidden[3]):  # type: ignore[union-attr, index]
                    nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * depth))  # type: ignore[union-attr]
        if tied:
            self.last.weight = self.symbol.weight

    def forward(self, inputs_B: Tensor) -> Tensor:
        x = self.symbol(inputs_B) + self.position.weight[: inputs_B.shape[-1]]
        x = self.blocks(self.dropout(x))
        output: Tensor = self.last(self.norm(x if self.every else x[:, -1]))
        return output


def _gpt2(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Embedding):
        nn.init.normal_(layer.weight, std=0.02)
    if isinstance(layer, nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        norms = [nn.LayerNorm(width, bias=bias) for _ in range(2)]
        self.attention = nn.Sequential(norms[0], _Attention(width, heads, bias), nn.Dropout(dropout))
        self.hidden = nn.Sequential(
            norms[1],
            nn.Linear(width, 4 * width, bias=bias),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=bias),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        output: Tensor = x + self.hidden(x)
        return output


class _Attention(nn.Module):
    """Causal attention, softmax(q k^T / sqrt(width / heads)) v: [B, T, width] -> [B, T, width]."""

    def __init__(self, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.all = nn.Linear(width, 3 * width, bias=bias)
        self.join = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        size = width // self.heads
        q, k, v = self.all(x).view(batch, positions, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        # Not a buffer, because a buffer would be stacked for every lane.
        later = torch.full((positions, positions), -math.inf, dtype=x.dtype, device=x.device).triu(1)
        weight = functional.softmax((q * size**-0.5) @ k.transpose(-1, -2) + later, dim=-1)
        joined: Tensor = self.join((weight @ v).transpose(1, 2).reshape(batch, positions, width))
        return joined
