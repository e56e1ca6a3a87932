"""Your own data that do not fit into the device's memory: they stay on the host, and batches stream to the device."""

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
from .summaries import classification

LOOKED_AT = 256  # examples of each part in the fingerprint


class Streamed:
    """A data set that stays on the host. Each batch is gathered there and copied to the device when it is needed.

    Targets that are whole numbers are classes, others are a regression. Nothing is scaled, and floats should be
    float32. Trials train one at a time.

    The fingerprint covers the sizes and 256 evenly spaced examples of each part, because reading everything could take
    hours. If other examples change, give the data another `name`.

    Args:
        train: A pair (X, y) of arrays, memory-mapped or not, or of paths of .npy files, which are then mapped. Or any
            map-style data set, dataset[i] -> (input, target), that always returns the same examples.
        valid: The validation part, like `train`.
        test: The test part, like `train`, or None.
        outputs: Number of classes, or of columns of the target in a regression.
        workers: Processes that gather batches. 0 for the training process itself.
        name: Sweeps of these data are named by it. It is part of the fingerprint.

    Raises:
        ValueError: If a part or an argument cannot be used.
    """

    partitions = 1

    def __init__(
        self, train: Any, valid: Any, test: Any = None, *, outputs: int, workers: int = 0, name: str = "streamed"
    ) -> None:
        check_counts("data", 0, workers=workers)
        check_counts("data", 1, outputs=outputs)
        parts = {"train": train, "valid": valid, "test": test}
        self._parts = {part: Host(_dataset(part, value), workers) for part, value in parts.items() if value is not None}
        inputs, target = self._parts["train"].fetch(torch.zeros(1, dtype=torch.int64))
        self.name, self.outputs = name, outputs
        self.problem: Problem = REGRESSION if target.is_floating_point() else CLASSIFICATION
        if isinstance(inputs, Tensor):
            self.inputs, self.shape = inputs[0].numel(), tuple(inputs.shape[1:])
        self.fingerprint = _fingerprint(name, self._parts)

    @property
    def summary(self) -> str:
        """What was understood and done, in one line: the first line of a sweep's output."""
        is_regression = self.problem is REGRESSION
        return f"{'regression' if is_regression else classification(self.outputs)}; nothing is standardized"

    def to(self, device: torch.device) -> Self:
        """Return the same data, still on the host. Their batches go to `device`."""
        placed = copy.copy(self)
        placed._parts = {part: place.to(device) for part, place in self._parts.items()}
        return placed

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        return len(self._parts[part]) if part in self._parts else 0

    def fetch(self, part: str, partition: int, index_B: Tensor) -> Batch:
        """Return inputs and targets of the examples `index_B`."""
        return self._parts[part].fetch(index_B)

    def stream(self, part: str, partition: int, index_SB: NDArray[np.int64]) -> Iterator[Batch]:
        """Iterate over the batches index_SB[0], index_SB[1], ... on the device."""
        return self._parts[part].stream(index_SB)


def _dataset(part: str, value: Any) -> Any:
    """Return the data set of a part, as `Host` takes it."""
    if isinstance(value, tuple | list) and len(value) == 2:
        x_N, y_N = (_array(part, side) for side in value)
        if len(x_N) != len(y_N):
            raise ValueError(
                f"data.{part}: X has {len(x_N)} examples, y has {len(y_N)}. Give one target for each example"
            )
        value = Rows(x_N, y_N)
    if not hasattr(value, "__len__") or not hasattr(value, "__getitem__") or not len(value):
        raise ValueError(
            f"data.{part}={type(value).__name__}: not a data set, or an empty one. "
            "Give (X, y), or a map-style data set with __len__ and __getitem__"
        )
    return value


def _array(part: str, value: Any) -> NDArray[Any]:
    if not isinstance(value, str | Path):
        return value if isinstance(value, np.ndarray) else np.asarray(value)
    try:
        return np.load(Path(value).expanduser(), mmap_mode="r")  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise ValueError(f"data.{part}={value}: cannot be mapped as an array ({error}). Name a .npy file") from error


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
