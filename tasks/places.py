"""Storage of examples: on the device, or on the host, from where batches stream to the device."""

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
PREFETCHED = 4  # batches that each process gathers in advance


@dataclass(frozen=True)
class Resident:
    """Examples on the device.

    Attributes:
        x_N: Inputs.
        y_N: Targets.
    """

    x_N: Tensor
    y_N: Tensor

    def __len__(self) -> int:
        return len(self.y_N)

    def to(self, device: torch.device) -> Resident:
        """Return the same examples on `device`."""
        return Resident(self.x_N.to(device), self.y_N.to(device))

    def fetch(self, index_B: Tensor) -> Batch:
        """Return inputs and targets of the examples `index_B`."""
        return self.x_N[index_B], self.y_N[index_B]


@dataclass(frozen=True)
class Rows:
    """A torch data set of arrays on the host, in memory or mapped from a file, that returns whole batches.

    Attributes:
        x_N: Inputs, [N, ...].
        y_N: Targets, [N, ...].
    """

    x_N: NDArray[Any]
    y_N: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y_N)

    def __getitem__(self, place: int) -> Batch:
        x, y = self.__getitems__([place])
        return x[0], y[0]

    def __getitems__(self, places: Sequence[int]) -> Batch:
        # Rows of a mapped file are read in file order, which is faster, and then put in the order of the batch.
        order = np.argsort(places, kind="stable")
        at = np.asarray(places)[order]
        back = np.argsort(order)
        return torch.from_numpy(self.x_N[at][back]), torch.from_numpy(self.y_N[at][back])


class Host:
    """Examples that stay on the host.

    Args:
        dataset: `Rows`, or any map-style data set, dataset[i] -> (input, target). It may return tensors, NumPy arrays,
            numbers, and tuples, lists or mappings of these. It must always return the same example for the same index:
            random changes belong in the task's `augment`, where they are counted.
        workers: Processes that gather batches in advance. 0 for the training process itself.
        device: Where batches go. None for the CPU.
    """

    def __init__(self, dataset: Any, workers: int = 0, device: torch.device | None = None) -> None:
        self.dataset, self.workers = dataset, workers
        self.device = torch.device("cpu") if device is None else device
        self._order = _Order()
        self._loader: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_order": _Order(), "_loader": None}  # processes cannot be pickled

    def to(self, device: torch.device) -> Host:
        """Return the same examples, still on the host. Their batches go to `device`."""
        return Host(self.dataset, self.workers, device)

    def fetch(self, index_B: Tensor) -> Batch:
        """Return one batch, gathered by this process. This reads index_B from the device, unlike `Resident.fetch`."""
        places = index_B.tolist()
        get: Any = getattr(self.dataset, "__getitems__", None)
        examples = get(places) if get else [self.dataset[place] for place in places]
        batch: Batch = _move_to(self._collate(examples), self.device)
        return batch

    def stream(self, index_SB: NDArray[np.int64]) -> Iterator[Batch]:
        """Iterate over the batches index_SB[0], index_SB[1], ... on the device, gathered and copied in advance.

        The next batch is copied while the model trains on the current one. There is one stream at a time: a new one
        ends the previous one.
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
            generator=torch.Generator(),  # for the processes' seeds; the default would advance torch's global generator
        )

    @property
    def _collate(self) -> Any:
        return _identity if isinstance(self.dataset, Rows) else default_collate


class _Order:
    """A batch sampler for DataLoader: the indices of each batch, in the given order."""

    index_SB: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.index_SB.tolist())

    def __len__(self) -> int:
        return len(self.index_SB)


def _identity(batch: Batch) -> Batch:
    return batch


def _move_to(value: Any, device: torch.device) -> Any:
    """Return a tensor, tuple, list or mapping with all tensors on the device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple | list):
        items = [_move_to(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: _move_to(item, device) for key, item in value.items()} if isinstance(value, dict) else value
