"""torch's own schedulers, stepped: the oracles of this room."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, LRScheduler, SequentialLR

Phase = tuple[int, Callable[[torch.optim.Optimizer], LRScheduler]]  # its first update after the warmup; its scheduler


@pytest.fixture
def torch_lr() -> Callable[..., Any]:
    """torch_lr(phases, peak_lr, steps, warmup_steps=0) -> the LR of each update as torch has it, float64 [steps].

    With a warmup: LinearLR from 1/(W+1), then the phases, in a SequentialLR. group: another number of the
    optimizer's group, as "momentum".
    """

    def trace(phases: list[Phase], peak_lr: float, steps: int, warmup_steps: int = 0, group: str = "lr") -> Any:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak_lr, momentum=0.9)
        starts = [warmup_steps + start for start, _ in phases]
        builds = [build for _, build in phases]
        if warmup_steps:
            starts.insert(0, 0)
            builds.insert(0, lambda o: LinearLR(o, 1 / (warmup_steps + 1), 1.0, warmup_steps))
        schedulers = [build(optimizer) for build in builds]
        scheduler = SequentialLR(optimizer, schedulers, starts[1:]) if len(schedulers) > 1 else schedulers[0]
        values = np.empty(steps)
        for t in range(steps):
            values[t] = optimizer.param_groups[0][group]
            if t + 1 < steps:
                optimizer.step()
                scheduler.step()
        return values

    return trace
