"""Data in memory whose examples were prepared fold by fold."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from .problems import Problem

Pair = tuple[Any, Tensor]  # inputs: a tensor, or a NamedTuple of tensors, one row an example


class InMemory:
    """Data that hold the pairs of each part, by partition, in `_parts_K`."""

    _parts_K: list[dict[str, Pair]]

    def to(self, device: torch.device) -> Self:
        placed = copy.copy(self)
        placed._parts_K = [
            {
                part: (_map_tensors(inputs, lambda x: x.to(device)), target.to(device))
                for part, (inputs, target) in own.items()
            }
            for own in self._parts_K
        ]
        return placed

    def size(self, part: str, partition: int) -> int:
        return len(self._parts_K[partition][part][1])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> Pair:
        inputs, target = self._parts_K[partition][part]
        return _map_tensors(inputs, lambda x: x[index_B]), target[index_B]


class Examples(InMemory):
    """The three parts of each partition, as sweeper.tasks.problems.Data asks.

    parts_K: of each partition the inputs and targets of "train", "valid" and "test". attributes: what models may take
    beside `inputs` and `outputs`, and what metrics receive; attributes of that name.
    """

    def __init__(
        self, parts_K: Sequence[Mapping[str, Pair]], *, inputs: int, outputs: int, problem: Problem, **attributes: Any
    ) -> None:
        self._parts_K = [dict(parts) for parts in parts_K]
        self.inputs, self.outputs, self.partitions, self.problem = inputs, outputs, len(parts_K), problem
        vars(self).update(attributes)
        self.fingerprint = _fingerprint(self._parts_K)


def fingerprint_of_bytes(parts_K: Sequence[Mapping[str, Pair]]) -> str:
    """Return a hash of the tensors' bytes alone, in the order of the parts; inputs are one tensor.

    The identity of sweeps on Digits and Mnist1D rests on it, so it stays beside that of Examples, which hashes more.
    """
    digest = hashlib.blake2b(digest_size=16)
    for parts in parts_K:
        for inputs, target in parts.values():
            digest.update(inputs.numpy().tobytes())
            digest.update(target.numpy().tobytes())
    return digest.hexdigest()


def _map_tensors(inputs: Any, do: Any) -> Any:
    return do(inputs) if isinstance(inputs, Tensor) else type(inputs)(*(do(x) for x in inputs))


def _fingerprint(parts_K: Sequence[Mapping[str, Pair]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for parts in parts_K:
        for part in sorted(parts):
            inputs, target = parts[part]
            for tensor in (*([inputs] if isinstance(inputs, Tensor) else inputs), target):
                digest.update(f"{part} {tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
