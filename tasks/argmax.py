"""Which of three numbers is the largest: 1,000 made examples."""

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
    """Inputs float32 [B, 3], uniform in [0, 1); targets int64 [B], the place of the largest; 3 classes.

    A much read example of learning-rate schedules in Keras trains on `np.random.random((1000, 3))` and tests on 100
    more; these are the numbers that its lines give after `np.random.seed(seed)`. It has no validation part: valid_size
    further examples are drawn behind them. folds: the 1,000 in K folds, class by class, in place of that part.
    Raises ValueError.
    """
    check_counts("data", 1, valid_size=valid_size)
    try:
        draw = RandomState(seed)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data.seed={seed}: this is no seed. Choose a whole number from 0 to 2^32 - 1.") from error
    value_NF = np.concatenate([draw.random_sample((count, NUMBERS)) for count in (TRAINED, TESTED, valid_size)])
    label_N = value_NF.argmax(1)
    ends = (0, TRAINED, TRAINED + TESTED, len(label_N))
    train, test, valid = (np.arange(first, last) for first, last in pairwise(ends))
    apart = np.arange(0)
    splits = split_folds({"train": train, "valid": apart, "test": test}, folds, seed, label_N)
    if len(splits) == 1:
        splits = [{"train": train, "valid": valid, "test": test}]
    parts_K = [{part: _pair(value_NF[index], label_N[index]) for part, index in split.items()} for split in splits]
    return Examples(parts_K, inputs=NUMBERS, outputs=NUMBERS, problem=CLASSIFICATION)


def _pair(value_NF: NDArray[np.float64], label_N: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(value_NF.astype(np.float32)), torch.from_numpy(label_N)
