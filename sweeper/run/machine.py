"""What a machine's rounding depends on: the same program may round differently on another machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import sweeper

PACKAGES = ("torch", "numpy")


def describe(device: str) -> dict[str, str]:
    """Return Python, packages and processor of this machine, and the GPU that `device` names."""
    facts = {"python": platform.python_version(), "sweeper": sweeper.__version__}
    facts |= {name: version(name) for name in PACKAGES} | {"processor": _processor()}
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return facts


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return what differs between two machines, such as "torch: 2.13.0 there, 2.14.0 here"."""
    names = dict.fromkeys([*there, *here])
    return [
        f"{name}: {there.get(name, 'none')} there, {here.get(name, 'none')} here"
        for name in names
        if there.get(name) != here.get(name)
    ]


def _processor() -> str:
    """Return the processor's model as Linux names it, or what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
