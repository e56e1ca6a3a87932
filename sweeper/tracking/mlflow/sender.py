"""The sender: a process that brings the published rounds of a spool to MLflow.

It is a process and not a thread (docs/decisions/0003-sender-process.md): importing MLflow takes seconds, and its work
would hold the interpreter's lock while the loop trains. It starts with the sweep, reads its destination from one line
of its standard input, and reads `published.json` about once a second. When its standard input ends, also because the
sweep was killed, it sends what is published and exits, or gives up if nothing moves for a while.

Files in the folder of the spool: published.json, what may be sent, which the spool writes; sent.json, the progress with
each destination; destination.json, the last destination; sender.lock, which allows one sender at a time; sender.log.
Those that hold an address hold none of its secrets, and only their owner may read them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.files import open_private, writing
from sweeper.tracking.events import EVENTS, MARK, lines, rounds
from sweeper.tracking.mlflow import saved_view
from sweeper.tracking.mlflow.destination import Destination, resolve_address, sqlite_path, sqlite_uri
from sweeper.tracking.mlflow.faults import Fault, RefusedError, explain
from sweeper.tracking.mlflow.rows import Rows, Translation
from sweeper.tracking.redaction import HIDDEN, RedactedStream, redact_address
from sweeper.tracking.small_files import read_object, replace_object
from sweeper.tracking.spool import published_bytes
from sweeper.types import InputError

if TYPE_CHECKING:
    from sweeper.tracking.mlflow.client import Store

log = logging.getLogger("sweeper")

PERIOD_SECONDS = 1.0
PATIENCE_SECONDS = 60.0  # without progress after the end of the sweep
SYNC_PATIENCE_SECONDS = 15.0  # without progress while somebody waits for `sync`
REVIVE_SECONDS = 30.0
BESIDE = "beside"  # in destination.json: the database's path from the spool's folder, if a move would take both
POINTS_A_TURN = 20_000
LONGEST_BACKOFF_SECONDS = 10.0
LARGEST_LOG_BYTES = 1 << 20
NICENESS = 10  # training comes first

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default the client waits 245 s for a server that is down. The sender has its own backoff.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


# --- in the sweep's process -------------------------------------------------------------------------


class Sender:
    """The sender process, as the sweep sees it.

    Args:
        folder: Folder of the spool.
        destination: Where to send it.
        patience: Seconds without progress, after the sweep has ended, until the process gives up.
    """

    def __init__(self, folder: Path, destination: Destination, patience: float = PATIENCE_SECONDS) -> None:
        self._folder, self._destination, self._patience = folder, destination, patience
        self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        log_path = self._folder / "sender.log"
        with writing(log_path):
            if log_path.exists() and log_path.stat().st_size > LARGEST_LOG_BYTES:
                log_path.unlink()
            output = open_private(log_path, os.O_WRONLY | os.O_APPEND)
        with output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sweeper.tracking.mlflow.sender", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=_environment(),
                start_new_session=True,  # Ctrl-C must not reach it
            )
        order = {"destination": asdict(self._destination), "patience": self._patience}
        self._write_order((json.dumps(order) + "\n").encode())

    def _write_order(self, order: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; `revive` or `count_unsent` will notice
            self._process.stdin.write(order)
            self._process.stdin.flush()

    def revive(self) -> None:
        """Start the process again if it died (killed for memory, for example), at most every REVIVE_SECONDS."""
        if self._process.poll() is not None and time.monotonic() - self._started > REVIVE_SECONDS:
            log.warning("the sender ended with %s, see %s", self._process.returncode, self._folder / "sender.log")
            self._start()

    def finish(self, timeout: float | None) -> None:
        """Wait until the process has sent everything.

        Ctrl-C stops only the waiting; the process continues.

        Args:
            timeout: Seconds after which the process is killed; None for no limit. What it was sending may then be sent
                twice.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except KeyboardInterrupt:
            log.info("no longer waiting for the sender")
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def sync(folder: Path, *, uri: str | None = None) -> int:
    """Send what is not sent yet, and print the result.

    Args:
        folder: Folder of the spool.
        uri: Another MLflow than the last one.

    Returns:
        The exit code: 0 if everything is sent, or else 1.

    Raises:
        InputError: The destination is not known, or has a password that is not set.
    """
    destination = stored_destination(folder, uri)
    if destination is None and not _is_untracked(folder):
        path, problem = folder / "destination.json", "damaged or missing, so it is not known where to send the sweep"
        raise InputError("sync", path, problem, "Repeat the sweep's command: it sends the rest")
    if destination is None:
        print("Nothing to send: this sweep is not tracked (tracking=none).")
        return 0
    Sender(folder.resolve(), destination, SYNC_PATIENCE_SECONDS).finish(None)
    count = count_unsent(folder, destination)
    if count == 0:
        print(f"Everything is in MLflow at {destination.display_uri}.")
        return 0
    print(unsent_text(folder, destination.uri, count), file=sys.stderr)
    return 1


