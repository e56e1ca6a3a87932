"""Other libraries' schedulers, stepped: the oracles of this room."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
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


@pytest.fixture(scope="session")
def timm_lr() -> Callable[..., Any]:
    """timm_lr(class name, peak_lr, steps, **arguments) -> the LR of each update as timm has it, float64 [steps]."""

    def trace(name: str, peak_lr: float, steps: int, **arguments: Any) -> Any:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak_lr)
        files = ("cosine_lr", "poly_lr", "tanh_lr", "wsd_lr")
        classes = {key: value for file in files for key, value in vars(_timm_scheduler(file)).items()}
        scheduler = classes[name](optimizer, t_in_epochs=False, **arguments)
        values = np.empty(steps)
        for t in range(steps):
            scheduler.step_update(t)
            values[t] = optimizer.param_groups[0]["lr"]
        return values

    return trace


def _timm_scheduler(file: str) -> ModuleType:
    """One file of timm.scheduler, which needs torch alone; timm itself would take torchvision along."""
    if "timm_scheduler" not in sys.modules:
        found = importlib.util.find_spec("timm")
        assert found is not None
        assert found.submodule_search_locations is not None
        package = ModuleType("timm_scheduler")
        package.__path__ = [f"{found.submodule_search_locations[0]}/scheduler"]
        sys.modules["timm_scheduler"] = package
    return importlib.import_module(f"timm_scheduler.{file}")
