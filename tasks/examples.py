"""Data sets in memory whose examples are prepared for each fold."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from .problems import Problem

Pair = tuple[Any, Tensor]  # inputs (a tensor or a NamedTuple of tensors, one row for each example) and targets


class InMemory:
    """A data set that stores inputs and targets of each part, for each partition, in `_parts_K`."""

    _parts_K: list[dict[str, Pair]]

    def to(self, device: torch.device) -> Self:
        """Return the same data on `device`."""
        placed = copy.copy(self)
        placed._parts_K = [
            {
                part: (_map_tensors(inputs, lambda x: x.to(device)), target.to(device))
                for part, (inputs, target) in parts.items()
            }
            for parts in self._parts_K
        ]
        return placed

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        return len(self._parts_K[partition][part][1])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> Pair:
        """Return inputs and targets of the examples `index_B`."""
        inputs, target = self._parts_K[partition][part]
        return _map_tensors(inputs, lambda x: x[index_B]), target[index_B]


class Examples(InMemory):
    """A data set from the inputs and targets of each part. It is a `sweeper.tasks.problems.Data`.

    Args:
        parts_K: Inputs and targets of "train", "valid" and "test", for each partition.
        inputs: Number of features, or size of the vocabulary.
        outputs: Number of classes, or of columns of the target.
        problem: Loss and metrics.
        attributes: Further attributes of the data, which models may take as arguments and metrics receive.
    """

    def __init__(
        self, parts_K: Sequence[Mapping[str, Pair]], *, inputs: int, outputs: int, problem: Problem, **attributes: Any
    ) -> None:
        self._parts_K = [dict(parts) for parts in parts_K]
        self.inputs, self.outputs, self.partitions, self.problem = inputs, outputs, len(parts_K), problem
        vars(self).update(attributes)
        self.fingerprint = fingerprint_of_examples(self._parts_K)


def fingerprint_of_examples(parts_K: Sequence[Mapping[str, Pair]]) -> str:
    """Return a hash of the tensors' types, shapes and bytes.

    Args:
        parts_K: Inputs and targets of each part, for each partition.
    """
    digest = hashlib.blake2b(digest_size=16)
    for parts in parts_K:
        for part in sorted(parts):
            inputs, target = parts[part]
            for tensor in (*([inputs] if isinstance(inputs, Tensor) else inputs), target):
                digest.update(f"{part} {tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def fingerprint_of_bytes(parts_K: Sequence[Mapping[str, Pair]]) -> str:
    """Return a hash of the tensors' bytes in the order of the parts.

    It ignores types and shapes, unlike the hash of `Examples`. Stored sweeps on Digits and Mnist1D are identified by
    it, so it cannot change.

    Args:
        parts_K: Inputs and targets of each part, for each partition. The inputs are one tensor.
    """
    digest = hashlib.blake2b(digest_size=16)
    for parts in parts_K:
        for inputs, target in parts.values():
            digest.update(inputs.numpy().tobytes())
            digest.update(target.numpy().tobytes())
    return digest.hexdigest()


def _map_tensors(inputs: Any, function: Any) -> Any:
    return function(inputs) if isinstance(inputs, Tensor) else type(inputs)(*(function(x) for x in inputs))
