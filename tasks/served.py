"""Trained models for use: they take examples as their data were given them, and predict in the unit of the target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .scaling import Scaling, Standardization


class Served(nn.Module):
    """A model with the standardization of its data: examples as given -> outputs, of a regression in its own unit.

    It computes what training saw, in the same precision. It holds numbers alone, no data.

    Args:
        model: The model, which takes standardized inputs.
        inputs: Their standardization; None if they are as given.
        target: That of the target; None if it is as given.
    """

    def __init__(
        self, model: nn.Module, inputs: Standardization | None = None, target: Standardization | None = None
    ) -> None:
        super().__init__()
        self.model = model
        for name, scaling in (("input", inputs), ("target", target)):
            self.register_buffer(f"{name}_mean", None if scaling is None else torch.as_tensor(scaling.mean))
            self.register_buffer(f"{name}_deviation", None if scaling is None else torch.as_tensor(scaling.deviation))
        self.input_mean: Tensor | None
        self.input_deviation: Tensor | None
        self.target_mean: Tensor | None
        self.target_deviation: Tensor | None

    def forward(self, inputs_B: Any) -> Any:
        return self.unscale(self.model(self.standardize(inputs_B)))

    def standardize(self, inputs_B: Any) -> Any:
        """Return inputs as the model takes them."""
        if self.input_mean is None:
            return inputs_B
        return ((inputs_B.to(self.input_mean.dtype) - self.input_mean) / self.input_deviation).to(dtype_of(self.model))

    def unscale(self, output_B: Any) -> Any:
        """Return outputs of the model in the unit of the target, float64 if that was standardized."""
        if self.target_mean is None:
            return output_B
        return output_B.to(self.target_mean.dtype) * self.target_deviation + self.target_mean


class Scaled:
    """Data whose inputs, or target, are standardized as `scaling` says: the optional members of `problems.Data`."""

    scaling: Scaling

    def served(self, model: nn.Module, partition: int) -> nn.Module:
        """Return a trained model as a module that takes examples as given. It is the model if nothing is scaled."""
        inputs, target = self.scaling.of(partition), self.scaling.target
        return model if inputs is None and target is None else Served(model, inputs, target)

    def given(self, inputs_B: Any, partition: int) -> Any:
        """Return inputs that `fetch` returned as they were given, up to rounding."""
        scaling = self.scaling.of(partition)
        return inputs_B if scaling is None else scaling.invert(inputs_B)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the floating-point type of a model's parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
