"""Handwritten digits: 1,797 images of 8 x 8 pixels in ten classes (scikit-learn's copy of UCI's optdigits)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .examples import InMemory, fingerprint_of_bytes
from .scaling import Scaling, Standardization
from .served import Scaled
from .splits import check_seed, split_folds


class Digits(Scaled, InMemory):
    """The handwritten digits as inputs float32 [B, 64], the rows of 8 x 8 pixels, and targets int64 [B].

    The split is random and stratified by class. Each pixel is standardized with its mean and standard deviation over
    the training part.

    Args:
        split_seed: Of the random split.
        valid: Validation part, as a fraction of the 1,797 images.
        test: Test part, as a fraction of the 1,797 images.
        folds: Number of folds, stratified by class, instead of one validation part. None for no folds.

    Raises:
        ValueError: If the images cannot be split like this.
    """

    inputs, outputs, shape = 64, 10, (1, 8, 8)

    def __init__(self, split_seed: int = 0, valid: float = 0.2, test: float = 0.2, folds: int | None = None) -> None:
        if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
            raise ValueError(
                f"data.valid={valid}: with data.test={test}, a part is empty. "
                "Choose fractions above 0 that add up to less than 1"
            )
        pixels, label = _images()
        splits = split_folds(_split(label, split_seed, valid, test), folds, split_seed, label)
        self.scaling = Scaling(tuple(_scaling(pixels[split["train"]]) for split in splits))
        self._parts_K = [
            {part: (one.apply(pixels[index]), torch.from_numpy(label[index])) for part, index in split.items()}
            for one, split in zip(self.scaling.inputs, splits, strict=True)
        ]
        self.partitions = len(splits)
        self.fingerprint = fingerprint_of_bytes(self._parts_K)


def _images() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    pixels, label = load_digits(return_X_y=True)
    return pixels, label.astype(np.int64)


def _split(label: NDArray[np.int64], seed: int, valid: float, test: float) -> dict[str, NDArray[np.int64]]:
    from sklearn.model_selection import train_test_split

    count = len(label)
    check_seed(seed)
    try:
        rest, tested = train_test_split(np.arange(count), test_size=test, stratify=label, random_state=seed)
        share = round(valid * count)  # a fraction of all images, so it does not depend on the size of the test part
        trained, validated = train_test_split(rest, test_size=share, stratify=label[rest], random_state=seed)
    except ValueError as error:  # a part smaller than the number of classes
        problem = f"with data.test={test}, the digits cannot be split ({str(error).rstrip('.')})"
        raise ValueError(f"data.valid={valid}: {problem}. Change data.valid or data.test") from error
    return {"train": trained, "valid": validated, "test": tested}


def _scaling(pixels: NDArray[np.float64]) -> Standardization:
    # At least 1 of the 16 gray levels: a constant pixel becomes 0, and a rarely used pixel does not become an outlier.
    return Standardization(pixels.mean(0), np.maximum(pixels.std(0), 1.0))