def unsent_text(folder: Path, uri: str, count: int) -> str:
    """Return a sentence: how many events are not sent, to which MLflow, and why.

    Args:
        folder: Folder of the spool.
        uri: Address of the MLflow, with or without its secrets.
        count: How many events.
    """
    problem = _progress_with(folder, uri).get("problem") or f"see {folder / 'sender.log'}"
    noun = "event is" if count == 1 else "events are"
    return f"{count} {noun} not in MLflow at {redact_address(uri)} yet: {str(problem).rstrip('.')}."


def store_destination(folder: Path, destination: Destination | None) -> None:
    """Store where the sweep is sent, without secrets; None for nowhere."""
    if destination is None:
        replace_object(folder / "destination.json", None)
        return
    beside = {BESIDE: path} if (path := _path_from(folder, destination.uri)) else {}
    replace_object(folder / "destination.json", {**asdict(destination), "uri": destination.display_uri, **beside})


def _is_untracked(folder: Path) -> bool:
    """Whether the last command sent nothing: it stored that, or stored no destination beside its events."""
    path = folder / "destination.json"
    if not path.exists():
        return (folder / EVENTS).exists()  # or else the whole spool is lost
    return path.is_file() and path.read_bytes().strip() == b"null"


def count_unsent(folder: Path, destination: Destination) -> int:
    """Return the number of published events that are not known to have reached the destination."""
    start, end = int(_progress(folder, destination).get("offset", 0)), published_bytes(folder)
    start = start if start <= end else 0  # the file is not the one that was sent
    return sum(not line.startswith(MARK) for line in lines(folder / EVENTS, start, end))


def last_problem(folder: Path, destination: Destination) -> str:
    """Return why sending failed last, or "" if it works."""
    return str(_progress(folder, destination).get("problem", ""))


def experiment_id(folder: Path) -> str | None:
    """Return the id of the experiment at the last destination, or None before the first row was sent."""
    id = _progress_with(folder, address(folder)).get("experiment_id")
    return None if id is None else str(id)


def views(folder: Path) -> dict[str, str]:
    """Return the keys of the saved views at the last destination, by name; {} if there are none."""
    return dict(_progress_with(folder, address(folder)).get("views", {}))


def address(folder: Path) -> str:
    """Return the MLflow of the last command, without secrets; "" if there is none."""
    stored = read_object(folder / "destination.json")
    return _locate(folder, str(stored["uri"]), stored.get(BESIDE)) if stored else ""


def stored_destination(folder: Path, uri: str | None = None) -> Destination | None:
    """Return the destination of the last command; None if it sent nothing.

    Args:
        folder: Folder of the spool.
        uri: Another MLflow than the last one.

    Raises:
        InputError: The address has a secret, which no file holds, and MLFLOW_TRACKING_URI does not have it.
    """
    stored = read_object(folder / "destination.json")
    if not stored:
        return None
    known = _locate(folder, str(stored["uri"]), stored.pop(BESIDE, None))
    stored["uri"] = _with_secrets(known) if uri is None else resolve_address(uri)
    return Destination(**stored)


def _with_secrets(address: str) -> str:
    """Return a stored address with the secrets that MLFLOW_TRACKING_URI has."""
    from_environment = os.environ.get("MLFLOW_TRACKING_URI", "")
    if HIDDEN not in address:
        return address
    if redact_address(from_environment) == redact_address(address):
        return from_environment
    problem = f"the secret of {redact_address(address)} is not stored"
    raise InputError("MLFLOW_TRACKING_URI", None, problem, "Set it to the whole address")


def _path_from(folder: Path, uri: str) -> str | None:
    """Return the path of a database relative to a spool's folder, if both are in one folder that may be moved."""
    database = sqlite_path(uri)
    if database is None or not folder.resolve().is_relative_to(database.parent.resolve()):
        return None
    return os.path.relpath(database.parent.resolve() / database.name, folder.resolve())


