"""A small causal transformer: the next symbol at every position of a sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .counts import check_counts, check_dropout

INITS = ("torch", "gpt2")


class Transformer(nn.Module):
    """int64 [B, context] -> [B, context, outputs], or [B, outputs] of the last position alone.

    The decoder of Vaswani et al. 2017 (arXiv 1706.03762) with normalisation before each part and learned positions,
    as in GPT-2: `depth` blocks of `heads` heads and a hidden layer of 4 width units with GELU. A position sees itself
    and those before it. every: the data have a target at each position, not for the last one alone.

    GPT-2 as nanoGPT writes it is init="gpt2" (all weights normal with standard deviation .02, those that a block ends
    with .02 / sqrt(2 depth), biases 0) with tied=True (the last layer is the table of symbols, and has no bias) and, if
    wanted, bias=False (no biases anywhere); only the dropout of attention weights is not here.

    Attention is written out: for scaled_dot_product_attention vmap has no rule on the CPU, warns and loops over the
    models. A pass and its gradient on one thread took 1.20 ms against 1.06 with it, stacked 0.80 ms against 1.08 for
    each of 32 models (width 32, 16 positions, batch 8); 6.4 ms against 6.1, and stacked 7.8 against 7.3 for each of 8
    (width 64, 64 positions).
    With init="torch" embeddings start normal with standard deviation .02, the rest as torch has it.
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
            raise ValueError(f"model.heads={heads}: they share model.width={width} evenly. Choose a divisor of it.")
        if init not in INITS:
            raise ValueError(f"model.init={init}: there is no such initialisation. Choose {' or '.join(INITS)}.")
        if tied and inputs != outputs:
            raise ValueError(f"model.tied=true: {inputs} symbols are not {outputs} outputs. Choose model.tied=false.")
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
    """Softmax(q k^T / sqrt(width / heads)) v over the positions up to each; [B, T, width] -> the same."""

    def __init__(self, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.all = nn.Linear(width, 3 * width, bias=bias)
        self.join = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        size = width // self.heads
        q, k, v = self.all(x).view(batch, positions, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        # Made anew at each use: as a buffer it would be stacked once a lane.
        later = torch.full((positions, positions), -math.inf, dtype=x.dtype, device=x.device).triu(1)
        weight = functional.softmax((q * size**-0.5) @ k.transpose(-1, -2) + later, dim=-1)
        joined: Tensor = self.join((weight @ v).transpose(1, 2).reshape(batch, positions, width))
        return joined
