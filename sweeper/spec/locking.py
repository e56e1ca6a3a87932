"""The lock of a sweep's folder: one process trains it at a time, on this machine and on others that share the folder.

Processes of one machine exclude each other by a lock of the operating system, which ends with the process, however it
ends. Some network file systems do not pass such locks on to other machines. So the process that trains also leaves its
machine's name in `owner.json`, made by one exclusive operation, and removes it at the end. Another machine that finds
the file cannot know whether the process still runs, and refuses until the user removes it (`unlock`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sweeper.files import writing
from sweeper.owners import Machine, this_machine
from sweeper.spec.question import Home
from sweeper.types import InputError

LOCK_TIMEOUT = 0.5  # seconds; `is_running` holds the lock only for microseconds


@dataclass(frozen=True)
class Owner:
    """The process that trains a sweep."""

    machine: Machine
    pid: int


@contextmanager
def lock(home: Home) -> Iterator[None]:
    """Hold the sweep's lock. The operating system releases it when the process ends, however it ends.

    Raises:
        InputError: If another process is running the sweep, or another machine was when it was last heard of.
        StorageError: If the folder cannot be written.
    """
    refuse_other_machine(home)
    with writing(home.path):
        home.path.mkdir(parents=True, exist_ok=True)
    with _hold(home):
        with writing(_owner_path(home)):
            _claim(home)
        try:
            yield
        finally:
            _owner_path(home).unlink(missing_ok=True)


def is_running(home: Home) -> bool:
    """Whether a process is running this sweep. Writes nothing, and does not keep a process from starting it.

    It takes a shared lock and releases it at once. That fails only while a sweep holds its exclusive lock, and a sweep
    that starts in that instant tries again (`lock`). Another machine's process counts as running until it is unlocked.
    """
    import fcntl

    if _other_owner(home) is not None:
        return True
    try:
        file = os.open(home.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)  # releases the lock
    return False


def refuse_other_machine(home: Home) -> None:
    """Do nothing unless another machine runs the sweep.

    Raises:
        InputError: If it does, or did when it was last heard of.
    """
    owner = _other_owner(home)
    if owner is not None:
        raise InputError(
            "name",
            home.name,
            f"the machine {owner.machine.host} is running this sweep (process {owner.pid}), or crashed while it did",
            f"Wait until it ends. If that process has surely ended, `python -m sweeper unlock {home.name}`",
        )


def unlock(home: Home) -> Owner | None:
    """Remove what another machine left, and return which process left it; None if there is nothing.

    Raises:
        InputError: If a process of this machine is running the sweep.
    """
    owner = _read_owner(home)
    if owner is not None:
        with _hold(home):
            _owner_path(home).unlink(missing_ok=True)
    return owner


@contextmanager
def _hold(home: Home) -> Iterator[None]:
    from filelock import FileLock, Timeout

    file = FileLock(home.lock)
    try:
        with writing(home.lock):
            file.acquire(timeout=LOCK_TIMEOUT)
    except Timeout:
        raise InputError(
            "name",
            home.name,
            "another process is running this sweep",
            f"Follow it with `python -m sweeper status {home.name} --watch`, or wait until it ends",
        ) from None
    try:
        yield
    finally:
        file.release()


# --- the machine ------------------------------------------------------------------------------------


def _claim(home: Home) -> None:
    """Write this process to the folder. What a dead process of this machine left is replaced: the lock is held."""
    owner = Owner(this_machine(), os.getpid())
    partial = _owner_path(home).with_suffix(f".{owner.machine.host}.{owner.pid}.partial")
    try:
        partial.write_text(json.dumps({**asdict(owner.machine), "pid": owner.pid}), encoding="utf-8")
        while not _link(partial, _owner_path(home)):
            if _read_owner(home) is None:  # damaged, or being written where there are no hard links
                time.sleep(LOCK_TIMEOUT)
            refuse_other_machine(home)
            _owner_path(home).unlink(missing_ok=True)
    finally:
        partial.unlink(missing_ok=True)


def _link(partial: Path, path: Path) -> bool:
    """Give a file its name, and return whether that was free. It is one operation, on a network file system too."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(partial.read_text(encoding="utf-8"))
            return True
        return False
    return True


def _other_owner(home: Home) -> Owner | None:
    """Return the process of another machine that owns the sweep; None if there is none."""
    owner = _read_owner(home)
    return None if owner is None or owner.machine.is_same(this_machine()) else owner


def _read_owner(home: Home) -> Owner | None:
    """Return the process that owns the sweep, dead or not; None if there is none, or a crash damaged the file."""
    try:
        stored = json.loads(_owner_path(home).read_text(encoding="utf-8"))
        return Owner(Machine(str(stored["host"]), str(stored["boot"])), int(stored["pid"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _owner_path(home: Home) -> Path:
    return home.path / "owner.json"
