"""An MLflow that cannot be used is named within seconds, with the way out; nothing is lost, and nothing secret is said.

Every fault is a real one: a database that was changed, a folder that cannot be written, a server that answers so.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from sweeper.search.study import Studies
from sweeper.tracking.events import EVENTS, rounds
from sweeper.tracking.mlflow import sender
from sweeper.tracking.mlflow.destination import Destination
from sweeper.tracking.mlflow.faults import RULES, explain
from sweeper.tracking.spool import Spool, published_round

ID = "abcdef0123456789abcdef0123456789"
SECRET = "s3cr3t-w0rd"
SECONDS = 40.0  # for a whole `sync` on a busy machine: most of it imports MLflow


@pytest.fixture
def spool(tmp_path, played):
    tracker = Spool(tmp_path / "sweeps" / "x" / "spool", 0)
    list(played(tracker, trials=2))
    tracker.finish()
    (tmp_path / "sweeps" / "x" / "config.yaml").write_text("name: x\n")
    Studies(tmp_path / "sweeps" / "x" / "journal.log", [], None).commit(published_round(tracker.folder))
    return tracker.folder


def events_of(folder):
    return sum(len(events) for events, _ in rounds(folder / EVENTS))


def metrics_in(database):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT count(*) FROM metrics").fetchone()[0]


def files_with(folder, text):
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


# --- texts of libraries -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.problem)
def test_every_fault_has_a_sentence_and_a_way_out(rule):
    fault = explain(
        Exception(f"http://me:{SECRET}@host/api: {SECRET} {WORDS[rule.problem]}"),
        Destination(f"http://me:{SECRET}@host", "digits", ID),
    )
    assert fault.is_final == rule.is_final
    assert fault.text.startswith(rule.problem.replace("{experiment}", "digits"))
    assert fault.text.endswith(rule.remedy)
    assert SECRET not in fault.text
    assert len(fault.text) < 400


WORDS = {  # of MLflow 3.17, SQLAlchemy 2.1, psycopg, mysqlclient and boto3
    "it rejects the credentials": "API request to endpoint /api failed with error code 401 != 200",
    "it does not permit this user to write the experiment {experiment}": "failed with error code 403 != 200",
    "a proxy rejects the request": "failed with error code 407 != 200",
    "no MLflow answers there": "successful but the response body was not in a valid JSON format",
    "the encrypted connection fails": "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]",
    "the database cannot be written": "(sqlite3.OperationalError) attempt to write a readonly database",
    "the database cannot be opened": "(sqlite3.OperationalError) unable to open database file",
    "the database is damaged": "(sqlite3.DatabaseError) database disk image is malformed",
    "the disk is full": "(sqlite3.OperationalError) database or disk is full",
    "the database rejects the password": 'FATAL: password authentication failed for user "me"',
    "there is no such database": 'FATAL: database "mlflow" does not exist',
    "files of runs cannot be stored": "NoCredentialsError: Unable to locate credentials",
    "the server does not answer": "(Caused by NewConnectionError('[Errno 111] Connection refused'))",
}


def test_an_unknown_fault_may_pass_and_is_told_in_the_librarys_words():
    fault = explain(RuntimeError("something\nelse " + "x" * 1000), Destination("http://host", "x", ID))
    assert fault.text.startswith("RuntimeError: something else xxx")
    assert len(fault.text) < 250
    assert not fault.is_final


# --- databases --------------------------------------------------------------------------------------


class Breakage(NamedTuple):
    """How a database breaks and is mended again, and what must be said."""

    broken: Callable[[Path], contextlib.AbstractContextManager[None]]
    said: str
    remedy: str


def revision_of(database, revision):
    with closing(sqlite3.connect(database)) as connection, connection:
        (before,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    return before


def another_revision(revision):
    @contextmanager
    def broken(database: Path) -> Iterator[None]:
        before = revision_of(database, revision)
        yield
        revision_of(database, before)

    return broken


@contextmanager
def deleted_experiment(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'digits'")
    yield
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE experiments SET lifecycle_stage = 'active'")


@contextmanager
def in_its_place(path: Path, make: Callable[[Path], object]) -> Iterator[None]:
    """Put something else in the place of a file or folder, then put it back."""
    aside = path.with_name(f"{path.name}.aside")
    if path.exists():
        path.rename(aside)
    make(path)
    yield
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if aside.exists():
        aside.rename(path)


BREAKAGES = {
    "newer schema": Breakage(another_revision("ffffffffffff"), "newer MLflow than", "pip install --upgrade mlflow"),
    "older schema": Breakage(another_revision("451aebb31d03"), "older MLflow than", "mlflow db upgrade sqlite:///"),
    "deleted experiment": Breakage(
        deleted_experiment, "the experiment digits was deleted", "mlflow experiments restore --experiment-id"
    ),
    "no database": Breakage(
        lambda database: in_its_place(database, lambda path: path.write_bytes(b"no database at all, but a text" * 99)),
        "the database is damaged",
        "Restore it from a copy",
    ),
    "cannot be opened": Breakage(
        lambda database: in_its_place(database.with_name("mlflow.db-wal"), Path.mkdir),
        "the database cannot be opened",
        "Make the file and its folder writable",
    ),
    "files": Breakage(
        lambda database: in_its_place(database.parent / "mlartifacts", lambda path: path.write_text("")),
        "a file is in the place of a folder",
        "Move it away",
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_database_is_named_within_seconds_and_filled_once_it_is_mended(breakage, spool, tmp_path, capfd):
    broken, said, remedy = BREAKAGES[breakage]
    database = tmp_path / "mlflow.db"
    destination = Destination(f"sqlite:///{database}", "digits", ID)
    sender.store_destination(spool, destination)
    assert sender.sync(spool) == 0, (spool / "sender.log").read_text()
    whole = metrics_in(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE" if breakage == "cannot be opened" else "SELECT 1")
    (spool / "sent.json").unlink()
    last = Spool(spool, 10**6)  # a file to attach, so that files are written too
    last.artifact("cosine", spool.parent / "config.yaml")
    last.commit(10**6)
    last.publish(10**6)
    last.finish()
    capfd.readouterr()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    with broken(database):
        begun = time.monotonic()
        assert sender.sync(spool) == 1
        assert time.monotonic() - begun < SECONDS
        err = capfd.readouterr().err
        assert f"not in MLflow at sqlite:///{database} yet: " in err
        assert said in err
        assert remedy in err
        assert len(err.splitlines()) == 1
        assert sender.count_unsent(spool, destination) > 0
    assert sender.sync(spool) == 0, (spool / "sender.log").read_text()
    assert metrics_in(database) == whole
    assert len(list((tmp_path / "mlartifacts").rglob("config.yaml"))) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("which", ["mlflow.db", "."])
def test_a_database_that_may_not_be_written_is_named(which, spool, tmp_path):
    database = tmp_path / "mlflow.db"
    sender.store_destination(spool, Destination(f"sqlite:///{database}", "digits", ID))
    assert sender.sync(spool) == 0
    (spool / "sent.json").unlink()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM metrics")
    protected = tmp_path / which
    mode = protected.stat().st_mode
    protected.chmod(0o555)
    try:
        done = subprocess.run(
            [*AS_A_USER, sys.executable, "-m", "sweeper", "sync", "x"], cwd=tmp_path, capture_output=True, text=True
        )
    finally:
        protected.chmod(mode)
    assert done.returncode == 1
    assert "cannot be" in done.stderr
    assert "Make the file and its folder writable" in done.stderr
    assert sender.sync(spool) == 0
    assert metrics_in(database) > 0


# To root every file is writable. Without this capability it is a user like others.
AS_A_USER = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv")
    else []
)


# --- servers ----------------------------------------------------------------------------------------

ANSWERS = {
    "401": (401, b"You are not authenticated.", "it rejects the credentials", True),
    "403": (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "it does not permit this user", True),
    "403 of a proxy": (403, b"<html>forbidden</html>", "it does not permit this user", True),
    "404": (404, b"not here", "no MLflow answers there", True),
    "407": (407, b"", "a proxy rejects the request", True),
    "a page": (200, b"<html>Welcome</html>", "no MLflow answers there", True),
    "nothing": (200, b"", "no MLflow answers there", True),
    "moved": (301, b"", "no MLflow answers there", True),
    "500": (500, b"oops", "", False),
    "503": (503, b"starting", "", False),
}


@pytest.fixture
def answering():
    """A server that answers every request alike. Set `answer` to (status, body)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = self.server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_GET

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run_out(folder, destination, patience):
    """Send with the sweep over, in this process. Returns the seconds that it took."""
    ended = threading.Event()
    ended.set()
    begun = time.monotonic()
    sender.Delivery(folder, destination).run(ended, patience)
    return time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_server_that_refuses_is_named_at_once_and_one_that_is_ill_is_waited_for(
    answer, answering, spool, monkeypatch
):
    import mlflow  # noqa: F401 - so that its import does not count

    for name, value in sender.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    status, body, said, is_final = ANSWERS[answer]
    answering.answer = status, body
    destination = Destination(f"http://me:{SECRET}@127.0.0.1:{answering.server_port}", "digits", ID)
    seconds = run_out(spool, destination, patience=3.0)
    assert (seconds < 2.5) == is_final
    problem = sender.last_problem(spool, destination)
    assert problem.startswith(said)
    assert problem
    assert SECRET not in problem
    assert sender.count_unsent(spool, destination) == events_of(spool)
    assert not files_with(spool, SECRET)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("host", ["127.0.0.1:{closed}", "nowhere.invalid:5000"])
