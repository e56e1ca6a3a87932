"""The sender: a process of its own that brings published rounds of a spool to MLflow.

A process and not a thread (docs/decisions/0003-sender-process.md): importing MLflow takes seconds, and its work would
hold the interpreter's lock while the loop trains. It is started with the sweep, is told its destination in one line
on its standard input, and looks at `published.json` about once a second. The end of its standard input, also when the
sweep was killed, means: send what is published, and go, at the latest when nothing has moved for a while.

Files of the spool folder: published.json, what may be sent, which the spool writes; sent.json, how far it is with each
destination; destination.json, the last one; sender.lock, one sender at a time; sender.log.
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

from sweeper.tracking.events import EVENTS, MARK, lines, rounds
from sweeper.tracking.mlflow import saved_view
from sweeper.tracking.mlflow.destination import Destination, hide_password
from sweeper.tracking.mlflow.rows import Rows, Translation
from sweeper.tracking.small_files import read_object, replace_object
from sweeper.tracking.spool import published_bytes
from sweeper.types import InputError

if TYPE_CHECKING:
    from sweeper.tracking.mlflow.client import Store

log = logging.getLogger("sweeper")

PERIOD_SECONDS = 1.0
PATIENCE_SECONDS = 60.0  # without progress, after the sweep has ended
REVIVE_SECONDS = 30.0
POINTS_A_TURN = 20_000
LONGEST_BACKOFF_SECONDS = 10.0
LARGEST_LOG_BYTES = 1 << 20
NICENESS = 10  # training comes first

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A default client waits for 245 s in a call to a server that is down; we back off by ourselves.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


# --- what the sweep's process calls -----------------------------------------------------------------


class Sender:
    """The sweep's end of it."""

    def __init__(self, folder: Path, destination: Destination, patience: float = PATIENCE_SECONDS) -> None:
        self._folder, self._destination, self._patience = folder, destination, patience
        self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        log_path = self._folder / "sender.log"
        if log_path.exists() and log_path.stat().st_size > LARGEST_LOG_BYTES:
            log_path.unlink()
        with log_path.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sweeper.tracking.mlflow.sender", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the sweep
            )
        order = {"destination": asdict(self._destination), "patience": self._patience}
        self._write_order((json.dumps(order) + "\n").encode())

    def _write_order(self, order: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone; `revive` or `unsent` will see
            self._process.stdin.write(order)
            self._process.stdin.flush()

    def revive(self) -> None:
        """Start it again if it has died (killed for memory, ...), not too often."""
        if self._process.poll() is not None and time.monotonic() - self._started > REVIVE_SECONDS:
            log.warning("the sender ended with %s, see %s", self._process.returncode, self._folder / "sender.log")
            self._start()

    def finish(self, timeout: float | None) -> None:
        """Let it send what is left, at most `timeout` seconds long; what it is doing then may be done again.

        Ctrl-C ends the waiting alone: it goes on by itself.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except KeyboardInterrupt:
            log.info("the sender is not waited for any longer")
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def sync(folder: Path, *, uri: str | None = None) -> int:
    """Send what is left of a sweep to where it was sent last, or to another MLflow at `uri`; 0 when all is there."""
    destination = stored_destination(folder, uri)
    if destination is None:
        print("This sweep is tracked nowhere (tracking=none): nothing to send.")
        return 0
    Sender(folder.resolve(), destination).finish(None)
    left = count_unsent(folder, destination)
    if left == 0:
        print(f"Everything is in MLflow at {destination.display_uri}.")
        return 0
    why = last_problem(folder, destination) or f"see {folder / 'sender.log'}"
    print(f"{left} events are not in MLflow at {destination.display_uri} yet: {why}", file=sys.stderr)
    return 1


def store_destination(folder: Path, destination: Destination | None) -> None:
    """Where the sweep is sent to, without a password."""
    known = None if destination is None else {**asdict(destination), "uri": destination.display_uri}
    replace_object(folder / "destination.json", known)


def count_unsent(folder: Path, destination: Destination) -> int:
    """Published events that are not known to have reached the destination."""
    start, end = int(_progress(folder, destination).get("offset", 0)), published_bytes(folder)
    return sum(not line.startswith(MARK) for line in lines(folder / EVENTS, start, end))


def last_problem(folder: Path, destination: Destination) -> str:
    """Why sending does not get on, "" when it does."""
    return str(_progress(folder, destination).get("problem", ""))


def experiment_id(folder: Path) -> str | None:
    """Id of the experiment at the last destination; None before the first row was sent."""
    known = read_object(folder / "destination.json")
    found = read_object(folder / "sent.json").get(known.get("uri", ""), {}).get("experiment_id")
    return None if found is None else str(found)


def views(folder: Path) -> dict[str, str]:
    """The keys of the saved views "best" and "all" at the last destination; empty where there are none."""
    known = read_object(folder / "destination.json")
    return dict(read_object(folder / "sent.json").get(known.get("uri", ""), {}).get("views", {}))


def address(folder: Path) -> str:
    """The MLflow of the last command, without a password; "" where there is none."""
    return str(read_object(folder / "destination.json").get("uri", ""))


def stored_destination(folder: Path, uri: str | None = None) -> Destination | None:
    """The destination of the last command; its password, which no file holds, from MLFLOW_TRACKING_URI."""
    known = read_object(folder / "destination.json")
    if not known:
        return None
    from_outside = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri is not None:
        known["uri"] = uri
    elif hide_password(from_outside) == known["uri"]:
        known["uri"] = from_outside
    elif ":***@" in known["uri"]:
        raise InputError("MLFLOW_TRACKING_URI", None, f"the password of {known['uri']} is kept nowhere", "Set it")
    return Destination(**known)


def _environment() -> dict[str, str]:
    """Ours, with the folder this package was imported from, and MLflow kept quiet."""
    package = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}


# --- the sender's process ---------------------------------------------------------------------------


def main() -> None:
    """Read the order, wait for the sender before this one, send until told to end."""
    from filelock import FileLock, Timeout

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    folder = Path(sys.argv[1])
    order = json.loads(sys.stdin.buffer.readline())
    os.environ.update(ENVIRONMENT)
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
        Delivery(folder, Destination(**order["destination"])).run(ended, order["patience"])


def _watch_input(ended: threading.Event) -> None:
    """The end of the input is the end of the sweep, however it ended.

    A process that the sweep forked may outlive it and keep the pipe open, so its own end is looked for too.
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
    """How far one destination is: `offset` bytes are sent, `outgoing` rows reach to `read` and are being sent."""

    folder: Path
    destination: Destination
    store: Store | None = None
    translation: Translation = field(default_factory=Translation)
    offset: int = 0
    read: int = 0
    outgoing: list[Rows] = field(default_factory=list)
    written: int = 0
    doubtful: bool = False  # a request failed: it may have been carried out all the same
    saved_content: saved_view.ViewContent | None = None  # what the saved views show

    def run(self, ended: threading.Event, patience: float) -> None:
        """Send whatever is published until `ended`, and then what is left, while it moves at all."""
        delay, give_up = 0.5, float("inf")
        while True:
            last = ended.is_set()  # before looking: what is published before the end is sent
            if last and give_up == float("inf"):
                give_up = time.monotonic() + patience
            before = self.written
            try:
                while self.send_batch():
                    pass
                if last:
                    self.recheck()
                    return
                delay = 0.5
                ended.wait(PERIOD_SECONDS)
            except Exception as error:
                log.exception("MLflow at %s", self.destination.display_uri)
                self.handle_failure(error)
                if last and self.written > before:
                    give_up = time.monotonic() + patience
                if time.monotonic() > give_up:
                    return
                time.sleep(delay) if last else ended.wait(delay)
                delay = min(2 * delay, LONGEST_BACKOFF_SECONDS)

    def send_batch(self) -> bool:
        """Send some of what is published; False when nothing is left."""
        from sweeper.tracking.mlflow.client import RefusedError

        store = self.store or self.connect()
        if not self.outgoing and not self._take():
            self._save_views(store)
            return False
        while self.outgoing:
            try:
                store.write(self.outgoing[0], self.folder.parent)
            except RefusedError as error:
                log.warning("left out: %s", error)
            self.outgoing.pop(0)
            self.written += 1
        self.offset = self.read
        self._save_progress()
        self._save_views(store)
        return True

    def _save_views(self, store: Store) -> None:
        """Where there is something new to show. A convenience: an MLflow that refuses it gets the rows all the same."""
        from sweeper.tracking.mlflow.client import RefusedError

        shown, id, named = self.translation.view_content(), self.destination.sweep_id, self.destination.named
        if shown is None or shown == self.saved_content:
            return
        try:
            saved_view.write(store, shown, id, time.time_ns() // 1_000_000, named=named)
            self._save_progress(views={which: saved_view.key_of(which, id, named=named) for which in saved_view.WHICH})
        except RefusedError as error:
            log.warning("no saved view: %s", error)
        self.saved_content = shown

    def connect(self) -> Store:
        """Find the experiment and its runs; start from the beginning if what was sent is not all there."""
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

    def handle_failure(self, error: Exception) -> None:
        """Look everything up again before the next try."""
        self.store, self.doubtful = None, True
        self._save_progress(problem=f"{type(error).__name__}: {error}".splitlines()[0][:500])

    def recheck(self) -> None:
        """After a failure, look once more whether it left a run twice."""
        if self.doubtful:
            self.connect()
            self.doubtful = False

    def _resume(self, store: Store) -> None:
        """Go through what was sent before, so that the translation stands where it stood."""
        known = _progress(self.folder, self.destination)
        offset = int(known.get("offset", 0))
        if known.get("experiment_id") != store.experiment_id or offset > published_bytes(self.folder):
            return
        for events, end in rounds(self.folder / EVENTS, 0, offset):
            self.translation.add_events(events)
            self.offset = self.read = end
        self.translation.pop_rows()

    def _take(self) -> bool:
        """Translate the next published rounds, at most some thousand points of them."""
        points, begin = 0, self.read
        for events, end in rounds(self.folder / EVENTS, self.read, published_bytes(self.folder)):
            points = self.translation.add_events(events)
            self.read = end
            if points > POINTS_A_TURN:
                break
        self.outgoing = self.translation.pop_rows()
        return self.read > begin

    def _sent_keys(self) -> Iterator[Any]:
        """Runs that must be there: all that were met, but for those on their way."""
        on_their_way = {rows.key for rows in self.outgoing}
        return (key for key in self.translation.runs if key not in on_their_way)

    def _save_progress(self, **more: str | dict[str, str]) -> None:
        """Keep how far it is, in the file that the sweep and the next sender read."""
        whole = read_object(self.folder / "sent.json")
        mine = {**whole.get(self.destination.display_uri, {}), "problem": "", "offset": self.offset, **more}
        replace_object(self.folder / "sent.json", {**whole, self.destination.display_uri: mine})


def _progress(folder: Path, destination: Destination) -> dict[str, Any]:
    return dict(read_object(folder / "sent.json").get(destination.display_uri, {}))


if __name__ == "__main__":
    main()