def _locate(folder: Path, uri: str, beside: str | None) -> str:
    """Return a stored address, with the path that a database beside the sweep has now."""
    path = sqlite_path(uri)
    if path is None:
        return uri
    if beside is not None:
        now = Path(os.path.normpath(folder.resolve() / beside))
    else:  # an older version stored only the absolute path
        now = path if path.exists() else folder.resolve().parents[2] / path.name
    return sqlite_uri(now if now.exists() else path)


def _environment() -> dict[str, str]:
    """Return this process's environment, with this package's folder, and with MLflow's output off."""
    package = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}


# --- in the sender's process ------------------------------------------------------------------------


def main() -> None:
    """Run the sender: read the order, wait for an earlier sender, and send until the sweep has ended."""
    from filelock import FileLock, Timeout

    folder = Path(sys.argv[1])
    order = json.loads(sys.stdin.buffer.readline())
    destination = Destination(**order["destination"])
    # Libraries write their own warnings and tracebacks, with addresses in them.
    sys.stdout, sys.stderr = (RedactedStream(stream, destination.uri) for stream in (sys.stdout, sys.stderr))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    os.environ.update(ENVIRONMENT)
    _change_folder(destination)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    ended = threading.Event()
    threading.Thread(target=_watch_input, args=(ended,), daemon=True).start()
    lock = FileLock(folder / "sender.lock")
    deadline = None
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=PERIOD_SECONDS)
            break
        if ended.is_set():
            deadline = deadline or time.monotonic() + order["patience"]
            if time.monotonic() > deadline:
                return
    with lock:
        Delivery(folder, destination).run(ended, order["patience"])


def _change_folder(destination: Destination) -> None:
    """Change to the folder of the database, so that its address needs no more than the name of the file."""
    if destination.database is not None:
        with contextlib.suppress(OSError):  # a folder that cannot be used is explained where the database is opened
            destination.database.parent.mkdir(parents=True, exist_ok=True)
            os.chdir(destination.database.parent)


