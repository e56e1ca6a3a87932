"""Convolutional models for signals [channels, length] and images [channels, height, width]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .counts import check_counts, check_dropout

NORMS = ("batch", "group")
GROUPS = 8  # for group normalization; fewer if 8 does not divide the channels


class CNN(nn.Module):
    """A small convolutional network: [B, ...] with prod(shape) numbers for each example -> [B, outputs].

    It has `depth` convolutions of kernel size 3 with ReLU and max pooling by 2 between them, then the mean over all
    positions, dropout and a linear layer. The number of parameters does not depend on the size of the input. Weights
    have torch's default initialization.

    Args:
        shape: (channels, length) or (channels, height, width) of an example. Inputs are reshaped to it.
        outputs: Number of classes.
        width: Channels of the first convolution. Each further one has twice as many.
        depth: Number of convolutions.
        dropout: Dropout rate before the linear layer.

    Raises:
        ValueError: If an argument cannot be used, or the input is too small for `depth`.
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
                f"Choose at most {min(shape[1:]).bit_length()}"
            )
        self.shape = tuple(shape)
        channels = [shape[0], *(width * 2**layer for layer in range(depth))]
        layers: list[nn.Module] = []
        for a, b in pairwise(channels):
            layers += [kinds.pool(2)] if layers else []
            layers += [kinds.convolution(a, b, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = _Head(channels[-1], outputs, dropout)

    def forward(self, inputs_B: Tensor) -> Tensor:
        output: Tensor = self.head(self.features(inputs_B.reshape(-1, *self.shape)))
        return output


class ResNet(nn.Module):
    """A residual network for small images: [B, ...] with prod(shape) numbers for each example -> [B, outputs].

    It has a convolution, `stages` stages of `blocks` basic blocks, the mean over all positions, dropout and a linear
    layer. Every stage but the first starts with stride 2. Where a block changes the shape, its shortcut is a
    convolution of kernel size 1 (option B). Convolutions have Kaiming initialization.

    With three stages it has 6 * blocks + 2 layers: one block for each is ResNet-8. Four stages of two blocks and width
    64 are ResNet-18 with the stem for small images. (The stem in section 4.1, for large images, is a 7 x 7 convolution
    and max pooling.)

    Source: He et al. 2016, arXiv 1512.03385, section 4.2.

    Args:
        shape: (channels, length) or (channels, height, width) of an example. Inputs are reshaped to it.
        outputs: Number of classes.
        width: Channels of the first stage. Each further stage has twice as many.
        blocks: Blocks of each stage.
        norm: "batch", or "group" (arXiv 1803.08494), whose result does not depend on the other examples of the batch.
        dropout: Dropout rate before the linear layer.
        stages: Number of stages.

    Raises:
        ValueError: If an argument cannot be used.
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
        body: list[nn.Module] = []
        channels = width
        for stage in range(stages):
            for block in range(blocks):
                wider = width * 2**stage
                body.append(_Block(kinds, channels, wider, 2 if stage and not block else 1, norm))
                channels = wider
        self.features = nn.Sequential(_convolution(kinds, shape[0], width), kinds.norm(norm, width), nn.ReLU(), *body)
        self.head = _Head(channels, outputs, dropout)

    def forward(self, inputs_B: Tensor) -> Tensor:
        output: Tensor = self.head(self.features(inputs_B.reshape(-1, *self.shape)))
        return output


class ResNet9(nn.Module):
    """The nine-layer residual network for DAWNBench's CIFAR-10: [B, ...], prod(shape) numbers each -> [B, outputs].

    A layer is a 3 x 3 convolution, a normalization and ReLU. The first has `width` channels. Three more have 2, 4 and 8
    times as many, each followed by max pooling by 2; after the first and the third of these comes a residual block of
    two layers. Then come the maximum over all positions, dropout, and a linear layer without a bias. Convolutions have
    Kaiming initialization.

    Source: Page 2018, "How to train your ResNet", part 4.

    Args:
        shape: (channels, length) or (channels, height, width) of an example. Inputs are reshaped to it.
        outputs: Number of classes.
        width: Channels of the first layer.
        scale: Factor of the outputs.
        norm: "batch" or "group", as in `ResNet`.
        dropout: Dropout rate before the linear layer.

    Raises:
        ValueError: If an argument cannot be used, or the input is too small.
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
                "Choose another model, such as model=cnn"
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
    """Two layers whose output is added to the input."""

    def __init__(self, kinds: _Kinds, channels: int, norm: str) -> None:
        super().__init__()
        self.change = nn.Sequential(_layer(kinds, channels, channels, norm), _layer(kinds, channels, channels, norm))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.change(x)
        return output


class _Block(nn.Module):
    """Two convolutions whose output is added to the input."""

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
    """The mean over all positions, dropout and a linear layer."""

    def __init__(self, channels: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.dropout(x.flatten(2).mean(2)))
        return output


class _Kinds:
    """The classes of layers for signals (one dimension) or images (two)."""

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
            f"model.shape={list(shape)}: neither a signal (channels, length) nor an image (channels, height, width). "
            "Choose a model that fits the data"
        )
    return _Kinds(len(shape) - 1)


def _convolution(kinds: _Kinds, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
    """Return a convolution without a bias, because the normalization after it would remove the bias."""
    layer: nn.Module = kinds.convolution(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type] # a Tensor
    return layer


def _layer(kinds: _Kinds, inputs: int, outputs: int, norm: str) -> nn.Module:
    return nn.Sequential(_convolution(kinds, inputs, outputs), kinds.norm(norm, outputs), nn.ReLU())


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"model.norm={norm}: there is no such normalization. Choose {' or '.join(NORMS)}")


def _describe_shape(shape: Sequence[int]) -> str:
    return f"an example of {' x '.join(map(str, shape[1:]))}"
