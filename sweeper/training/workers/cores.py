"""Where trainer processes may run on this machine: one for each GPU of one kind, or one for each physical core."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from sweeper.training.device import resolve_device
from sweeper.types import InputError

_SYSTEM = Path("/sys")


def worker_devices(workers: int | str, device: str) -> tuple[str, ...]:
    """The device of each process; one alone means that no other process is needed.

    auto: every GPU of the first one's kind, since another kind gives other last bits, where `device` names no card;
    on the CPU the physical cores this process may use. A number: so many processes, over those GPUs in turn, or on the
    one device that was named. Raises InputError for what is neither.
    """
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError("trainer.workers", workers, "is no number of processes", "Use auto, or a whole number from 1.")
    asked = None if workers == "auto" else int(workers)
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        cards = [str(chosen)] if ":" in device else gpus_like(chosen.index or 0)
        count = len(cards) if asked is None else asked
        return tuple(cards[place % len(cards)] for place in range(count))
    count = (count_cores() if chosen.type == "cpu" else 1) if asked is None else asked
    return (str(chosen),) * count


def gpus_like(first: int) -> list[str]:
    """The GPUs of the same kind as this one, itself first."""
    kinds = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    others = [index for index, kind in enumerate(kinds) if kind == kinds[first] and index != first]
    return [f"cuda:{index}" for index in (first, *others)]


def count_cores(system: Path = _SYSTEM) -> int:
    """Physical cores that this process may use: by its affinity, and by the limit of its container."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    physical = {_siblings(system, cpu) for cpu in allowed}
    return max(1, math.floor(min(len(physical), _cpu_quota(system))))


def _siblings(system: Path, cpu: int) -> str:
    """Which logical CPUs share the core of this one; itself where the system does not say."""
    try:
        return (system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cpu_quota(system: Path) -> float:
    """CPUs' worth of time that the control group allows (version 2, else 1); infinity without a limit."""
    groups = system / "fs/cgroup"
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((groups / name).read_text() for name in names).split()
            return float(quota) / float(period) if quota not in ("max", "-1") else math.inf
        except (OSError, ValueError):
            continue
    return math.inf
