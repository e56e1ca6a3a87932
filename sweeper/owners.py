"""Which process of which machine owns a file or folder, so that what a dead process left can be told from the rest."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LABEL = r"(?P<machine>[0-9a-f]{8})-(?P<pid>[0-9]+)-(?P<started>[0-9a-z]+)"  # of a process, in file names
BOOT_KEY = "kern.bootsessionuuid"  # of macOS
STARTED = 19  # the place of the start time in /proc/<pid>/stat, after the name


@dataclass(frozen=True)
class Machine:
    """A machine since it was last started.

    Attributes:
        host: Its name.
        boot: Changes with every start of its kernel; "" where the system does not tell.
    """

    host: str
    boot: str

    def is_same(self, other: Machine) -> bool:
        """Return whether both are one machine, perhaps before and after a restart, or containers of one machine."""
        return self.host == other.host or (self.boot != "" and self.boot == other.boot)


@cache
def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    return Machine(socket.gethostname(), _read("/proc/sys/kernel/random/boot_id") or _call("sysctl", "-n", BOOT_KEY))


def label() -> str:
    """Return a text for file names that identifies this process: machine, process id and start time."""
    return f"{_machine_digest()}-{os.getpid()}-{_start_time(os.getpid())}"


def is_dead(label: str) -> bool:
    """Return whether the process that a label names has surely ended. It is False for another machine's process."""
    match = re.fullmatch(LABEL, label)
    if match is None or match["machine"] != _machine_digest():
        return False
    started = _start_time(int(match["pid"]))
    return started != match["started"] if started else not _exists(int(match["pid"]))


@cache
def _machine_digest() -> str:
    """Return a hash of everything within which process ids are unique: the machine, its start, the container."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a link of the kernel, not a path
    machine = this_machine()
    return hashlib.blake2b(f"{machine.host} {machine.boot} {namespace}".encode(), digest_size=4).hexdigest()


def _start_time(pid: int) -> str:
    """Return when a process started, in a unit that no change of the clock affects on Linux; "" if there is none."""
    if Path("/proc/self/stat").exists():
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name in parentheses may have spaces
        return fields[STARTED] if len(fields) > STARTED else ""
    return re.sub(r"\W", "", _call("ps", "-o", "lstart=", "-p", str(pid))).lower()


def _exists(pid: int) -> bool:
    """Return whether there is a process, perhaps another user's, whose start time is hidden."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _call(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