def _watch_input(ended: threading.Event) -> None:
    """Set `ended` when the input ends: then the sweep has ended, in whatever way.

    A process that the sweep forked may outlive it and keep the pipe open, so a new parent process counts too.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        if os.name == "posix" and not select.select([0], [], [], PERIOD_SECONDS)[0]:
            continue
        if not os.read(0, 1):
            break
    ended.set()


@dataclass
class Delivery:
    """The progress with one destination.

    Attributes:
        folder: Folder of the spool.
        destination: Where to send it.
        store: The connection; None before the first one and after a failure.
        translation: Translates events to rows.
        offset: Bytes of the events that are sent.
        read: Bytes of the events that are translated.
        outgoing: Rows that are being sent, from the bytes between `offset` and `read`.
        written: How many `outgoing` rows are done, sent or rejected.
        doubtful: Whether a request failed. It may have been carried out anyway.
        saved_content: What the saved views show.
    """

    folder: Path
    destination: Destination
    store: Store | None = None
    translation: Translation = field(default_factory=Translation)
    offset: int = 0
    read: int = 0
    outgoing: list[Rows] = field(default_factory=list)
    written: int = 0
    doubtful: bool = False
    saved_content: saved_view.ViewContent | None = None

    def run(self, ended: threading.Event, patience: float) -> None:
        """Send what is published until `ended` is set, then the rest.

        It then gives up at a fault that waiting does not mend, or when nothing moves for `patience` seconds.
        """
        delay, give_up = 0.5, float("inf")
        while True:
            is_last = ended.is_set()  # checked first, so that everything published before the end is sent
            if is_last and give_up == float("inf"):
                give_up = time.monotonic() + patience
            before = self.written
            try:
                while self.send_batch():
                    pass
                if is_last:
                    self.recheck()
                    return
                delay = 0.5
                ended.wait(PERIOD_SECONDS)
            except Exception as error:
                log.exception("MLflow at %s", self.destination.display_uri)
                fault = self.handle_failure(error)
                if is_last and self.written > before:
                    give_up = time.monotonic() + patience
                if time.monotonic() > give_up or (is_last and fault.is_final):
                    return
                time.sleep(delay) if is_last else ended.wait(delay)
                delay = min(2 * delay, LONGEST_BACKOFF_SECONDS)

    def send_batch(self) -> bool:
        """Send some of what is published. Returns False when nothing is left."""
        store = self.store or self.connect()
        if not self.outgoing and not self._read_batch():
            self._save_views(store)
            return False
        while self.outgoing:
            try:
                store.write(self.outgoing[0], self.folder.parent)
            except RefusedError as error:
                log.warning("not sent: %s", error)
            self.outgoing.pop(0)
            self.written += 1
        self.offset = self.read
        self._save_progress()
        self._save_views(store)
        return True

    def _save_views(self, store: Store) -> None:
        """Save the views if there is something new to show. An MLflow that rejects them still gets the rows."""
        content, id, named = self.translation.view_content(), self.destination.sweep_id, self.destination.named
        if content is None or content == self.saved_content:
            return
        try:
            saved_view.write(store, content, id, time.time_ns() // 1_000_000, named=named)
            self._save_progress(views={which: saved_view.key_of(which, id, named=named) for which in saved_view.WHICH})
        except RefusedError as error:
            log.warning("no saved view: %s", error)
        self.saved_content = content

    def connect(self) -> Store:
        """Find the experiment and its runs. If something that was sent is missing, start from the beginning."""
        from sweeper.tracking.mlflow.client import Store

        store = Store(self.destination)
        if self.read == 0:
            self._resume(store)
        if not all(store.has_run(key) for key in self._sent_keys()):
            log.warning("some runs are missing in experiment %s: sending everything again", store.experiment_id)
            self.translation, self.outgoing, self.offset, self.read = Translation(), [], 0, 0
        self.store, self.saved_content = store, None
        self._save_progress(experiment_id=store.experiment_id)
        return store

    def handle_failure(self, error: Exception) -> Fault:
        """Store the problem and return it, and connect again before the next attempt."""
        self.store, self.doubtful = None, True
        fault = explain(error, self.destination)
        self._save_progress(problem=fault.text)
        return fault

    def recheck(self) -> None:
        """After a failure, check once more whether it left a run twice."""
        if self.doubtful:
            self.connect()
            self.doubtful = False

    def _resume(self, store: Store) -> None:
        """Translate what an earlier sender sent, to restore the state of the translation."""
        progress = _progress(self.folder, self.destination)
        offset = int(progress.get("offset", 0))
        if progress.get("experiment_id") != store.experiment_id or offset > published_bytes(self.folder):
            return
        for events, end in rounds(self.folder / EVENTS, 0, offset):
            self.translation.add_events(events)
            self.offset = self.read = end
        self.translation.pop_rows()
        if self.offset != offset:  # the file is not the one that was sent: it was lost, and written again since
            self.translation, self.offset, self.read = Translation(), 0, 0

    def _read_batch(self) -> bool:
        """Translate the next published rounds, about POINTS_A_TURN points. Returns False if there are none."""
        points, start = 0, self.read
        for events, end in rounds(self.folder / EVENTS, self.read, published_bytes(self.folder)):
            points = self.translation.add_events(events)
            self.read = end
            if points > POINTS_A_TURN:
                break
        self.outgoing = self.translation.pop_rows()
        return self.read > start

    def _sent_keys(self) -> Iterator[Any]:
        """Return the runs that must exist: all runs except those that are being sent."""
        outgoing = {rows.key for rows in self.outgoing}
        return (key for key in self.translation.runs if key not in outgoing)

    def _save_progress(self, **more: str | dict[str, str]) -> None:
        """Write the progress to the file that the sweep and the next sender read."""
        progress = {**_progress(self.folder, self.destination), "problem": "", "offset": self.offset, **more}
        key = _progress_key(self.folder, self.destination.uri)
        replace_object(self.folder / "sent.json", {**read_object(self.folder / "sent.json"), key: progress})


def _progress(folder: Path, destination: Destination) -> dict[str, Any]:
    return _progress_with(folder, destination.uri)


def _progress_with(folder: Path, uri: str) -> dict[str, Any]:
    """Return the progress with the MLflow at an address."""
    every = read_object(folder / "sent.json")
    return dict(every.get(_progress_key(folder, uri)) or every.get(redact_address(uri)) or {})


def _progress_key(folder: Path, uri: str) -> str:
    """Return the key of an MLflow in sent.json: the address, which stays the same if a project folder is moved."""
    path = _path_from(folder, uri)
    return redact_address(uri) if path is None else f"sqlite:///{path}"


if __name__ == "__main__":
    main()
