"""The guard ends a command and all it started when the process that started the guard ends, however that ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sweeper.tracking.mlflow import guard

# A server that starts a worker; both write their ids, and the worker does not listen to SIGTERM.
SERVER = """
import os, signal, subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
worker = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
worker.stdout.readline()
print(os.getpid(), worker.pid, flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
process = subprocess.Popen(
    [sys.executable, "-I", {guard.__file__!r}, sys.executable, "-c", {SERVER!r}],
    stdin=subprocess.PIPE, start_new_session=True,
)
time.sleep(600)
"""


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between the two calls
        return False


def wait_until_gone(pids, seconds=60):
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")  # noqa: PTH110
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_server_ends_with_the_process_that_shows_it(number):
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert all(map(is_alive, pids))
        parent.send_signal(number)
    wait_until_gone(pids)


def test_the_exit_code_is_the_commands():
    command = [sys.executable, "-I", guard.__file__, sys.executable, "-c", "raise SystemExit(3)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 3


def test_a_guard_ends_nobody_elses_processes():
    """It is in the group of this process when it starts."""
    command = [sys.executable, "-I", guard.__file__, sys.executable, "-c", "import time; time.sleep(600)"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60).returncode == -signal.SIGKILL
