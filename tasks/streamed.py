"""Examples of one's own that do not fit into the device's memory: they stay on the host, and batches stream."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from .counts import check_counts
from .places import Batch, Host, Rows
from .problems import CLASSIFICATION, REGRESSION, Problem

LOOKED_AT = 256  # examples of each part by which the data are known


class Streamed:
    """A data set whose examples are gathered on the host in the counted order, and copied to the device as needed.

    train, valid, test: each a pair (X, y) of arrays, memory-mapped or not, or of paths of .npy files, which are
    mapped; or any map-style data set, dataset[i] -> (input, target), the same each time. test may be None.
    outputs: classes, or columns of the targets in a regression. workers: processes that gather batches; 0: none.
    Whole targets are classes, others a regression. Nothing is scaled; floats should be float32.

    The fingerprint is made of the sizes and of 256 examples of each part, evenly spread, since reading all could take
    hours: give the data another `name` where they changed elsewhere. Trained one trial at a time. Raises ValueError.
    """

    partitions = 1

    def __init__(
        self, train: Any, valid: Any, test: Any = None, *, outputs: int, workers: int = 0, name: str = "streamed"
    ) -> None:
        check_counts("data", 0, workers=workers)
        check_counts("data", 1, outputs=outputs)
        given = {"train": train, "valid": valid, "test": test}
        self._parts = {part: Host(_dataset(part, value), workers) for part, value in given.items() if value is not None}
        inputs, target = self._parts["train"].fetch(torch.zeros(1, dtype=torch.int64))
        self.name, self.outputs = name, outputs
        self.problem: Problem = REGRESSION if target.is_floating_point() else CLASSIFICATION
        if isinstance(inputs, Tensor):
            self.inputs, self.shape = inputs[0].numel(), tuple(inputs.shape[1:])
        self.fingerprint = _fingerprint(name, self._parts)

    def to(self, device: torch.device) -> Self:
        placed = copy.copy(self)
        placed._parts = {part: place.to(device) for part, place in self._parts.items()}
        return placed

    def size(self, part: str, partition: int) -> int:
        return len(self._parts[part]) if part in self._parts else 0

    def fetch(self, part: str, partition: int, index_B: Tensor) -> Batch:
        return self._parts[part].fetch(index_B)

    def stream(self, part: str, partition: int, index_SB: NDArray[np.int64]) -> Iterator[Batch]:
        return self._parts[part].stream(index_SB)


def _dataset(part: str, given: Any) -> Any:
    """What Host takes."""
    if isinstance(given, tuple | list) and len(given) == 2:
        x_N, y_N = (_array(part, side) for side in given)
        if len(x_N) != len(y_N):
            raise ValueError(f"data.{part}: X has {len(x_N)} examples, y has {len(y_N)}. Give each its target.")
        given = Rows(x_N, y_N)
    if not hasattr(given, "__len__") or not hasattr(given, "__getitem__") or not len(given):
        raise ValueError(
            f"data.{part}={type(given).__name__}: no examples that are counted and have a place. "
            "Give (X, y), or a map-style data set with __len__ and __getitem__."
        )
    return given


def _array(part: str, given: Any) -> NDArray[Any]:
    if not isinstance(given, str | Path):
        return given if isinstance(given, np.ndarray) else np.asarray(given)
    try:
        return np.load(Path(given).expanduser(), mmap_mode="r")  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise ValueError(f"data.{part}={given}: no array can be mapped from it ({error}). Name a .npy file.") from error


def _fingerprint(name: str, parts: dict[str, Host]) -> str:
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    for part, place in parts.items():
        digest.update(f"{part} {len(place)}".encode())
        for at in np.unique(np.linspace(0, len(place) - 1, LOOKED_AT).astype(int)).tolist():
            for tensor in _tensors(default_collate([place.dataset[at]])):
                digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
