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
import time

STOP_SECONDS = 10.0


def main() -> int:
    """Run the command. Returns its exit code."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # what is ended is this process's own group, never that of whoever started it
    signal.signal(signal.SIGTERM, lambda *_: None)  # sent to the whole group, whose last process this is
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    input_ended = threading.Event()
    threading.Thread(target=_end_with_input, args=(input_ended,), daemon=True).start()
    code = process.wait()
    if input_ended.is_set():
        os.killpg(0, signal.SIGKILL)  # whatever the command started, and this process
    return code


def _end_with_input(input_ended: threading.Event) -> None:
    while os.read(0, 4096):  # sys.stdin would be locked while the interpreter ends
        pass
    input_ended.set()
    os.killpg(0, signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
