"""The state of open jobs on disk: written whole or not at all, one complete round at a time."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from sweeper.training.controllers import SavedCourse
from sweeper.types import Job, JobId, Trainer

Key = tuple[str, int, int]  # study, trial, member: a JobId as plain data

_FILE = "jobs.pt"
_ROUND = re.compile(r"round-(\d{6,})")
_log = logging.getLogger(__name__)


class Saved(SavedCourse):
    """A job in a checkpoint; each trainer adds what it holds of a model, once it is built.

    digest: See job_digest. step: Updates finished.
    """

    digest: str
    step: int


AnySaved = TypeVar("AnySaved", bound=Saved)  # of one trainer


def write_checkpoint(folder: Path, round: int, states: Mapping[JobId, Saved]) -> None:
    """`folder`/round-000012/ with these states, durable before it has that name; earlier rounds are removed after.

    A crash at any point leaves the earlier round or this one, complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"round-{round:06d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with (partial / _FILE).open("wb") as file:
        torch.save({tuple(id): state for id, state in states.items()}, file)  # JobId would not load as plain data
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


def read_checkpoint(folder: Path, last_round: int) -> dict[Key, Any]:
    """Return the states of the newest readable round <= last_round, on the CPU; empty where there is none.

    They are what some trainer wrote: only one whose digest is a job's own is known to be a Saved of this trainer.
    """
    rounds = [(int(match[1]), path) for path in _entries(folder) if (match := _ROUND.fullmatch(path.name))]
    for round, path in sorted(rounds, reverse=True):
        if round > last_round:
            continue
        try:
            # Mapped: of a file with many jobs each process reads those it takes up.
            states: dict[Key, Any] = torch.load(path / _FILE, map_location="cpu", weights_only=True, mmap=True)
            return states
        except Exception as error:  # torn, foreign or written by another version: torch.load raises many kinds
            _log.warning("checkpoint %s cannot be read (%s): its trials are trained again", path.name, error)
    return {}


def reopen_jobs(
    states: Mapping[Key, AnySaved],
    jobs: Sequence[Job],
    *,
    digest: Callable[[Job], str],
    check: Callable[[Job], None],
    reopen: Callable[[Job, AnySaved], None],
) -> dict[JobId, int]:
    """Reopen the jobs that a checkpoint holds with the same digest, and return the step of each.

    Args:
        states: What `read_checkpoint` returned.
        jobs: Those that may be reopened.
        digest: What a job's saved digest must equal.
        check: Raises for a job that the trainer cannot take.
        reopen: Opens a job from its state; raises, and opens nothing, where the state does not fit its model.
    """
    stands: dict[JobId, int] = {}
    for job in jobs:
        state = states.get(job.id)
        if state is None or state["digest"] != digest(job):
            continue
        check(job)
        try:
            reopen(job, state)
        except Exception as error:  # another model under the same numbers
            _log.warning("%s cannot be restored (%s), so it is trained again from its start", job.id, error)
        else:
            stands[job.id] = state["step"]
    return stands


def part_folder(folder: Path, place: int) -> Path:
    """Where the process of that place keeps its jobs, of a trainer that has several."""
    return folder / f"part-{place:03d}"


def restore_jobs(trainer: Trainer, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
    """What `trainer` takes up of these jobs, whoever wrote the checkpoint: one process, or several their parts.

    The newest round goes first: after a crash between two parts, a job may be in an older one too.
    """
    stands: dict[JobId, int] = {}
    for source in sorted([folder, *folder.glob("part-*")], key=lambda path: -_newest_round(path, last_round)):
        left = [job for job in jobs if job.id not in stands]
        if left:
            stands |= trainer.restore(source, left, last_round)
    return stands


def remove_others(folder: Path, places: Collection[int]) -> None:
    """Leave the parts of these processes alone: all open jobs are in them; with no places, what one process wrote."""
    kept = {part_folder(folder, place) for place in places}
    for path in _entries(folder) if places else folder.glob("part-*"):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def job_digest(job: Job, *of_the_sweep: object) -> str:
    """A text that is equal exactly where two jobs train the same: their numbers, and what the sweep adds to them."""
    numbers = (
        tuple(job.id),
        job.family,
        job.seed,
        _hex_bytes(job.lr_S),
        None if job.momentum_S is None else _hex_bytes(job.momentum_S),
        tuple(job.report_steps),
        sorted(job.hparams.items()),
        job.partition,
        tuple(job.parts),
        None if job.controller is None else sorted(job.controller.items()),
        *of_the_sweep,
    )
    return hashlib.blake2b(repr(numbers).encode(), digest_size=16).hexdigest()


def _hex_bytes(numbers_S: Any) -> str:
    return np.ascontiguousarray(numbers_S, dtype=np.float64).tobytes().hex()


def _newest_round(source: Path, last_round: int) -> int:
    """The newest round of a source that counts, -1 without one; a trainer made of two has a folder for each."""
    inner = [path for path in _entries(source) if path.is_dir() and not path.name.startswith(("part-", "round-"))]
    names = [path.name for folder in (source, *inner) for path in _entries(folder)]
    rounds = [int(match[1]) for name in names if (match := _ROUND.fullmatch(name))]
    return max((round for round in rounds if round <= last_round), default=-1)


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
