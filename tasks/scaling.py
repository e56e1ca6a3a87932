"""Standardization: values with mean 0 and standard deviation 1, both measured on what is trained on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Standardization(NamedTuple):
    """A mean and a standard deviation of each column, or of all values together.

    Attributes:
        mean: float64 [F], or [] for all values together.
        deviation: float64 of the same shape. It is 1 where all values are equal.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def apply(self, values: Any) -> Tensor:
        """Return (values - mean) / deviation, computed in float64, as float32."""
        return torch.from_numpy(((_float64(values) - self.mean) / self.deviation).astype(np.float32))

    def invert(self, values: Any) -> Tensor:
        """Return values * deviation + mean, float64: a prediction in the unit of the target."""
        return torch.from_numpy(_float64(values) * self.deviation + self.mean)


class Scaling(NamedTuple):
    """How data were standardized. Kept weights need inputs that are standardized the same way.

    Attributes:
        inputs: Of each fold (one without folds); () if inputs are as given.
        target: Of a regression; None if the target is as given.
    """

    inputs: tuple[Standardization, ...] = ()
    target: Standardization | None = None

    def of(self, partition: int) -> Standardization | None:
        """Return how the inputs of a fold were standardized; None if they are as given."""
        if not self.inputs:
            return None
        return self.inputs[partition if len(self.inputs) > 1 else 0]


def fit(values: Tensor | NDArray[np.float64], *, by_column: bool = True) -> Standardization:
    """Return the standardization of these values, [N] or [N, ...].

    Args:
        values: Examples that are trained on.
        by_column: Whether each column has a mean and a deviation of its own.
    """
    from sklearn.preprocessing import StandardScaler

    value_N = _float64(values)
    shape = value_N.shape[1:] if by_column else ()
    scaler = StandardScaler().fit(value_N.reshape(-1, int(np.prod(shape))))
    return Standardization(scaler.mean_.reshape(shape), scaler.scale_.reshape(shape))


def _float64(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)
