"""Checkpoints: the state of open jobs on disk, written whole or not at all, one round at a time.

A damaged one is not believed: its jobs are restored from an earlier round, or trained again.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sweeper.files import fsync_folder, writing
from sweeper.training import torch_files
from sweeper.training.controllers import SavedCourse
from sweeper.types import Job, JobId, Trainer

Key = tuple[str, int, int]  # study, trial, member: a JobId as plain data

_FILE = "jobs.pt"
_ROUND = re.compile(r"round-(\d{6,})")
_log = logging.getLogger(__name__)


class Saved(SavedCourse):
    """A job in a checkpoint. Each trainer adds the state of the model once it is built.

    Attributes:
        digest: See `job_digest`.
        step: Updates finished.
    """

    digest: str
    step: int


AnySaved = TypeVar("AnySaved", bound=Saved)  # of one trainer


def write_checkpoint(folder: Path, round: int, states: Mapping[JobId, Saved]) -> None:
    """Write these states to `folder`/round-000012/, then remove earlier rounds.

    The round is durable before it has its name. A crash at any point leaves the earlier round or this one, complete.

    Raises:
        StorageError: The disk is full, for example. The earlier round is complete.
    """
    with writing(folder):
        _write_round(folder, round, states)


def _write_round(folder: Path, round: int, states: Mapping[JobId, Saved]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"round-{round:06d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    torch_files.save({tuple(id): state for id, state in states.items()}, partial / _FILE)  # plain data, no JobId
    fsync_folder(partial)
    if final.exists():  # the same round is written again
        (partial / _FILE).replace(final / _FILE)
        fsync_folder(final)
    else:
        partial.rename(final)
    fsync_folder(folder)
    for other in folder.iterdir():
        if other.name.startswith("round-") and other != final:
            shutil.rmtree(other, ignore_errors=True)


def read_checkpoint(folder: Path, last_round: int) -> dict[Key, Any]:
    """Return the states of the newest readable round up to `last_round`, on the CPU; empty if there is none.

    Any trainer may have written them. Only a state with the digest of a job is known to be a Saved of this trainer.
    """
    rounds = [(int(match[1]), path) for path in _entries(folder) if (match := _ROUND.fullmatch(path.name))]
    for round, path in sorted(rounds, reverse=True):
        if round > last_round:
            continue
        try:
            # Memory-mapped, because several processes may each read some jobs of one file.
            states: dict[Key, Any] = torch_files.load(path / _FILE, mmap=True)
            return states
        except (OSError, torch_files.DamagedError) as error:
            _log.warning("checkpoint %s cannot be read (%s), so its trials are trained again", path.name, error)
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
        jobs: The jobs to reopen.
        digest: Returns the digest of a job, which the saved one must equal.
        check: Raises if the trainer cannot train a job.
        reopen: Opens a job from its state. If the state does not fit the model, it raises and opens nothing.

    Returns:
        Updates finished of each reopened job.
    """
    steps: dict[JobId, int] = {}
    for job in jobs:
        state = states.get(job.id)
        if state is None or state["digest"] != digest(job):
            continue
        check(job)
        try:
            reopen(job, state)
        except Exception as error:  # the model changed, though the job did not
            _log.warning("%s cannot be restored (%s), so it is trained again from its start", job.id, error)
        else:
            steps[job.id] = state["step"]
    return steps


def part_folder(folder: Path, place: int) -> Path:
    """Return the folder with the jobs of one worker process."""
    return folder / f"part-{place:03d}"


def restore_jobs(trainer: Trainer, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
    """Restore these jobs from a checkpoint that one process or several workers wrote.

    The newest round is read first. After a crash between two parts, a job may be in an older one too.

    Args:
        trainer: The trainer that reopens them.
        folder: Folder of the checkpoint.
        jobs: The jobs to restore.
        last_round: The last committed round.

    Returns:
        Updates finished of each restored job.
    """
    steps: dict[JobId, int] = {}
    for source in sorted([folder, *folder.glob("part-*")], key=lambda path: -_newest_round(path, last_round)):
        missing = [job for job in jobs if job.id not in steps]
        if missing:
            steps |= trainer.restore(source, missing, last_round)
    return steps


def remove_others(folder: Path, places: Collection[int]) -> None:
    """Remove what older checkpoints left behind.

    Args:
        folder: Folder of the checkpoint.
        places: The workers whose parts hold all open jobs; these parts stay. Empty if this process wrote the
            checkpoint alone: then all parts are removed.
    """
    current = {part_folder(folder, place) for place in places}
    for path in _entries(folder) if places else folder.glob("part-*"):
        if path not in current:
            shutil.rmtree(path, ignore_errors=True)


def job_digest(job: Job, *of_the_sweep: object) -> str:
    """Return a text that is equal for two jobs only if they train the same.

    Args:
        job: The job.
        of_the_sweep: What the sweep adds: the data, the recipe, ...
    """
    values = (
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
    return hashlib.blake2b(repr(values).encode(), digest_size=16).hexdigest()


def _hex_bytes(values_S: Any) -> str:
    return np.ascontiguousarray(values_S, dtype=np.float64).tobytes().hex()


def _newest_round(source: Path, last_round: int) -> int:
    """Return the newest round up to `last_round` in a source; -1 without one.

    A trainer that is made of two has a folder for each.
    """
    inner = [path for path in _entries(source) if path.is_dir() and not path.name.startswith(("part-", "round-"))]
    names = [path.name for folder in (source, *inner) for path in _entries(folder)]
    rounds = [int(match[1]) for name in names if (match := _ROUND.fullmatch(name))]
    return max((round for round in rounds if round <= last_round), default=-1)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
