"""Augmentation of training batches of images: crop, flip, cutout, mixup, label smoothing."""

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
CROP, FLIP, CUTOUT, MIXUP = range(4)  # the `number` with which each one draws


class Draw(Protocol):
    """Counted random numbers of a batch: equal arguments return equal numbers."""

    def __call__(self, number: int, count: int) -> Tensor:
        """Return uniform numbers in [0, 1), float32 [L, B, count].

        Args:
            number: Identifies the use. Different uses must have different ones.
            count: Numbers for each example.
        """
        ...


class Options(TypedDict, total=False):
    """The keys of `data.augment`. See `Augment`."""

    crop: int
    flip: bool
    cutout: int
    mixup: float


@dataclass(frozen=True)
class Augment:
    """Random changes to training batches of L models: `augment(inputs_LB, target_LB, draw)`.

    Inputs are [L, B, C, H, W] and targets int64 [L, B]. With mixup or label smoothing the returned targets are
    probabilities, float32 [L, B, classes]. Pixels from outside the image or inside the cutout square are 0, which is
    the mean of the training images.

    Source: cutout, DeVries and Taylor 2017, arXiv 1708.04552. Mixup, Zhang et al. 2018, arXiv 1710.09412. Label
    smoothing, Szegedy et al. 2016, arXiv 1512.00567.

    Attributes:
        classes: Number of classes.
        crop: Largest shift of an image in pixels, vertically and horizontally, as if it were padded and cropped.
        flip: Whether to flip each image left to right with probability 1/2.
        cutout: Side in pixels of the square that is set to 0. Its center is a random pixel, so it may cross the border.
        mixup: Each example becomes w x + (1 - w) x', where w is drawn from Beta(mixup, mixup) and x' is the previous
            example of the batch. Targets are mixed with the same w. 0 for no mixup.
        label_smoothing: Part of a target that is spread over all classes.
        quantile_Q: 4,096 equally likely values of w, float32 [4096]. None without mixup.
    """

    classes: int
    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    label_smoothing: float = 0.0
    quantile_Q: Tensor | None = None

    def to(self, device: torch.device) -> Augment:
        """Return the same augmentation for batches on `device`."""
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
        """Apply crop, flip and cutout in one gather."""
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
        """Return the targets as smoothed probabilities, float32 [L, B, classes]."""
        every = torch.arange(self.classes, device=target_LB.device)
        one_hot = (target_LB.unsqueeze(-1) == every).float()
        return one_hot * (1 - self.label_smoothing) + self.label_smoothing / self.classes


def augmentation(
    options: Options | None, label_smoothing: float, classes: int, height: int, width: int
) -> Augment | None:
    """Return the augmentation that `data.augment` and `data.label_smoothing` describe.

    Args:
        options: `data.augment`.
        label_smoothing: `data.label_smoothing`.
        classes: Number of classes.
        height: Of the images, in pixels.
        width: Of the images, in pixels.

    Returns:
        The augmentation, or None if nothing is switched on.

    Raises:
        ValueError: If an option is unknown or its value cannot be used.
    """
    known = list(Options.__annotations__)
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise ValueError(f"data.augment={options}: not a mapping. Write {{crop: 4, flip: true}}, or null")
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"data.augment.{name}={value}: there is no such augmentation. Choose from {', '.join(known)}"
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
            raise ValueError(f"data.augment.{name}={value}: larger than the images. Choose at most {side}")
    if not isinstance(augment.flip, bool):
        raise ValueError(f"data.augment.flip={augment.flip}: neither true nor false. Choose true or false")
    if not _is_number(augment.mixup) or not 0 <= augment.mixup < math.inf:
        raise ValueError(
            f"data.augment.mixup={augment.mixup}: must be the parameter of a Beta distribution. Choose 0 or more"
        )
    if not _is_number(augment.label_smoothing) or not 0 <= augment.label_smoothing < 1:
        raise ValueError(
            f"data.label_smoothing={augment.label_smoothing}: must be in [0, 1). Use for example 0.1, or 0 for none"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quantiles(alpha: float) -> Tensor:
    """Return 4,096 quantiles of Beta(alpha, alpha), the medians of 4,096 equally likely parts, float32."""
    from scipy.stats import beta

    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return torch.from_numpy(beta.ppf(middle, alpha, alpha).astype(np.float32))


def _uniform_integers(count: int, uniform: Tensor) -> Tensor:
    """Return equally likely integers from 0 to count - 1, int64, from uniform numbers in [0, 1)."""
    return (uniform * count).long().clamp(max=count - 1)


def _square(row: Tensor, column: Tensor, side: int, uniform: Tensor) -> Tensor:
    """Return which pixels [L, B, H, W] are inside the cutout square."""
    strips = []
    for place, center in ((row, uniform[..., :1]), (column, uniform[..., 1:])):
        first = _uniform_integers(place.shape[-1], center) - side // 2
        strips.append((place >= first) & (place < first + side))
    return _combine(strips[0], strips[1], torch.logical_and)


def _combine(row: Tensor, column: Tensor, operation: Any) -> Tensor:
    """Return `operation` of each row [L, B, H] with each column [L, B, W], [L, B, H, W]."""
    combined: Tensor = operation(row.unsqueeze(-1), column.unsqueeze(-2))
    return combined


def _mix(value_LB: Tensor, weight_LB: Tensor) -> Tensor:
    weight = weight_LB.view(*weight_LB.shape, *[1] * (value_LB.dim() - 2))
    return weight * value_LB + (1 - weight) * value_LB.roll(1, dims=1)
