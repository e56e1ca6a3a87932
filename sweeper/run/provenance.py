"""What a sweep is made of, for trackers: the commit of the user's code, versions, and what is trained for how long."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sweeper.run import machine
from sweeper.spec.sweep import SweepSpec
from sweeper.tracking.redaction import redact
from sweeper.types import Summary

GIT_SECONDS = 5.0  # a status of a huge repository on a slow disk is not worth more
LONGEST = 200  # characters of a description
PLAIN = (bool, int, float, str)


def summary(spec: SweepSpec, device: str) -> Summary:
    """Return what every study of a sweep shares.

    Args:
        spec: The sweep.
        device: What it trains on, such as "cpu" or "cuda:0".

    Returns:
        Params: optimizer, model, data, batch_size, steps and epochs of a trial. Tags: git.commit and git.dirty of the
        working folder, if it is in a git repository; version.<package>, machine.processor, machine.gpu.
    """
    batch_size, steps = spec.train.recipe.batch_size, spec.train.steps
    facts = machine.describe(device)
    hardware = {f"machine.{name}": facts.pop(name) for name in ("processor", "gpu") if name in facts}
    return Summary(
        params={
            "optimizer": _text(spec.question["optimizer"]),
            "model": _text(spec.question.get("model", {"class": type(spec.task).__name__})),
            "data": _text(spec.question["data"]) if "data" in spec.question else spec.label.partition("-")[0],
            "batch_size": batch_size,
            "steps": steps,
            "epochs": round(steps * batch_size / spec.task.size("train", 0), 2),
        },
        tags={**commit(Path.cwd()), **{f"version.{name}": text for name, text in facts.items()}, **hardware},
    )


def commit(folder: Path) -> dict[str, str]:
    """Return git.commit and git.dirty ("true" if a tracked file has changed since); {} outside of a git repository."""
    head = _git(folder, "rev-parse", "--verify", "HEAD")
    if not head:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"git.commit": head} | ({} if changes is None else {"git.dirty": str(bool(changes)).lower()})


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints; None if it fails, takes too long, or is not installed."""
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # other git commands there must not wait
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(node: Mapping[str, object]) -> str:
    """Return a node of the configuration in one line: its class, and its fixed options that are plain values."""
    name = str(node.get("_target_") or node.get("class", "")).rpartition(".")[2]
    options: object = node.get("arguments", {}) if "class" in node else node
    assert isinstance(options, Mapping)
    shown = [f"{key}={_short(value)}" for key, value in options.items() if _is_shown(key, value)]
    return redact(f"{name}({', '.join(shown)})" if shown else name)[:LONGEST]


def _is_shown(key: str, value: object) -> bool:
    return key != "_target_" and isinstance(value, PLAIN)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
