"""The MLflow pages of a sweep: their addresses, and a server to show them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from sweeper.tracking.mlflow import guard, saved_view, sender
from sweeper.tracking.mlflow.destination import artifacts_uri, mlflow_uri, sqlite_path
from sweeper.tracking.redaction import redact, redact_address
from sweeper.types import InputError

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = guard.STOP_SECONDS + 1.0
PARENT_SECONDS = 0.5
PORTS_TRIED = 50


def charts_url(base: str, experiment_id: str, saved: str | None = None) -> str:
    """Return the address of an experiment's charts. (Its plain address may open another page.)

    Args:
        base: Address of the server.
        experiment_id: Id of the experiment.
        saved: Key of a saved view; None for the plain charts. A page that does not know the view shows those too.
    """
    return f"{base.rstrip('/')}/#{saved_view.address(experiment_id, saved)}"


def page_base(uri: str) -> str:
    """Return the address of a server's pages: its own without user info and query, which a browser asks for."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def addresses(spool: Path, base: str, experiment_id: str) -> str:
    """Return the addresses to print: the saved views, families first, or else the plain charts."""
    saved = sender.views(spool)
    if not saved:
        return charts_url(base, experiment_id)
    families, trials = (charts_url(base, experiment_id, saved.get(which)) for which in saved_view.WHICH)
    plain = charts_url(base, experiment_id)
    return f"{families}\nAll trials: {trials}\nPlain charts, if these pages stay empty: {plain}"


def is_sent(spool: Path) -> bool:
    """Return whether a command sent the sweep to an MLflow."""
    return bool(sender.address(spool))


def has_pages(spool: Path) -> bool:
    """Return whether anything of the sweep is in an MLflow."""
    return sender.experiment_id(spool) is not None


def unsent_text(spool: Path, name: str, count: int) -> str:
    """Return what was not delivered, and if it was to go to MLflow, why and how to deliver it."""
    if not is_sent(spool):
        return f"{count} events are not tracked yet."
    unsent = sender.unsent_text(spool, sender.address(spool), count)
    return f"{unsent} Nothing is lost. Send them later with: python -m sweeper sync {name}"


def location_text(spool: Path, name: str) -> str:
    """Return where to see a sweep's traces: pages of a server, or the command that starts one."""
    address, experiment = sender.address(spool), sender.experiment_id(spool)
    if address.startswith("http") and experiment is not None:
        return addresses(spool, page_base(address), experiment)
    return f"python -m sweeper ui {name}"


def ui(spool: Path, port: int = 5000) -> int:
    """Print the addresses of a sweep's pages. If they need a server, run one until Ctrl-C or the terminal's end.

    Args:
        spool: Folder of the spool.
        port: The first port to try.

    Returns:
        The exit code: 0, or 1 if the server does not start.

    Raises:
        InputError: The sweep has not been sent to an MLflow, or no port is free.
    """
    destination = sender.stored_destination(spool)
    experiment = sender.experiment_id(spool)
    if destination is None:
        remedy = "Give the command that trained it again, with tracking=mlflow: it sends what there is"
        raise InputError("ui", spool.parent.name, "not tracked (tracking=none)", remedy)
    if experiment is None:
        raise InputError("ui", spool.parent.name, "not in MLflow yet", "Send it with python -m sweeper sync")
    if destination.is_remote:
        print(addresses(spool, page_base(destination.uri), experiment))
        return 0
    try:
        with serve(destination.uri, port) as base:
            print(f"{addresses(spool, base, experiment)}\nPress Ctrl-C to stop the server.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                _wait_for_parent()
    except RuntimeError as error:
        print(f"sweeper: {error}", file=sys.stderr)
        return 1
    return 0


def _wait_for_parent() -> None:
    """Wait until the process that started this one ends: the terminal or the notebook. Forever under nohup."""
    parent, stays = os.getppid(), signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    while stays or os.getppid() == parent:
        time.sleep(PARENT_SECONDS)


@contextmanager
def serve(uri: str, port: int = 5000) -> Iterator[str]:
    """Run MLflow's server on the database at `uri`, for this machine only, while the block runs.

    It has one worker and no jobs: 2 processes and 0.5 GB instead of 15 and 1.9 GB.

    Args:
        uri: Address of the database.
        port: The first port to try.

    Yields:
        The address of the server.

    Raises:
        InputError: The database does not exist, or no port is free.
        RuntimeError: The server does not start.
    """
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        remedy = "Run a sweep first, or change to its working folder"
        raise InputError("uri", redact_address(uri), "no such database", remedy)
    folder = Path.cwd() if database is None else database.parent
    port = free_port(port)
    base = f"http://{HOST}:{port}"
    # Everybody on this machine can read a command line, but not the environment of a process.
    secret = {"MLFLOW_BACKEND_STORE_URI": mlflow_uri(uri, folder)}
    with tempfile.TemporaryFile() as output:  # a pipe that nothing reads would fill and block the server
        process = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, *_command(folder, port)],
            stdin=subprocess.PIPE,  # the guard ends the server when this process ends
            cwd=folder,
            env={**os.environ, **sender.ENVIRONMENT, **secret, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that `_end` and the guard reach its workers too
        )
        try:
            _wait_for(base, process, output, uri)
            yield base
        finally:
            _end(process)


def free_port(wanted: int) -> int:
    """Return `wanted`, or else the next free port.

    Raises:
        InputError: None of PORTS_TRIED ports is free.
    """
    for port in range(wanted, wanted + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise InputError("--port", wanted, f"this port and the next {PORTS_TRIED - 1} are in use", "Choose another one")


def _command(folder: Path, port: int) -> list[str]:
    options = {
        "--artifacts-destination": artifacts_uri(folder),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
    }
    return [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]


def _wait_for(base: str, process: subprocess.Popen[bytes], output: IO[bytes], uri: str = "") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health", timeout=2) as response:
            if response.status == 200:
                return
        time.sleep(0.2)
    output.seek(0)
    said = redact(output.read().decode(errors="replace"), uri)
    errors = re.findall(r"^[\w.]+(?:Error|Exception): .+$", said, re.MULTILINE)
    raise RuntimeError(f"MLflow's server does not respond at {base}: {errors[-1] if errors else said[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and the workers it started."""
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate()  # it waits, and closes the guard's input


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
