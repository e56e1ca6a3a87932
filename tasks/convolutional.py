"""Convolutional models of the examples, for signals [channels, length] and images [channels, height, width]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .counts import check_counts, check_dropout

NORMS = ("batch", "group")
GROUPS = 8  # of group normalisation, or the largest divisor of the channels that also divides 8


class CNN(nn.Module):
    """A small convolutional network: [B, ...] of prod(shape) numbers each -> [B, outputs].

    shape: (channels, length) or (channels, height, width) of an example, however it is laid out. `depth`
    convolutions over 3 (or 3 x 3) neighbours with ReLU, of width, 2 width, 4 width, ... channels, halved between them
    by the maximum of two (four) neighbours; the mean over all places, dropout, a linear layer. The number of
    parameters does not depend on the length. torch's initialisation.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, width: int = 16, depth: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        kinds = _layers_of(shape)
        check_counts("model", 1, outputs=outputs, width=width, depth=depth)
        check_dropout(dropout)
        if min(shape[1:]) < 2 ** (depth - 1):
            raise ValueError(
                f"model.depth={depth}: {_describe_shape(shape)} cannot be halved {depth - 1} times. "
                f"Choose at most {min(shape[1:]).bit_length()}."
            )
        self.shape = tuple(shape)
        channels = [shape[0], *(width * 2**layer for layer in range(depth))]
        found: list[nn.Module] = []
        for a, b in pairwise(channels):
            found += [kinds.pool(2)] if found else []
            found += [kinds.convolution(a, b, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*found)
        self.head = _Head(channels[-1], outputs, dropout)

    def forward(self, inputs_B: Tensor) -> Tensor:
        output: Tensor = self.head(self.features(inputs_B.reshape(-1, *self.shape)))
        return output


class ResNet(nn.Module):
    """A residual network as He et al. 2016 (arXiv 1512.03385, section 4.2) lay it out for small images.

    As CNN: [B, ...] of prod(shape) numbers each -> [B, outputs]. A convolution of `width` channels; three `stages` of
    `blocks` basic blocks with width, 2 width and 4 width channels, the second and third beginning with stride 2;
    the mean over all places, dropout, a linear layer: 6 blocks + 2 layers, ResNet-8 with one. Where a block changes
    the shape its shortcut is a convolution over one place (option B). Kaiming initialisation of the convolutions.
    Four stages of two blocks and width 64 are ResNet-18 with the stem for small images (section 4.1 has 7 x 7 and a
    maximum, for large ones).
    norm: "batch", or "group" (arXiv 1803.08494), whose result does not depend on the rest of the batch.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        width: int = 16,
        blocks: int = 1,
        norm: str = "batch",
        dropout: float = 0.0,
        stages: int = 3,
    ) -> None:
        super().__init__()
        kinds = _layers_of(shape)
        check_counts("model", 1, outputs=outputs, width=width, blocks=blocks, stages=stages)
        check_dropout(dropout)
        _check_norm(norm)
        self.shape = tuple(shape)
        found: list[nn.Module] = []
        channels = width
        for stage in range(stages):
            for block in range(blocks):
                wider = width * 2**stage
                found.append(_Block(kinds, channels, wider, 2 if stage and not block else 1, norm))
                channels = wider
        self.features = nn.Sequential(_convolution(kinds, shape[0], width), kinds.norm(norm, width), nn.ReLU(), *found)
        self.head = _Head(channels, outputs, dropout)

    def forward(self, inputs_B: Tensor) -> Tensor:
        output: Tensor = self.head(self.features(inputs_B.reshape(-1, *self.shape)))
        return output


class ResNet9(nn.Module):
    """The nine-layer residual network of DAWNBench's CIFAR-10 (Page 2018, "How to train your ResNet", part 4).

    As CNN: [B, ...] of prod(shape) numbers each -> [B, outputs]. Layers are a 3 x 3 convolution, a normalisation and
    ReLU. One of `width` channels; then three of 2, 4 and 8 width, each followed by the maximum of two (four)
    neighbours, behind the first and the third a residual of two layers; the maximum over all places, dropout, a linear
    layer without a bias, times `scale`. Kaiming initialisation of the convolutions. norm: as in ResNet.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        width: int = 64,
        scale: float = 0.125,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kinds = _layers_of(shape)
        check_counts("model", 1, outputs=outputs, width=width)
        check_dropout(dropout)
        _check_norm(norm)
        if min(shape[1:]) < 8:
            raise ValueError(
                f"model=ResNet9: {_describe_shape(shape)} cannot be halved three times. "
                "Choose another, such as model=cnn."
            )
        self.shape, self.scale = tuple(shape), scale
        self.features = nn.Sequential(
            _layer(kinds, shape[0], width, norm),
            _layer(kinds, width, 2 * width, norm),
            kinds.pool(2),
            _Residual(kinds, 2 * width, norm),
            _layer(kinds, 2 * width, 4 * width, norm),
            kinds.pool(2),
            _layer(kinds, 4 * width, 8 * width, norm),
            kinds.pool(2),
            _Residual(kinds, 8 * width, norm),
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(8 * width, outputs, bias=False)

    def forward(self, inputs_B: Tensor) -> Tensor:
        places = self.features(inputs_B.reshape(-1, *self.shape)).flatten(2)
        output: Tensor = self.last(self.dropout(places.amax(2))) * self.scale
        return output


class _Residual(nn.Module):
    """Two layers, and the input added to what they give."""

    def __init__(self, kinds: _Kinds, channels: int, norm: str) -> None:
        super().__init__()
        self.change = nn.Sequential(_layer(kinds, channels, channels, norm), _layer(kinds, channels, channels, norm))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.change(x)
        return output


class _Block(nn.Module):
    """Two convolutions, and the input added to what they give."""

    def __init__(self, kinds: _Kinds, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.change = nn.Sequential(
            _convolution(kinds, inputs, outputs, stride=stride),
            kinds.norm(norm, outputs),
            nn.ReLU(),
            _convolution(kinds, outputs, outputs),
            kinds.norm(norm, outputs),
        )
        same = inputs == outputs and stride == 1
        across = [] if same else [_convolution(kinds, inputs, outputs, 1, stride), kinds.norm(norm, outputs)]
        self.shortcut = nn.Sequential(*across)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = (self.change(x) + self.shortcut(x)).relu()
        return output


class _Head(nn.Module):
    """The mean over all places, dropout, a linear layer."""

    def __init__(self, channels: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.dropout(x.flatten(2).mean(2)))
        return output


class _Kinds:
    """The layers for signals (one dimension) or images (two)."""

    def __init__(self, dimensions: int) -> None:
        flat = dimensions == 1
        self.convolution: Any = nn.Conv1d if flat else nn.Conv2d
        self.pool: Any = nn.MaxPool1d if flat else nn.MaxPool2d
        self._batch_norm: Any = nn.BatchNorm1d if flat else nn.BatchNorm2d

    def norm(self, name: str, channels: int) -> nn.Module:
        if name == "group":
            return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
        layer: nn.Module = self._batch_norm(channels)
        return layer


def _layers_of(shape: Sequence[int]) -> _Kinds:
    for size in shape:
        check_counts("model", 1, shape=size)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"model.shape={list(shape)}: it is no signal (channels, length) and no image (channels, height, width). "
            "Choose a model that fits the data."
        )
    return _Kinds(len(shape) - 1)


def _convolution(kinds: _Kinds, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
    """Without a bias, which the normalisation behind it would take away."""
    layer: nn.Module = kinds.convolution(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type] # a Tensor
    return layer


def _layer(kinds: _Kinds, inputs: int, outputs: int, norm: str) -> nn.Module:
    return nn.Sequential(_convolution(kinds, inputs, outputs), kinds.norm(norm, outputs), nn.ReLU())


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"model.norm={norm}: there is no such normalisation. Choose {' or '.join(NORMS)}.")


def _describe_shape(shape: Sequence[int]) -> str:
    return f"an example of {' x '.join(map(str, shape[1:]))}"
