"""Evaluation: the loss and the metrics of a whole part, in batches that fit into memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sweeper.training.examples import Examples
from sweeper.types import Task

BATCH_BYTES = 2**26  # of a module's largest output. Batches depend on the model alone, so the sums do too


class Half(NamedTuple):
    """The settings of a forward pass in mixed precision.

    Attributes:
        device: Type of the device, such as "cuda".
        dtype: What torch.autocast computes in.
    """

    device: str
    dtype: torch.dtype


def evaluate(
    examples: Examples,
    model: nn.Module,
    device: torch.device,
    half: Half | None = None,
    rows: dict[tuple[str, int], int] | None = None,
) -> dict[str, float]:
    """Evaluate a model on a part of the data.

    A task may have a method `kept(output_B, target_B)`, which returns what its metrics need of a batch. Without it, the
    outputs of the whole part are in memory at once.

    Args:
        examples: The part.
        model: The model, on `device`.
        device: Where it is evaluated.
        half: Mixed precision; None to compute in the model's precision.
        rows: Cache of `rows_at_once` by part and partition, for models of the same structure. It is filled in place.

    Returns:
        `<part>/loss`, the mean over the examples (summed in float64), and each metric of the task as `<part>/<name>`.
    """
    task, part, size = examples.task, examples.part, examples.size
    reduce = getattr(task, "kept", None)
    losses: list[Tensor] = []
    outputs: list[Any] = []
    targets: list[Tensor] = []
    with torch.no_grad(), evaluation_mode(model):
        cache = {} if rows is None else rows
        key = (part, examples.partition)
        if key not in cache:
            cache[key] = rows_at_once(examples, model, device, half)
        count = cache[key]
        for first in range(0, size, count):
            index_B = torch.arange(first, min(first + count, size), device=device)
            output_B, target_B = forward(examples, model, index_B, half)
            losses.append(task.loss(output_B, target_B))
            outputs.append(output_B if reduce is None else reduce(output_B, target_B))
            targets.append(target_B)
        metrics = task.metrics(join_batches(outputs), join_batches(targets))
    loss = torch.cat(losses).cpu().double().mean().item()
    return {f"{part}/loss": loss} | {f"{part}/{name}": float(value) for name, value in metrics.items()}


def forward(examples: Examples, model: nn.Module, index_B: Tensor, half: Half | None = None) -> tuple[Any, Tensor]:
    """Return the model's output for these examples, and the targets in the model's precision if they are floats."""
    inputs_B, target_B = cast(examples.fetch(index_B), dtype_of(model))
    return output_of(examples.task, model, inputs_B, half), target_B


def output_of(task: Task, model: nn.Module, inputs_B: Any, half: Half | None) -> Any:
    """Return the model's output. After mixed precision it is cast to float32, because losses need the digits."""
    if half is None:
        return task.forward(model, inputs_B)
    with torch.autocast(half.device, half.dtype, cache_enabled=False):
        output_B = task.forward(model, inputs_B)
    return cast(output_B, torch.float32)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the floating-point type of the model's parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Return a tensor, tuple, list or mapping with its floating-point tensors in `dtype` and the rest unchanged."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
    if isinstance(value, tuple | list):
        items = [cast(item, dtype) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: cast(item, dtype) for key, item in value.items()}
    return value


def join_batches(batches: list[Any]) -> Any:
    """Concatenate batches of tensors, or of tuples, lists or mappings of tensors."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(batches)
    if isinstance(first, tuple | list):
        items = [join_batches(list(column)) for column in zip(*batches, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    if isinstance(first, dict):
        return {key: join_batches([batch[key] for batch in batches]) for key in first}
    return first


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, then restore the mode of each module (a frozen BatchNorm stays frozen)."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was in training:
            module.training = was


def rows_at_once(examples: Examples, model: nn.Module, device: torch.device, half: Half | None = None) -> int:
    """Return the number of examples in a batch that keeps every module's output below BATCH_BYTES.

    It is extrapolated from a forward pass over one or two examples.
    """
    probe = torch.arange(min(2, examples.size), device=device)
    largest = 1

    def measure(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    hooks = [module.register_forward_hook(measure) for module in model.modules()]
    try:
        forward(examples, model, probe, half)
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, BATCH_BYTES * len(probe) // largest)
