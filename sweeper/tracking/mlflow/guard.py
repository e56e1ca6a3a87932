"""Run a command until the standard input ends: `python guard.py command ...`. Then end it and all it started.

The input is a pipe from the process that started the guard. It ends when that process ends, however it ends, so
MLflow's server never outlives the command that shows it. The guard leads a group of processes of its own, with the
server in it. It imports the standard library alone, because it is run by its path.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

STOP_SECONDS = 10.0


def main() -> int:
    """Run the command. Returns its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # sent to the whole group, whose last process this is
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    finally:
        os.killpg(0, signal.SIGKILL)  # this process too


if __name__ == "__main__":
    sys.exit(main())
