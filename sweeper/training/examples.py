"""The examples of one part of a task's data, in one of its splits or folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sweeper.types import Task


@dataclass(frozen=True)
class Examples:
    """What a job trains on or is evaluated on.

    Attributes:
        task: The task that has them.
        part: "train", "valid" or "test".
        partition: Split or fold of the data.
    """

    task: Task
    part: str
    partition: int

    @property
    def size(self) -> int:
        """Number of examples."""
        return self.task.size(self.part, self.partition)

    def fetch(self, index_B: Tensor) -> tuple[Any, Tensor]:
        """Return inputs and targets [B, ...] of these examples, on the device of index_B."""
        return self.task.fetch(self.part, self.partition, index_B)
