"""Labeled images with 8 bits for each channel: split, stored as bytes, normalized when fetched, augmented."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .augment import Augment, Options, augmentation
from .places import Host, Resident, Rows
from .scaling import Scaling, Standardization
from .served import Scaled
from .splits import Parts, held_out, split_folds

Stream = Callable[[str, int, NDArray[np.int64]], Iterator[tuple[Tensor, Tensor]]]


class LabeledImages(NamedTuple):
    """Images uint8 [N, C, H, W] and their classes uint8 [N]."""

    pixels: NDArray[np.uint8]
    label: NDArray[np.uint8]


class Images(Scaled):
    """A data set of images: inputs float32 [B, C, H, W], targets int64 [B].

    Pixels are normalized with the mean and standard deviation of each channel over the training part (of the fold).
    Images are stored on the device as bytes, a quarter of the memory of floats. Augmentation and label smoothing change
    training batches only, so validation and test losses are those of the plain images with one class each.

    Args:
        trained: Images of the training files.
        tested: Images of the test files.
        classes: Number of classes.
        valid: Validation part, as a fraction of the training files' images.
        split_seed: Of the random split.
        folds: Number of folds of the training files' images, stratified by class, instead of one validation part. None
            for no folds.
        augment: Options of `sweeper.tasks.augment.Augment`.
        label_smoothing: Part of each training target that is spread over all classes.
        stream: Whether images stay on the host and batches are copied to the device when they are needed; or the number
            of processes that gather them. Results are the same bit for bit, but trials train one at a time.

    Raises:
        ValueError: If an argument cannot be used.
    """

    def __init__(
        self,
        trained: LabeledImages,
        tested: LabeledImages,
        *,
        classes: int,
        valid: float = 0.1,
        split_seed: int = 0,
        folds: int | None = None,
        augment: Options | None = None,
        label_smoothing: float = 0.0,
        stream: bool | int = False,
    ) -> None:
        workers = _workers(stream)
        parts = held_out(len(trained.label), valid, split_seed, "training images") | {
            "test": np.arange(len(tested.label))
        }
        self._index_K = split_folds(parts, folds, split_seed, trained.label.astype(np.int64))
        self.partitions = len(self._index_K)
        self.shape: tuple[int, ...] = tested.pixels.shape[1:]
        self.inputs, self.outputs = int(np.prod(self.shape)), classes
        self.augment: Augment | None = augmentation(augment, label_smoothing, classes, *self.shape[1:])
        self._moments_K = [_moments(trained.pixels[index["train"]]) for index in self._index_K]
        self.scaling = Scaling(tuple(Standardization(*(one.numpy() for one in both)) for both in self._moments_K))
        self._trained, self._tested = _place(trained, workers), _place(tested, workers)
        self._place_K = [_tensors(index) for index in self._index_K]
        self.fingerprint = _fingerprint(trained, tested, self._index_K, self.augment)

    def to(self, device: torch.device) -> Self:
        """Return the same data on `device`, or streaming to it."""
        placed = copy.copy(self)
        placed._trained, placed._tested = self._trained.to(device), self._tested.to(device)
        placed._moments_K = [(mean.to(device), deviation.to(device)) for mean, deviation in self._moments_K]
        placed._place_K = [{part: at.to(device) for part, at in places.items()} for places in self._place_K]
        placed.augment = None if self.augment is None else self.augment.to(device)
        return placed

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        return len(self._index_K[partition][part])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the examples `index_B`."""
        images = self._rows_of(part).fetch(self._place_K[partition][part][index_B])
        return self._normalize(partition, *images)

    def given(self, inputs_B: Tensor, partition: int) -> Tensor:
        """Return inputs that `fetch` returned as bytes, uint8 [B, C, H, W]."""
        pixels_B: Tensor = super().given(inputs_B, partition)
        return pixels_B.round().to(torch.uint8)

    @property
    def stream(self) -> Stream | None:
        """A function that iterates over batches, if the images stay on the host. See `Host.stream`."""
        return self._iterate_batches if isinstance(self._trained, Host) else None

    def _iterate_batches(
        self, part: str, partition: int, index_SB: NDArray[np.int64]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        images = self._rows_of(part)
        assert isinstance(images, Host)
        batches = images.stream(self._index_K[partition][part][index_SB])
        return (self._normalize(partition, *batch) for batch in batches)

    def _rows_of(self, part: str) -> Resident | Host:
        return self._tested if part == "test" else self._trained

    def _normalize(self, partition: int, pixels_B: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self._moments_K[partition]
        return (pixels_B.float() - mean) / deviation, label_B.long()


def check_images(file: str, images: LabeledImages, classes: int) -> LabeledImages:
    """Return the images of a file after checking their labels.

    Args:
        file: Where they come from, for the error.
        images: The images.
        classes: Number of classes.

    Raises:
        ValueError: If there are no images, their number is not that of the labels, or a label is not a class.
    """
    if len(images.pixels) != len(images.label) or not len(images.label):
        raise ValueError(
            f"data.path={file}: {len(images.pixels)} images have {len(images.label)} labels. "
            "Choose files that belong together"
        )
    largest = int(images.label.max())
    if largest >= classes:
        raise ValueError(
            f"data.path={file}: it has the label {largest}, and classes are 0 to {classes - 1}. "
            "Get the file again, or choose the data set that it belongs to"
        )
    return images


def _workers(stream: object) -> int | None:
    """Return the number of processes that gather batches; None if images are stored on the device."""
    if stream == 0:  # or false
        return None
    if not isinstance(stream, int) or stream < 0:
        raise ValueError(f"data.stream={stream}: must be true, false or a number of processes. Choose one of them")
    return 0 if stream is True else stream


def _place(images: LabeledImages, workers: int | None) -> Resident | Host:
    if workers is None:
        return Resident(torch.from_numpy(images.pixels), torch.from_numpy(images.label))
    return Host(Rows(images.pixels, images.label), workers)


def _tensors(index: Parts) -> dict[str, Tensor]:
    return {part: torch.from_numpy(at) for part, at in index.items()}


def _moments(pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, float32 [C, 1, 1], from exact counts of its 256 values."""
    value = np.arange(256.0)
    mean, deviation = [], []
    for channel in range(pixels.shape[1]):
        share = np.bincount(pixels[:, channel].reshape(-1), minlength=256) / pixels[:, channel].size
        mean.append(share @ value)
        deviation.append(max(float(np.sqrt(share @ (value - mean[-1]) ** 2)), 1.0))  # a constant channel would give 0
    return tuple(torch.tensor(moment, dtype=torch.float32).view(-1, 1, 1) for moment in (mean, deviation))  # type: ignore[return-value]


def _fingerprint(
    trained: LabeledImages, tested: LabeledImages, index_K: Sequence[Parts], augment: Augment | None
) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for images in (trained, tested):
        digest.update(f"{images.pixels.shape}".encode())
        digest.update(np.ascontiguousarray(images.pixels).data)
        digest.update(np.ascontiguousarray(images.label).data)
    for index in index_K:
        digest.update(np.ascontiguousarray(index["valid"]).data)
    if augment is not None:
        options = (augment.crop, augment.flip, augment.cutout, augment.mixup, augment.label_smoothing)
        digest.update(repr(options).encode())
    return digest.hexdigest()
