"""MNIST-1D: 5,000 signals of 40 values in ten classes, generated locally (Greydanus 2020, arXiv 2011.14439)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray

from .examples import InMemory, fingerprint_of_bytes
from .splits import held_out, split_folds

Floats = NDArray[np.float64]

# The published constants (get_dataset_args and get_templates of github.com/greydanus/mnist1d).
SAMPLES, TRAINED, SEED = 5000, 4000, 42
PADDING = (36, 60)  # range of the zeros appended to a template
STRETCHED, SHIFT, LENGTH = 72, 48, 40  # length before the last step, largest shift, length of a signal
SCALE, SHEAR, CORRELATED, NOISE = 0.4, 0.75, 0.25, 2e-2
BLUR = 2  # standard deviation, in samples, of the filter that correlates the noise
TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


class Mnist1D(InMemory):
    """The MNIST-1D signals: inputs float32 [B, 40], targets int64 [B].

    The published 4,000 training signals are split into training and validation. The published 1,000 test signals are
    the test part. Signals have mean 0 and standard deviation 1 over all 5,000, as published.

    With its seed, 42, the recipe reproduces the published data: all 5,000 signals and labels were compared with those
    of the authors' package, mnist1d 0.0.2.post1, and are equal. The tests check some of them.

    Args:
        split_seed: Of the random split.
        valid: Validation part, as a fraction of the 4,000 signals.
        folds: Number of folds of the 4,000 signals, stratified by class, instead of one validation part. None for no
            folds.

    Raises:
        ValueError: If the signals cannot be split like this.
    """

    inputs, outputs, shape = LENGTH, len(TEMPLATES), (1, LENGTH)

    def __init__(self, split_seed: int = 0, valid: float = 0.2, folds: int | None = None) -> None:
        signal, label = signals(SEED)
        places = held_out(TRAINED, valid, split_seed, "training signals") | {"test": np.arange(TRAINED, SAMPLES)}
        self._parts_K = [
            {
                part: (torch.from_numpy(signal[at].astype(np.float32)), torch.from_numpy(label[at]))
                for part, at in split.items()
            }
            for split in split_folds(places, folds, split_seed, label)
        ]
        self.partitions = len(self._parts_K)
        self.fingerprint = fingerprint_of_bytes(self._parts_K)


def signals(seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return all signals, float64 [5000, 40], and their labels, in the published order.

    Source: make_dataset of github.com/greydanus/mnist1d.
    """
    draw = RandomState(seed)
    each = SAMPLES // len(TEMPLATES)
    signal = np.stack([_transform(template, draw) for template in _templates() for _ in range(each)])
    label = np.repeat(np.arange(len(TEMPLATES)), each)
    order = draw.permutation(SAMPLES)
    signal = signal[order]
    return (signal - signal.mean()) / signal.std(), label[order].astype(np.int64)


def _templates() -> Floats:
    """Return the templates [10, 12], standardized, then shifted so that each starts at 0."""
    x = np.asarray(TEMPLATES, dtype=np.float64)
    x -= x.mean(1, keepdims=True)
    x /= x.std(1, keepdims=True)
    x -= x[:, :1]
    return x / 6.0


def _transform(template: Floats, draw: RandomState) -> Floats:
    """Return one signal. The order of the random draws is part of the recipe (`transform`)."""
    low, high = PADDING
    zeros = low + int(draw.rand() * (high - low + 1))
    x = _resample(np.concatenate([template + 1e-8, np.zeros(zeros)]), STRETCHED)
    x *= 1 + SCALE * (draw.rand() - 0.5)
    shift = draw.choice(SHIFT)
    x = np.concatenate([x[-shift:], x[:-shift]])
    empty = x == 0
    x = np.where(empty, _correlated_noise(draw), x) + NOISE * draw.randn(STRETCHED)
    x = x - SHEAR * (draw.rand() - 0.5) * np.linspace(-0.5, 0.5, STRETCHED)
    return _resample(x, LENGTH)


def _correlated_noise(draw: RandomState) -> Floats:
    from scipy.ndimage import gaussian_filter

    noise: Floats = gaussian_filter(CORRELATED * draw.randn(STRETCHED), BLUR)
    return noise


def _resample(x: Floats, length: int) -> Floats:
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(x)), x)
