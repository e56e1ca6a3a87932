"""The loss and the metrics of a whole part, in batches as large as memory likes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sweeper.training.examples import Examples
from sweeper.types import Task

BATCH_BYTES = 2**26  # of a module's largest output; a function of the model alone, so that sums do not vary


class Half(NamedTuple):
    """A forward pass in mixed precision: the kind of device, and the type that torch.autocast computes in there."""

    device: str
    dtype: torch.dtype


def evaluate(
    examples: Examples,
    model: nn.Module,
    device: torch.device,
    half: Half | None = None,
    rows: dict[tuple[str, int], int] | None = None,
) -> dict[str, float]:
    """Return `<part>/loss`, the mean over the examples (summed in float64), and the task's metrics as `<part>/<name>`.

    rows: those of batches, by part and partition, as earlier models of the same structure had them; is added to.
    A task with `kept(output_B, target_B)` says what its metrics need of a batch: outputs of a large vocabulary over a
    whole part would not fit into memory.
    """
    task, part, size = examples.task, examples.part, examples.size
    kept = getattr(task, "kept", None)
    losses: list[Tensor] = []
    outputs: list[Any] = []
    targets: list[Tensor] = []
    with torch.no_grad(), evaluation_mode(model):
        known = {} if rows is None else rows
        key = (part, examples.partition)
        if key not in known:
            known[key] = rows_at_once(examples, model, device, half)
        count = known[key]
        for first in range(0, size, count):
            index_B = torch.arange(first, min(first + count, size), device=device)
            output_B, target_B = forward(examples, model, index_B, half)
            losses.append(task.loss(output_B, target_B))
            outputs.append(output_B if kept is None else kept(output_B, target_B))
            targets.append(target_B)
        metrics = task.metrics(join_batches(outputs), join_batches(targets))
    loss = torch.cat(losses).cpu().double().mean().item()
    return {f"{part}/loss": loss} | {f"{part}/{name}": float(value) for name, value in metrics.items()}


def forward(examples: Examples, model: nn.Module, index_B: Tensor, half: Half | None = None) -> tuple[Any, Tensor]:
    """Return the model's output for these examples, and their targets; floating ones in the model's precision."""
    inputs_B, target_B = cast(examples.fetch(index_B), dtype_of(model))
    return output_of(examples.task, model, inputs_B, half), target_B


def output_of(task: Task, model: nn.Module, inputs_B: Any, half: Half | None) -> Any:
    """The model's output, in float32 where the forward pass was in mixed precision: losses need the digits."""
    if half is None:
        return task.forward(model, inputs_B)
    with torch.autocast(half.device, half.dtype, cache_enabled=False):
        output_B = task.forward(model, inputs_B)
    return cast(output_B, torch.float32)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The precision of its parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def cast(value: Any, dtype: torch.dtype) -> Any:
    """The floating tensors of a tensor, tuple, list or mapping in `dtype`; all else as it is."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
    if isinstance(value, tuple | list):
        items = [cast(item, dtype) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: cast(item, dtype) for key, item in value.items()}
    return value


def join_batches(batches: list[Any]) -> Any:
    """Batches of tensors, or of tuples, lists or mappings of tensors, as one."""
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
    """Evaluation mode within; afterwards each module is as it was (a frozen BatchNorm stays frozen)."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was in training:
            module.training = was


def rows_at_once(examples: Examples, model: nn.Module, device: torch.device, half: Half | None = None) -> int:
    """Examples in one batch: as many as keep the largest output of any module below BATCH_BYTES, seen on one or two."""
    probe = torch.arange(min(2, examples.size), device=device)
    largest = 1

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    try:
        forward(examples, model, probe, half)
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, BATCH_BYTES * len(probe) // largest)
