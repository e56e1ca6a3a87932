"""Check that model and loss have a place for the largest whole numbers of the data: symbols, codes and classes.

The first examples rarely hold them. Later, on a CPU, they raise an error, and on a GPU they break the whole process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.types import InputError, Task

INPUTS, TARGETS = 0, 1  # places in what `fetch` returns
CHUNK = 1024  # examples that are read at once


def check_largest(task: Task, model: nn.Module, batch: tuple[Any, Tensor], output_B: Any) -> None:
    """Pass the largest symbol through the model, and the largest class through the loss.

    The data say how many there are (`inputs`, `outputs`, `categories`; see `sweeper.tasks.problems.Data`).

    Args:
        task: What is trained. Without these members nothing is checked.
        model: A fresh model.
        batch: Inputs and targets [B, ...] of some examples.
        output_B: What the model returns for them.

    Raises:
        InputError: If model or loss raise an error.
    """
    data = getattr(task, "data", task)
    inputs_B, target_B = batch

    def take_symbol(value: int) -> None:
        task.forward(model, torch.full_like(inputs_B, value))

    def take_class(value: int) -> None:
        task.loss(output_B, torch.full_like(target_B, value))

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if _is_whole(inputs_B):
            _check(task, INPUTS, _count(data, "inputs"), take_symbol)
        categories = getattr(data, "categories", ())
        if categories and isinstance(inputs_B, tuple):
            _check_codes(task, model, inputs_B, torch.as_tensor(categories) - 1)
        if _is_whole(target_B):
            _check(task, TARGETS, _count(data, "outputs"), take_class)


def _check(task: Task, side: int, count: int, take: Callable[[int], None]) -> None:
    """Check that `take` accepts the largest of `count` values. If not, look whether the data really have it."""
    if count < 2 or _error(take, count - 1) is None:
        return
    largest = _largest(task, side, count - 1)
    error = _error(take, largest)
    if error is None:
        return
    what, member = (("symbol", "inputs"), ("class", "outputs"))[side]
    problem = f"has no place for {what} {largest} of the data ({error})"
    raise InputError("model", None, problem, f"Give its constructor a parameter `{member}`: it gets their number")


def _check_codes(task: Task, model: nn.Module, inputs_B: tuple[Any, ...], code_C: Tensor) -> None:
    """Check that the model takes the largest code of each column of a table."""

    def take_codes(_value: int) -> None:
        items = [code_C.expand_as(item) if _has_codes(item) else item for item in inputs_B]
        task.forward(model, type(inputs_B)(*items) if hasattr(inputs_B, "_fields") else tuple(items))

    def _has_codes(item: Any) -> bool:
        return _is_whole(item) and item.shape[-1:] == code_C.shape

    error = _error(take_codes, 0)
    if error is not None:
        problem = f"has no place for the codes of the data's categories ({error})"
        raise InputError("model", None, problem, "Give its constructor a parameter `categories`: it gets their numbers")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _count(data: object, member: str) -> int:
    count = getattr(data, member, 0)
    return count if isinstance(count, int) else 0


def _error(take: Callable[[int], None], value: int) -> str | None:
    """Return what `take` raises, in one line; None if it accepts the value."""
    try:
        take(value)
    except Exception as error:  # the model's own code
        lines = str(error).strip().splitlines() or ["no message"]
        return f"{type(error).__name__}: {lines[0].rstrip('.')}"
    return None


def _largest(task: Task, side: int, bound: int) -> int:
    """Return the largest value that occurs in training or validation, reading no further than a value of `bound`."""
    largest = 0
    for part in ("train", "valid"):
        size = task.size(part, 0)
        for first in range(0, size, CHUNK):
            fetched = task.fetch(part, 0, torch.arange(first, min(first + CHUNK, size)))
            largest = max(largest, int(fetched[side].max()))
            if largest >= bound:
                return largest
    return largest
