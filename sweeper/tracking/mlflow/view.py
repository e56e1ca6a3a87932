"""The pages a person opens: their addresses, and MLflow's server to show them."""

from __future__ import annotations

import contextlib
import os
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

from sweeper.tracking.mlflow import saved_view, sender
from sweeper.tracking.mlflow.destination import ARTIFACTS, sqlite_path
from sweeper.types import InputError

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
PORTS_TRIED = 50


def charts_url(base: str, experiment_id: str, saved: str | None = None) -> str:
    """The page with the charts, as a saved view shows it (an experiment's plain address may open another page).

    A page that does not know the view shows the plain charts.
    """
    return f"{base.rstrip('/')}/#{saved_view.address(experiment_id, saved)}"


def addresses(spool: Path, base: str, experiment_id: str) -> str:
    """What a person is told: where the best trials are, then where others; without saved views the plain charts."""
    saved = sender.views(spool)
    if not saved:
        return charts_url(base, experiment_id)
    best, every, means = (charts_url(base, experiment_id, saved.get(which)) for which in saved_view.WHICH)
    return f"{best}\nAll trials: {every}\nMeans of families: {means}"


def is_sent(spool: Path) -> bool:
    """Whether a command sent the sweep to an MLflow."""
    return bool(sender.address(spool))


def unsent_text(spool: Path, name: str, count: int) -> str:
    """A sentence about events that have not arrived, with the way out where it is ours to know."""
    if not is_sent(spool):
        return f"Not tracked yet: {count} events."
    return f"Not in MLflow yet: {count} events; send them with python -m sweeper sync {name}"


def location_text(spool: Path, name: str) -> str:
    """Where a sweep's traces are to be seen: a page of a server, or the command that starts one."""
    address, experiment = sender.address(spool), sender.experiment_id(spool)
    if address.startswith("http") and experiment is not None:
        return addresses(spool, address, experiment)
    return f"python -m sweeper ui {name}   (or `mlflow ui` in this folder)"


def ui(spool: Path, port: int = 5000) -> int:
    """Show a sweep's traces until Ctrl-C: print the page's address, having started a server where one is needed."""
    destination = sender.stored_destination(spool)
    experiment = sender.experiment_id(spool)
    if destination is None or experiment is None:
        raise InputError(
            "ui", str(spool.parent.name), "nothing of this sweep is in MLflow yet", "Send it: python -m sweeper sync"
        )
    if destination.is_remote:
        print(addresses(spool, destination.display_uri, experiment))
        return 0
    with serve(destination.uri, port) as base:
        print(f"{addresses(spool, base, experiment)}\nCtrl-C ends the server.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause() if hasattr(signal, "pause") else time.sleep(float("inf"))
    return 0


@contextmanager
def serve(uri: str, port: int = 5000) -> Iterator[str]:
    """MLflow's server on the database at `uri`, on this machine alone, while the block runs; its address.

    One worker and no jobs: 2 processes and 0.5 GB instead of 15 and 1.9. port: the first one tried.
    """
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise InputError("uri", uri, "there is no such database", "Run a sweep first, or look in its working folder")
    port = free_port(port)
    base = f"http://{HOST}:{port}"
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would fill and stop the server
        process = subprocess.Popen(
            _command(uri, database, port),
            env={**os.environ, **sender.ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=said,
            stderr=said,
            start_new_session=True,  # its own processes are ended with it, below
        )
        try:
            _wait_for(base, process, said)
            yield base
        finally:
            _end(process)


def free_port(wanted: int) -> int:
    """`wanted`, or the next port that nobody listens on."""
    for port in range(wanted, wanted + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise InputError("--port", wanted, f"it and the {PORTS_TRIED} after it are taken", "Choose another")


def _command(uri: str, database: Path | None, port: int) -> list[str]:
    artifacts = (Path.cwd() if database is None else database.parent) / ARTIFACTS
    options = {
        "--backend-store-uri": uri,
        "--artifacts-destination": artifacts.as_uri(),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
    }
    return [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]


def _wait_for(base: str, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    said.seek(0)
    raise RuntimeError(f"mlflow server does not answer at {base}:\n{said.read().decode(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server and the workers it started."""
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
