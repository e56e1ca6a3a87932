"""The devices of worker processes: one process for each GPU of one model, or for each physical core."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from sweeper.training.device import resolve_device
from sweeper.types import InputError

_SYSTEM = Path("/sys")


def worker_devices(workers: int | str, device: str) -> tuple[str, ...]:
    """Return the device of each process. A single one means that this process trains alone.

    Args:
        workers: Number of processes; "auto" for one on each GPU or physical core.
        device: A torch device, or "auto". If it names no card, all GPUs of the same model are used in turn, because
            another model differs in the last bits.

    Raises:
        InputError: If `workers` is neither "auto" nor a whole number of at least 1, or there is no such device.
    """
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        remedy = "Use auto, or a whole number of at least 1"
        raise InputError("trainer.workers", workers, "not a number of processes", remedy)
    requested = None if workers == "auto" else int(workers)
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        cards = [str(chosen)] if ":" in device else gpus_like(chosen.index or 0)
        count = len(cards) if requested is None else requested
        return tuple(cards[place % len(cards)] for place in range(count))
    count = (count_cores() if chosen.type == "cpu" else 1) if requested is None else requested
    return (str(chosen),) * count


def gpus_like(first: int) -> list[str]:
    """Return the GPUs of the same model as this one, itself first."""
    models = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    others = [index for index, model in enumerate(models) if model == models[first] and index != first]
    return [f"cuda:{index}" for index in (first, *others)]


def count_cores(system: Path = _SYSTEM) -> int:
    """Return the number of physical cores that this process may use, by its CPU affinity and its container's limit."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    physical = {_siblings(system, cpu) for cpu in allowed}
    return max(1, math.floor(min(len(physical), _cpu_quota(system))))


def _siblings(system: Path, cpu: int) -> str:
    """Return the logical CPUs that share a core with this one, or itself if the system does not tell."""
    try:
        return (system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cpu_quota(system: Path) -> float:
    """Return how many CPUs the control group allows (cgroup version 2, else 1); infinity without a limit."""
    groups = system / "fs/cgroup"
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((groups / name).read_text() for name in names).split()
            return float(quota) / float(period) if quota not in ("max", "-1") else math.inf
        except (OSError, ValueError):
            continue
    return math.inf
