"""A synthetic data set: which of three random numbers is the largest."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor

from .counts import check_counts
from .examples import Examples
from .problems import CLASSIFICATION
from .splits import split_folds

TRAINED, TESTED, NUMBERS = 1000, 100, 3


def argmax(seed: int = 0, valid_size: int = 1000, folds: int | None = None) -> Examples:
    """Return 1,000 training and 100 test examples with three classes.

    Inputs are float32 [B, 3], uniform in [0, 1). Targets are int64 [B], the index of the largest input.

    A popular Keras tutorial on learning-rate schedules trains on `np.random.random((1000, 3))` and tests on 100 more.
    These are the examples that its code draws after `np.random.seed(seed)`.

    Args:
        seed: Of the inputs.
        valid_size: Validation examples, drawn after the others. The tutorial has no validation part.
        folds: Number of folds of the 1,000 training examples, instead of the validation part. None for no folds.

    Raises:
        ValueError: If `seed`, `valid_size` or `folds` cannot be used.
    """
    check_counts("data", 1, valid_size=valid_size)
    try:
        draw = RandomState(seed)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data.seed={seed}: not a valid seed. Choose a whole number from 0 to 2^32 - 1") from error
    value_NF = np.concatenate([draw.random_sample((count, NUMBERS)) for count in (TRAINED, TESTED, valid_size)])
    label_N = value_NF.argmax(1)
    ends = (0, TRAINED, TRAINED + TESTED, len(label_N))
    train, test, valid = (np.arange(first, last) for first, last in pairwise(ends))
    none = np.arange(0)
    splits = split_folds({"train": train, "valid": none, "test": test}, folds, seed, label_N)
    if len(splits) == 1:
        splits = [{"train": train, "valid": valid, "test": test}]
    parts_K = [{part: _pair(value_NF[index], label_N[index]) for part, index in split.items()} for split in splits]
    return Examples(parts_K, inputs=NUMBERS, outputs=NUMBERS, problem=CLASSIFICATION)


def _pair(value_NF: NDArray[np.float64], label_N: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(value_NF.astype(np.float32)), torch.from_numpy(label_N)
