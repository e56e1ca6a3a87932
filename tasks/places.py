"""Where the examples of a part lie: on the device, or on the host, from which batches stream to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

Batch = tuple[Any, Tensor]
PREFETCHED = 4  # batches that each process gathers ahead


@dataclass(frozen=True)
class Resident:
    """Examples on the device: inputs x_N and targets y_N."""

    x_N: Tensor
    y_N: Tensor

    def __len__(self) -> int:
        return len(self.y_N)

    def to(self, device: torch.device) -> Resident:
        return Resident(self.x_N.to(device), self.y_N.to(device))

    def fetch(self, index_B: Tensor) -> Batch:
        return self.x_N[index_B], self.y_N[index_B]


@dataclass(frozen=True)
class Rows:
    """Arrays [N, ...] on the host, in memory or mapped from a file, as a data set of torch that gives whole batches."""

    x_N: NDArray[Any]
    y_N: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y_N)

    def __getitem__(self, place: int) -> Batch:
        x, y = self.__getitems__([place])
        return x[0], y[0]

    def __getitems__(self, places: Sequence[int]) -> Batch:
        # The rows of a mapped file are read in their order, which a disk likes, then laid in that of the batch.
        order = np.argsort(places, kind="stable")
        at = np.asarray(places)[order]
        back = np.argsort(order)
        return torch.from_numpy(self.x_N[at][back]), torch.from_numpy(self.y_N[at][back])


class Host:
    """Examples that stay on the host: `dataset` is Rows, or any map-style data set, dataset[i] -> (input, target).

    A data set may give tensors, NumPy arrays, numbers, and tuples, lists or mappings of them. It must give the same
    example for the same place each time: random changes belong to the task's `augment`, where they are counted.
    workers: processes that gather batches ahead of the training; 0: this one does.
    """

    def __init__(self, dataset: Any, workers: int = 0, device: torch.device | None = None) -> None:
        self.dataset, self.workers = dataset, workers
        self.device = torch.device("cpu") if device is None else device
        self._order = _Order()
        self._loader: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_order": _Order(), "_loader": None}  # without its processes

    def to(self, device: torch.device) -> Host:
        """The same examples, where they are; batches go to `device`."""
        return Host(self.dataset, self.workers, device)

    def fetch(self, index_B: Tensor) -> Batch:
        """One batch, gathered by this process; unlike that of data on the device it reads index_B from the device."""
        places = index_B.tolist()
        get: Any = getattr(self.dataset, "__getitems__", None)
        examples = get(places) if get else [self.dataset[place] for place in places]
        batch: Batch = _move_to(self._collate(examples), self.device)
        return batch

    def stream(self, index_SB: NDArray[np.int64]) -> Iterator[Batch]:
        """The batches index_SB[0], index_SB[1], ... on the device, gathered and copied ahead of their use.

        One stream at a time: a second one ends the first. The next batch is copied while the last one is trained on.
        """
        if self._loader is None:
            self._loader = self._build_loader()
        self._order.index_SB = index_SB
        ahead = (_move_to(batch, self.device) for batch in self._loader)
        yield from (ready for ready, _ in itertools.pairwise(itertools.chain(ahead, [None])))

    def _build_loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.dataset,
            batch_sampler=self._order,
            collate_fn=self._collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            prefetch_factor=PREFETCHED if self.workers else None,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # of the processes' seeds: else torch's global one would be moved
        )

    @property
    def _collate(self) -> Any:
        return _identity if isinstance(self.dataset, Rows) else default_collate


class _Order:
    """What DataLoader calls a batch sampler: the places of each batch, in the order given."""

    index_SB: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.index_SB.tolist())

    def __len__(self) -> int:
        return len(self.index_SB)


def _identity(batch: Batch) -> Batch:
    return batch


def _move_to(value: Any, device: torch.device) -> Any:
    """The tensors of a tensor, tuple, list or mapping on the device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple | list):
        items = [_move_to(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: _move_to(item, device) for key, item in value.items()} if isinstance(value, dict) else value
