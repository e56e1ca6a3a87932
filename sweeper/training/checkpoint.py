"""The state of open jobs on disk: written whole or not at all, one complete round at a time."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweeper.types import Job

States = dict[tuple[str, int, int], dict[str, Any]]  # by (study, trial, member)

_FILE = "jobs.pt"
_ROUND = re.compile(r"round-(\d{6,})")
_log = logging.getLogger(__name__)


def write_checkpoint(folder: Path, round: int, states: States) -> None:
    """`folder`/round-000012/ with these states, durable before it has that name; earlier rounds are removed after.

    A crash at any point leaves the earlier round or this one, complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"round-{round:06d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with (partial / _FILE).open("wb") as file:
        torch.save(states, file)
        file.flush()
        os.fsync(file.fileno())
    _fsync_folder(partial)
    if final.exists():  # this round once more
        (partial / _FILE).replace(final / _FILE)
        _fsync_folder(final)
    else:
        partial.rename(final)
    _fsync_folder(folder)
    for other in folder.iterdir():
        if other.name.startswith("round-") and other != final:
            shutil.rmtree(other, ignore_errors=True)


def read_checkpoint(folder: Path, last_round: int) -> States:
    """The states of the newest readable round <= last_round, on the CPU; empty where there is none."""
    rounds = [(int(match[1]), path) for path in _entries(folder) if (match := _ROUND.fullmatch(path.name))]
    for round, path in sorted(rounds, reverse=True):
        if round > last_round:
            continue
        try:
            states: States = torch.load(path / _FILE, map_location="cpu", weights_only=True)
            return states
        except Exception as error:  # torn, foreign or written by another version: torch.load raises many kinds
            _log.warning("checkpoint %s cannot be read (%s): its trials are trained again", path.name, error)
    return {}


def job_digest(job: Job, *of_the_sweep: object) -> str:
    """A text that is equal exactly where two jobs train the same: their numbers, and what the sweep adds to them."""
    numbers = (
        tuple(job.id),
        job.family,
        job.seed,
        _digits(job.lr_S),
        None if job.momentum_S is None else _digits(job.momentum_S),
        tuple(job.report_steps),
        sorted(job.hparams.items()),
        job.partition,
        tuple(job.parts),
        job.controller,
        *of_the_sweep,
    )
    return hashlib.blake2b(repr(numbers).encode(), digest_size=16).hexdigest()


def _digits(numbers_S: Any) -> str:
    return np.ascontiguousarray(numbers_S, dtype=np.float64).tobytes().hex()


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; where the system has no such thing, its renames must do."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
