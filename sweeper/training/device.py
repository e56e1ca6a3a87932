"""The device that trains: its name, threads, deterministic algorithms, and models moved to host memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from sweeper.types import InputError

Threads = Literal["auto"] | int
WAIT_SHARE = 0.5  # of the device's memory; if more is in use, models wait for their turn in host memory


def resolve_device(name: str) -> torch.device:
    """Return the device that `device=<name>` selects.

    Args:
        name: A torch device, such as "cuda:1"; "auto" for cuda, else mps, else cpu.

    Raises:
        InputError: If there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    remedy = "Use auto, cpu, cuda, cuda:1 or mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError("device", name, "not a device of torch", remedy) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError("device", name, "not supported", remedy)
    cards = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= cards:
        raise InputError("device", name, f"torch finds {cards} CUDA devices here", remedy)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device", name, "torch finds no Apple GPU here", remedy)
    return device


def thread_count(threads: Threads) -> int:
    """Return the threads of one operation on the CPU, by default one.

    float32 sums depend on it, so it must not depend on the machine or on the number of processes. The cores serve
    trials side by side instead (sweeper.training.workers.processes).
    """
    return 1 if threads == "auto" else threads


@contextlib.contextmanager
def intra_op_threads(threads: int) -> Iterator[None]:
    """Set the number of threads for a block of code, then restore the caller's."""
    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def deterministic_algorithms(device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms for a block of code, then restore the caller's settings.

    On a CPU torch's algorithms are always deterministic. On a GPU, an operation without one warns.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    mode = torch.get_deterministic_debug_mode()
    deterministic: Any = torch.utils.deterministic  # its property is unknown to type checkers
    fill = deterministic.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


class OffloadedModel:
    """A model, its optimizer and other tensors that wait in host memory until `reload`.

    Args:
        model: The model; it moves to the CPU.
        optimizer: Its optimizer.
        others: Other tensors. The list is changed in place.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, others: list[torch.Tensor]) -> None:
        self._model, self._others = model, others
        self._moved: list[tuple[dict[str, Any], str, torch.device]] = []
        for state in optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.device.type != "cpu":
                    self._moved.append((state, name, value.device))
                    state[name] = value.cpu()
        others[:] = [value.cpu() for value in others]
        model.to("cpu")

    def reload(self, device: torch.device) -> None:
        """Move the model and `others` to `device`, and the optimizer's state to where it was."""
        self._model.to(device)
        self._others[:] = [value.to(device) for value in self._others]
        for state, name, origin in self._moved:
            state[name] = state[name].to(origin)


def is_crowded(device: torch.device) -> bool:
    """Return whether so much of the device's memory is in use that models should wait in host memory."""
    if device.type != "cuda":
        return False
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.memory_allocated(device) > WAIT_SHARE * total
