"""A task whose training part has the validation part in it, for models that are trained after everything is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.training.evaluation import join_batches
from sweeper.types import Task

Batch = tuple[Any, Tensor]
Stream = Callable[[str, int, NDArray[np.int64]], Iterator[Batch]]


class Joined:
    """A task whose part "train" has the examples of "train", then those of "valid". The rest is as it was.

    Of folds, every one has all of them, prepared as in that fold.

    Args:
        task: The task.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.fingerprint = f"{task.fingerprint}-joined"
        self.untrained_loss, self.loss_bound = task.untrained_loss, task.loss_bound

    def __getattr__(self, name: str) -> Any:
        if name == "_task":  # of a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._task, name)

    def to(self, device: torch.device) -> Self:
        """Return the same task with its data on `device`."""
        return type(self)(self._task.to(device))

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        return sum(self._task.size(one, partition) for one in _parts(part))

    def fetch(self, part: str, partition: int, index_B: Tensor) -> Batch:
        """Return inputs and targets of the examples `index_B`."""
        if part != "train":
            return self._task.fetch(part, partition, index_B)
        count = self._task.size("train", partition)
        trained = self._task.fetch("train", partition, index_B.clamp(max=count - 1))
        valid = self._task.fetch("valid", partition, (index_B - count).clamp(min=0))
        return _pick(index_B < count, trained, valid)  # type: ignore[no-any-return] # a pair, as its arguments

    @property
    def stream(self) -> Stream | None:
        """The task's `stream`, or None."""
        return None if getattr(self._task, "stream", None) is None else self._stream

    def _stream(self, part: str, partition: int, index_SB: NDArray[np.int64]) -> Iterator[Batch]:
        """Iterate over batches: the training examples of each and its validation examples are gathered apart."""
        stream: Stream = self._task.stream  # type: ignore[attr-defined] # optional
        if part != "train":
            yield from stream(part, partition, index_SB)
            return
        count = self._task.size("train", partition)
        for index_B in index_SB:
            is_valid_B = index_B >= count
            halves = [("train", index_B[~is_valid_B]), ("valid", index_B[is_valid_B] - count)]
            batches = [batch for one, of_B in halves if len(of_B) for batch in stream(one, partition, of_B[None])]
            order_B = torch.from_numpy(np.argsort(np.argsort(is_valid_B, kind="stable"), kind="stable"))
            yield _take(join_batches(batches), order_B)

    def build(self, seed: int, **numbers: Any) -> torch.nn.Module:
        """Return a fresh model."""
        return self._task.build(seed, **numbers)

    def forward(self, model: torch.nn.Module, inputs_B: Any) -> Any:
        """Return the outputs of the model."""
        return self._task.forward(model, inputs_B)

    def loss(self, output_B: Any, target_B: Tensor) -> Tensor:
        """Return the loss of each example, [B]."""
        return self._task.loss(output_B, target_B)

    def metrics(self, output: Any, target: Tensor) -> dict[str, float]:
        """Return the metrics of a whole part."""
        return self._task.metrics(output, target)


def _parts(part: str) -> tuple[str, ...]:
    return ("train", "valid") if part == "train" else (part,)


def _pick(is_first_B: Tensor, first: Any, second: Any) -> Any:
    """Return the examples of `first` where the mask says so, else those of `second`, in tensors or in pairs of them."""
    if isinstance(first, Tensor):
        return torch.where(
            is_first_B.reshape(is_first_B.shape + (1,) * (first.dim() - is_first_B.dim())), first, second
        )
    if isinstance(first, dict):
        return {key: _pick(is_first_B, one, second[key]) for key, one in first.items()}
    items = [_pick(is_first_B, *both) for both in zip(first, second, strict=True)]
    return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)


def _take(value: Any, index_B: Tensor) -> Any:
    """Return the examples `index_B` of tensors, or of pairs of them."""
    if isinstance(value, Tensor):
        return value[index_B.to(value.device)]
    if isinstance(value, dict):
        return {key: _take(one, index_B) for key, one in value.items()}
    items = [_take(one, index_B) for one in value]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