def test_a_host_that_cannot_be_reached_is_named(host, spool, monkeypatch):
    for name, value in sender.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    destination = Destination(f"http://me:{SECRET}@{host.format(closed=closed)}", "digits", ID)
    run_out(spool, destination, patience=1.0)
    assert sender.last_problem(spool, destination).startswith("the server does not answer (")
    assert sender.count_unsent(spool, destination) == events_of(spool)


# --- secrets ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("where", "answer"), [("uri", "401"), ("environment", "500"), ("multirun", "a page")])
def test_no_secret_of_an_address_is_stored_or_printed_whatever_fails(where, answer, answering, tmp_path):
    """A whole sweep, its `sync` and its `ui`, with a server that fails: every file and all output are searched."""
    answering.answer = ANSWERS[answer][:2]
    uri = f"http://t0k3n-n4me:{SECRET}%40x@127.0.0.1:{answering.server_port}/?api_key=qu3ry-k3y"
    small = ["data=digits", "model=mlp", "schedule=constant", "search.n_trials=1", "train.steps=8", "search.reports=4"]
    words = [*small, "name=x", "tracking.flush_seconds=3", "trainer=sequential"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(Path(__file__).parents[3])}
    if where != "environment":
        words.append(f"tracking.uri='{uri}'")
    if where == "multirun":
        words = ["-m", *words, "train.batch_size=16,32", "name=null"]
    said = ""
    for command in (words, ["--cfg", "job", *words[1:]], ["sync"], ["ui"], [*words, "tracking.uri=http://a b@x"]):
        done = subprocess.run(
            [sys.executable, "-m", "sweeper", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said += done.stdout + done.stderr
    assert "Traceback" not in said
    assert "not in MLflow at http://***@127.0.0.1" in said
    for secret in ("t0k3n-n4me", SECRET, "qu3ry-k3y"):
        assert secret not in said
        assert files_with(tmp_path, secret) == []
    holding = files_with(tmp_path, "127.0.0.1")
    assert {path.name for path in holding} == {"destination.json", "sent.json", "sender.log"}
    assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}
