"""What training alone does to a batch of images: crop, flip, cutout, mixup, label smoothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

from .counts import check_counts

QUANTILES = 4096  # equally likely weights of mixup
CROP, FLIP, CUTOUT, MIXUP = range(4)  # the numbers that each draws


class Draw(Protocol):
    """Random numbers of a batch, counted and not drawn: asked twice it gives the same ones."""

    def __call__(self, number: int, count: int) -> Tensor:
        """float32 [L, B, count], uniform in [0, 1). number: one's own for each use."""
        ...


class Options(TypedDict, total=False):
    """What `data.augment` may ask for; see Augment."""

    crop: int
    flip: bool
    cutout: int
    mixup: float


@dataclass(frozen=True)
class Augment:
    """Inputs [L, B, C, H, W] and targets int64 [L, B] of L models' batches -> the same, changed at random.

    crop: pixels by which an image is moved at most, up or down and left or right, as if it had been padded by so many
    and cut out again. flip: left and right are exchanged in every second image. cutout (DeVries & Taylor 2017, arXiv
    1708.04552): side of a square about a pixel drawn from all, as far as it lies in the image. Pixels that come from
    outside or are cut out are 0: the training images' mean. mixup (Zhang et al. 2018, arXiv 1710.09412): each example
    becomes w x + (1 - w) x', w from Beta(mixup, mixup), x' the example before it in its batch, the target likewise;
    w is one of 4,096 equally likely quantiles. label_smoothing (Szegedy et al. 2016, arXiv 1512.00567): the part of a
    target that is spread over all classes.

    With mixup or label smoothing the targets are probabilities, float32 [L, B, classes].
    """

    classes: int
    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    label_smoothing: float = 0.0
    quantile_Q: Tensor | None = None

    def to(self, device: torch.device) -> Augment:
        return replace(self, quantile_Q=None if self.quantile_Q is None else self.quantile_Q.to(device))

    def __call__(self, inputs_LB: Tensor, target_LB: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        if self.crop or self.flip or self.cutout:
            inputs_LB = self._move(inputs_LB, draw)
        if self.label_smoothing or self.mixup:
            target_LB = self._soften(target_LB)
        if self.quantile_Q is not None:
            weight_LB = self.quantile_Q[_uniform_integers(QUANTILES, draw(MIXUP, 1)[..., 0])]
            inputs_LB, target_LB = _mix(inputs_LB, weight_LB), _mix(target_LB, weight_LB)
        return inputs_LB, target_LB

    def _move(self, inputs_LB: Tensor, draw: Draw) -> Tensor:
        """Each pixel from where crop and flip take it; 0 where that is outside or in the square of cutout."""
        height, width = inputs_LB.shape[-2:]
        row = torch.arange(height, device=inputs_LB.device).expand(*inputs_LB.shape[:2], height)
        column = torch.arange(width, device=inputs_LB.device).expand(*inputs_LB.shape[:2], width)
        keep = torch.ones((), dtype=torch.bool, device=inputs_LB.device)
        if self.cutout:
            keep = ~_square(row, column, self.cutout, draw(CUTOUT, 2))
        if self.flip:
            column = torch.where(draw(FLIP, 1) < 0.5, width - 1 - column, column)
        if self.crop:
            shift = _uniform_integers(2 * self.crop + 1, draw(CROP, 2)) - self.crop
            row, column = row + shift[..., :1], column + shift[..., 1:]
            inside_row, inside_column = (row >= 0) & (row < height), (column >= 0) & (column < width)
            keep = keep & _combine(inside_row, inside_column, torch.logical_and)
            row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        place = _combine(row * width, column, torch.add).flatten(-2).unsqueeze(2)
        pixels = inputs_LB.flatten(-2)
        moved = pixels.gather(-1, place.expand_as(pixels)).view(inputs_LB.shape)
        return torch.where(keep.unsqueeze(-3) if keep.dim() else keep, moved, 0.0)

    def _soften(self, target_LB: Tensor) -> Tensor:
        """Probabilities of the classes."""
        every = torch.arange(self.classes, device=target_LB.device)
        sure = (target_LB.unsqueeze(-1) == every).float()
        return sure * (1 - self.label_smoothing) + self.label_smoothing / self.classes


def augmentation(
    options: Options | None, label_smoothing: float, classes: int, height: int, width: int
) -> Augment | None:
    """What `data.augment` and `data.label_smoothing` ask for; None where nothing is. Raises ValueError."""
    known = list(Options.__annotations__)
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise ValueError(f"data.augment={options}: this is no mapping. Write {{crop: 4, flip: true}}, or null.")
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"data.augment.{name}={value}: there is no such augmentation. There are: {', '.join(known)}."
            )
    augment = Augment(classes, **options, label_smoothing=label_smoothing)
    _check(augment, min(height, width))
    if not any((augment.crop, augment.flip, augment.cutout, augment.mixup, label_smoothing)):
        return None
    return replace(augment, quantile_Q=_quantiles(augment.mixup)) if augment.mixup else augment


def _check(augment: Augment, side: int) -> None:
    for name in ("crop", "cutout"):
        value = getattr(augment, name)
        check_counts("data.augment", 0, **{name: value})
        if value > side:
            raise ValueError(f"data.augment.{name}={value}: images have {side} pixels a side. Choose at most {side}.")
    if not isinstance(augment.flip, bool):
        raise ValueError(f"data.augment.flip={augment.flip}: neither true nor false. Choose one of them.")
    if not _is_number(augment.mixup) or not 0 <= augment.mixup < math.inf:
        raise ValueError(f"data.augment.mixup={augment.mixup}: no parameter of a Beta distribution. Choose 0 or more.")
    if not _is_number(augment.label_smoothing) or not 0 <= augment.label_smoothing < 1:
        raise ValueError(
            f"data.label_smoothing={augment.label_smoothing}: it is a part of the target. Choose one in [0, 1)."
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quantiles(alpha: float) -> Tensor:
    """float32 [4096] of Beta(alpha, alpha), in the middle of each of as many equal parts."""
    from scipy.stats import beta

    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return torch.from_numpy(beta.ppf(middle, alpha, alpha).astype(np.float32))


def _uniform_integers(count: int, uniform: Tensor) -> Tensor:
    """int64 in 0 .. count - 1, each as likely."""
    return (uniform * count).long().clamp(max=count - 1)


def _square(row: Tensor, column: Tensor, side: int, uniform: Tensor) -> Tensor:
    """Which pixels [L, B, H, W] lie in the square about a pixel drawn from all."""
    strips = []
    for place, centre in ((row, uniform[..., :1]), (column, uniform[..., 1:])):
        first = _uniform_integers(place.shape[-1], centre) - side // 2
        strips.append((place >= first) & (place < first + side))
    return _combine(strips[0], strips[1], torch.logical_and)


def _combine(row: Tensor, column: Tensor, joined: Any) -> Tensor:
    """[L, B, H, W] of what is known of each row and of each column."""
    table: Tensor = joined(row.unsqueeze(-1), column.unsqueeze(-2))
    return table


def _mix(value_LB: Tensor, weight_LB: Tensor) -> Tensor:
    weight = weight_LB.view(*weight_LB.shape, *[1] * (value_LB.dim() - 2))
    return weight * value_LB + (1 - weight) * value_LB.roll(1, dims=1)
