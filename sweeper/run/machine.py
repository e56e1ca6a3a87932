"""What a machine's arithmetic depends on: the same program on another one may round otherwise."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import sweeper

PACKAGES = ("torch", "numpy")


def here(device: str) -> dict[str, str]:
    """This machine in words: Python, packages, processor, and the GPU that `device` names."""
    found = {"python": platform.python_version(), "sweeper": sweeper.__version__}
    found |= {name: version(name) for name in PACKAGES} | {"processor": _processor()}
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return found


def unlike(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What differs between two machines: "torch: 2.13.0 there, 2.14.0 here"."""
    names = dict.fromkeys([*there, *here])
    return [
        f"{name}: {there.get(name, 'none')} there, {here.get(name, 'none')} here"
        for name in names
        if there.get(name) != here.get(name)
    ]


def _processor() -> str:
    """The model, as Linux names it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
