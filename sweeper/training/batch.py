"""Training batches: fetched on the device or streamed from the host, and augmented if the task does so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.training.examples import Examples
from sweeper.training.randomness import AUGMENT, Draws, key_of
from sweeper.types import Task


def has_stream(task: Task) -> bool:
    """Return whether the task's data stay on the host, which streams one batch after another."""
    return getattr(task, "stream", None) is not None


def training_batches(
    examples: Examples, index_SB: NDArray[np.int64], seed: int, first: int, device: torch.device
) -> Iterator[tuple[Any, Tensor]]:
    """Yield the training batches of one model.

    Args:
        examples: The part that the model trains on.
        index_SB: The examples of each update, int64 [S, B].
        seed: The job's seed, for augmentation.
        first: Number of the first update, counted from 0.
        device: Where the batches are.

    Yields:
        Inputs and targets [B, ...] of updates first, first + 1, ...
    """
    task, fetched = examples.task, fetch_batches(examples, index_SB, device)
    if getattr(task, "augment", None) is None:
        yield from fetched
        return
    lane = (1, index_SB.shape[1])
    seed_L, step_L = np.array([seed]), np.array([first])
    for batch, key_L in zip(fetched, augment_keys(task, seed_L, step_L, len(index_SB), device), strict=True):
        inputs_LB, target_LB = augment(task, reshape(batch, 1, lane), key_L)
        yield reshape(inputs_LB, 2, lane[1:]), reshape(target_LB, 2, lane[1:])


def fetch_batches(
    examples: Examples, index_SB: NDArray[np.int64], device: torch.device
) -> Iterator[tuple[Any, Tensor]]:
    """Return inputs and targets [B, ...] of the examples index_SB[0], index_SB[1], ..., without augmentation."""
    task, part, partition = examples.task, examples.part, examples.partition
    if has_stream(task):
        return task.stream(part, partition, index_SB)  # type: ignore[attr-defined, no-any-return] # optional
    on_device = torch.from_numpy(index_SB).to(device, non_blocking=True)
    return (task.fetch(part, partition, index_B) for index_B in on_device.unbind())


def augment_keys(
    task: Task, seed_L: NDArray[np.int64], step_L: NDArray[np.int64], count: int, device: torch.device
) -> Sequence[Tensor | None]:
    """Return the keys of the lanes' augmentation.

    Args:
        task: The task; without `augment` there are no keys.
        seed_L: Seed of each lane, int64 [L].
        step_L: First update of each lane, int64 [L].
        count: Number of updates.
        device: Where the keys are.

    Returns:
        For each update the keys of the lanes, int64 [L]; None without augmentation.
    """
    if getattr(task, "augment", None) is None:
        return [None] * count
    key_NL = key_of(seed_L, AUGMENT, step_L + np.arange(count)[:, None])
    return torch.from_numpy(key_NL).to(device, non_blocking=True).unbind()


def augment(task: Task, batch_LB: tuple[Any, Tensor], key_L: Tensor | None) -> tuple[Any, Tensor]:
    """Return inputs and targets [L, B, ...] after the task's augmentation, which draws by each lane's key."""
    if key_L is None:
        return batch_LB
    inputs_LB, target_LB = batch_LB
    draw = Draws(key_L, target_LB.shape[1])
    changed: tuple[Any, Tensor] = task.augment(inputs_LB, target_LB, draw)  # type: ignore[attr-defined] # optional
    return changed


def micro_batches(batch: tuple[Any, Tensor], count: int, dim: int = 0) -> list[tuple[Any, Tensor]]:
    """Split inputs and targets into `count` equal parts along `dim`, the dimension of the examples."""
    if count == 1:
        return [batch]
    size = batch[1].shape[dim] // count
    return [_narrow(batch, dim, micro * size, size) for micro in range(count)]


def _narrow(value: Any, dim: int, first: int, size: int) -> Any:
    """Return `size` examples from `first` on of a tensor, tuple, list or mapping."""
    if isinstance(value, Tensor):
        return value.narrow(dim, first, size)
    if isinstance(value, tuple | list):
        items = [_narrow(item, dim, first, size) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _narrow(item, dim, first, size) for key, item in value.items()}
    return value


def reshape(value: Any, leading: int, shape: Sequence[int]) -> Any:
    """Reshape the first `leading` dimensions to `shape`, in a tensor, tuple, list or mapping."""
    if isinstance(value, Tensor):
        return value.reshape(*shape, *value.shape[leading:])
    if isinstance(value, tuple | list):
        items = [reshape(item, leading, shape) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: reshape(item, leading, shape) for key, item in value.items()}
    return value
