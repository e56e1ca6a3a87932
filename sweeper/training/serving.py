"""Trained models as modules for use: they take examples as the user gave them (`sweeper.tasks.served`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.training.optimizers.optim import options_of
from sweeper.types import Task, Value

EXAMPLES = 4  # of an input example


def served(task: Task, seed: int, params: Mapping[str, Value], weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a trained model in evaluation mode, on the CPU. It holds none of the data.

    Args:
        task: The task that it was trained on, on the CPU.
        seed: Its seed.
        params: Hyperparameters of its trial; those of the model are used.
        weights: What `Trainer.weights` returned.
    """
    model = task.build(seed, **options_of(params, "model"))
    dtype = next((one.dtype for one in weights.values() if one.is_floating_point()), torch.float32)
    if dtype == torch.float64:
        model = model.double()
    model.load_state_dict(dict(weights))
    serve = getattr(getattr(task, "data", None), "served", None)
    module: nn.Module = model if serve is None else serve(model, 0)
    return module.eval().requires_grad_(requires_grad=False)


def example_of(task: Task) -> Any:
    """Return a few training inputs as the module takes them: a tensor, or what else the task's inputs are."""
    inputs_B, _ = task.fetch("train", 0, torch.arange(min(EXAMPLES, task.size("train", 0))))
    given = getattr(getattr(task, "data", None), "given", None)
    return inputs_B if given is None else given(inputs_B, 0)


def about(task: Task) -> dict[str, object]:
    """Return what must be known to use the module: names of the classes, and columns of a table, if there are any."""
    data = getattr(task, "data", None)
    columns, classes = getattr(data, "columns", None), getattr(data, "classes", None)
    return {
        **({"classes": [str(name) for name in classes]} if classes else {}),
        **({"columns": columns()} if callable(columns) else {}),
    }
