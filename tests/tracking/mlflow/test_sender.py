"""A real MLflow holds exactly what was committed, whatever died on the way: sender, sweep, server or database."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from sweeper.tracking import trackers
from sweeper.tracking.events import EVENTS, last_mark, rounds
from sweeper.tracking.mlflow import sender, view
from sweeper.tracking.mlflow.destination import Destination
from sweeper.tracking.mlflow.rows import Translation
from sweeper.tracking.mlflow.sender import Delivery, Sender
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.tracking.spool import Spool
from sweeper.types import InputError, Summary, TrackedSweep

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

METRICS = "SELECT key, step, value, timestamp FROM metrics WHERE run_uuid = ?"
ID = "abcdef0123456789abcdef0123456789"
TABLES = ("runs", "metrics", "latest_metrics", "params", "tags", "experiments", "experiment_tags")


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A fresh database of MLflow's; copied, because making one takes seconds."""
    from sweeper.tracking.mlflow.client import make_database

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    make_database(path)
    return path


@pytest.fixture
def database(template, tmp_path):
    return Path(shutil.copy(template, tmp_path / "mlflow.db"))


@pytest.fixture
def spool(tmp_path, played):
    """A spool with everything a sweep writes, published to the end."""
    tracker = Spool(tmp_path / "sweep" / "spool", 0)
    last = list(played(tracker))[-1]
    (tmp_path / "sweep" / "table.txt").write_text("a table")
    tracker.describe("cosine", Summary(params={"n_trials": 6}, metrics={"best": 0.5}, note="# Note"))
    tracker.artifact("cosine", tmp_path / "sweep" / "table.txt")
    tracker.commit(last)
    tracker.publish(last)
    tracker.finish()
    return tracker.folder


def to(database, experiment="digits-mlp", id=ID, named=False):
    return Destination(f"sqlite:///{database}", experiment, id, named)


def send(folder, destination):
    """All that is published, in this process; True if it all arrived."""
    ended = threading.Event()
    ended.set()
    Delivery(folder, destination).run(ended, patience=0.0)
    return sender.count_unsent(folder, destination) == 0


def query(database, text, *values):
    with sqlite3.connect(database) as connection:
        found = connection.execute(text, values).fetchall()
    connection.close()
    return found


def counts(database):
    return {table: query(database, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


def stored(database, id=ID):
    """All active runs of a sweep, without ids; with timestamps, because they come from the spool."""
    runs = {}
    listed = query(
        database,
        "SELECT run_uuid, name, status, start_time, end_time FROM runs JOIN tags USING (run_uuid) "
        "WHERE tags.key = 'sweep.id' AND tags.value = ? AND lifecycle_stage = 'active'",
        id,
    )
    for run, name, status, start, end in listed:
        tags = dict(query(database, "SELECT key, value FROM tags WHERE run_uuid = ?", run))
        study_run = tags.pop("sweep.study_run", None)
        assert tags.pop("mlflow.parentRunId", None) == study_run
        key = (tags["sweep.study"], tags.get("trial.number"))
        assert key not in runs, f"{key} is there twice"
        runs[key] = {
            "run": (name, status, start, end),
            "in a study": study_run is not None,
            "tags": tags,
            "params": dict(query(database, "SELECT key, value FROM params WHERE run_uuid = ?", run)),
            "metrics": sorted(query(database, METRICS, run)),
        }
    return runs


def meant(folder):
    """What the spool says must be stored, by the translation alone."""
    runs = {}
    translation = Translation()
    for events, _ in rounds(folder / EVENTS):
        translation.add_events(events)
    for rows in translation.pop_rows():
        number = None if rows.key.trial is None else str(rows.key.trial)
        common = {"mlflow.runName": rows.name, "mlflow.source.name": "sweeper", "mlflow.source.type": "LOCAL"}
        runs[rows.key.study, number] = {
            "run": (rows.name, rows.status, rows.start, rows.end),
            "in a study": number is not None,
            "tags": {**common, "sweep.id": ID, **rows.identity, **rows.tags},
            "params": rows.params,
            "metrics": sorted((point.key, point.step, point.value, point.t) for point in rows.metrics),
        }
    return runs


# --- what is stored ---------------------------------------------------------------------------------


def test_mlflow_holds_what_the_spool_means(spool, database, tmp_path):
    assert send(spool, to(database))
    assert stored(database) == meant(spool)
    assert [path.read_text() for path in (tmp_path / "mlartifacts").rglob("table.txt")] == ["a table"]
    assert sender.experiment_id(spool) is None  # known by destination.json, which the sweep writes
    sender.store_destination(spool, to(database))
    assert query(database, "SELECT name FROM experiments WHERE experiment_id = ?", sender.experiment_id(spool)) == [
        ("digits-mlp",)
    ]


def test_a_second_and_a_third_replay_add_no_row(spool, database):
    send(spool, to(database))
    once, rows = stored(database), counts(database)
    for _ in range(2):
        (spool / "sent.json").unlink()
        assert send(spool, to(database))
        assert counts(database) == rows
        assert stored(database) == once


def test_pieces_give_what_the_whole_gives(spool, database, monkeypatch):
    monkeypatch.setattr(sender, "POINTS_A_TURN", 50)
    assert send(spool, to(database))
    assert stored(database) == meant(spool)


def test_a_summary_that_changes_shows_the_newer(spool, database):
    send(spool, to(database))
    last, _ = last_mark(spool / EVENTS)
    tracker = Spool(spool, last)
    tracker.describe("cosine", Summary(params={"n_trials": 12}, metrics={"best": 0.4}))
    tracker.commit(last)
    tracker.publish(last)
    tracker.finish()
    assert send(spool, to(database))
    run = stored(database)["cosine", None]
    assert run["tags"]["n_trials"] == "12"
    assert query(database, "SELECT value FROM latest_metrics WHERE key = 'best'") == [(0.4,)]


# --- saved views ------------------------------------------------------------------------------------

VIEWS = "SELECT key, value FROM experiment_tags WHERE key LIKE 'mlflow.sharedViewState.%' ORDER BY key"


def test_the_saved_views_are_in_the_experiment_and_stay_as_they_are(spool, database):
    send(spool, to(database))
    written = query(database, VIEWS)
    assert [key.removeprefix("mlflow.sharedViewState.") for key, _ in written] == ["families", "trials"]
    (spool / "sent.json").unlink()
    send(spool, to(database))
    assert query(database, VIEWS) == written
    sender.store_destination(spool, to(database))
    assert sender.views(spool) == {which: which for which in ("families", "trials")}


def test_an_mlflow_that_refuses_views_gets_the_rows(spool, database, monkeypatch):
    from sweeper.tracking.mlflow.client import Store
    from sweeper.tracking.mlflow.faults import RefusedError

    def refused(self, key, value):
        raise RefusedError("no such right")

    monkeypatch.setattr(Store, "tag_experiment", refused)
    assert send(spool, to(database))
    assert stored(database) == meant(spool)
    sender.store_destination(spool, to(database))
    assert sender.views(spool) == {}


def test_a_view_that_could_not_be_written_is_written_later(spool, database, monkeypatch):
    from sweeper.tracking.mlflow.client import Store

    write, failed = Store.tag_experiment, []

    def fails_once(self, key, value):
        if not failed:
            failed.append(key)
            raise ConnectionError("away")
        write(self, key, value)

    monkeypatch.setattr(Store, "tag_experiment", fails_once)
    ended = threading.Event()
    ended.set()
    Delivery(spool, to(database)).run(ended, patience=20.0)
    assert len(query(database, VIEWS)) == 2
    assert stored(database) == meant(spool)


# --- what died on the way ---------------------------------------------------------------------------


def test_a_sender_killed_again_and_again_leaves_equal_rows(tmp_path, played, database):
    tracker = Spool(tmp_path / "sweep" / "spool", 0)
    list(played(tracker, trials=60))
    tracker.finish()
    all_points = sum(len(run["metrics"]) for run in meant(tracker.folder).values())
    for share in (0.0, 0.15, 0.4, 0.75):
        process = Sender(tracker.folder, to(database))
        while query(database, "SELECT count(*) FROM metrics")[0][0] <= share * all_points:
            assert process._process.poll() is None, (tracker.folder / "sender.log").read_text()
            time.sleep(0.01)
        process._process.kill()
        process._process.wait()
        process.finish(0)
    sender.store_destination(tracker.folder, to(database))
    assert sender.sync(tracker.folder) == 0
    assert stored(database) == meant(tracker.folder)
    rows = counts(database)
    (tracker.folder / "sent.json").unlink()
    assert sender.sync(tracker.folder) == 0
    assert counts(database) == rows


SWEEP = textwrap.dedent("""
    import importlib.util, os, signal, sys
    from pathlib import Path
    from sweeper.tracking import trackers
    from sweeper.tracking.mlflow.tracker import MLflow
    from sweeper.types import TrackedSweep
    spec = importlib.util.spec_from_file_location("played", sys.argv[1])
    played = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(played)
    sweep = TrackedSweep(Path(sys.argv[2]), "digits-mlp", sys.argv[4], 0)
    tracker = trackers.start(sweep, MLflow(sys.argv[3]))
    for round in played.play(tracker, trials=6):
        if round == 30:
            tracker.tag(played.TrialId("cosine", 0), {"not": "committed"})
            os.kill(os.getpid(), signal.SIGKILL)
""")


def test_a_killed_sweep_is_sent_as_far_as_it_was_published(tmp_path, database):
    from filelock import FileLock

    folder = tmp_path / "sweep" / "spool"
    conftest = Path(__file__).parents[1] / "conftest.py"
    command = [sys.executable, "-c", SWEEP, str(conftest), str(folder.parent), f"sqlite:///{database}", ID]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    destination = to(database)
    deadline = time.monotonic() + 60
    while sender.count_unsent(folder, destination) or not (folder / "sent.json").exists():
        assert time.monotonic() < deadline, (folder / "sender.log").read_text()
        time.sleep(0.1)
    with FileLock(folder / "sender.lock", timeout=60):  # it goes by itself
        pass
    assert stored(database) == meant(folder)


class Server:
    """MLflow's server on a database, to be stopped, continued, killed and started again."""

    def __init__(self, database):
        # Its own port: while the server is away, another run of these tests must not take it.
        self.database, self.port = database, view.free_port(5600 + os.getpid() % 5000)
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.log = (self.database.parent / "server.log").open("w+b")
        self.process = subprocess.Popen(
            view._command(self.database.parent, self.port),
            env={
                **os.environ,
                **sender.ENVIRONMENT,
                "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.database}",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        view._wait_for(self.address, self.process, self.log)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def end(self):
        view._end(self.process)
        self.log.close()


@pytest.fixture
def server(database):
    server = Server(database)
    yield server
    server.end()


def pause(server, seconds):
    server.signal(signal.SIGSTOP)
    time.sleep(seconds)
    server.signal(signal.SIGCONT)


def crash(server, seconds):
    server.signal(signal.SIGKILL)
    server.end()
    time.sleep(seconds)
    server.start()


@pytest.mark.parametrize("trouble", [pause, crash])
def test_a_server_that_is_away_in_mid_sweep_loses_and_doubles_nothing(tmp_path, played, server, trouble):
    destination = Destination(server.address, "digits-mlp", ID)
    sweep = TrackedSweep(tmp_path / "sweep", "digits-mlp", ID, 0)
    tracker = trackers.start(sweep, MLflow(server.address, flush_seconds=120))
    away = threading.Thread(target=trouble, args=(server, 14))  # longer than a call's patience
    for round in played(tracker, trials=40):
        if query(server.database, "SELECT count(*) FROM metrics")[0][0] and away.ident is None:
            away.start()
        time.sleep(0.03)
        last = round
    assert away.ident is not None
    away.join()
    tracker.describe("cosine", Summary(metrics={"best": 0.5}))
    tracker.commit(last)
    tracker.publish(last)
    assert tracker.finish() == 0, (sweep.spool / "sender.log").read_text()
    assert stored(server.database) == meant(sweep.spool)
    rows = counts(server.database)
    (sweep.spool / "sent.json").unlink()
    assert sender.sync(sweep.spool) == 0
    assert counts(server.database) == rows
    assert sender.count_unsent(sweep.spool, destination) == 0


def test_a_server_that_is_not_there_is_named_and_delays_the_end_no_longer_than_asked(tmp_path, played, database):
    port = view.free_port(5700)
    sweep = TrackedSweep(tmp_path / "sweep", "digits-mlp", ID, 0)
    tracker = trackers.start(sweep, MLflow(f"http://127.0.0.1:{port}", flush_seconds=3))
    list(played(tracker, trials=1))
    destination = Destination(f"http://127.0.0.1:{port}", "digits-mlp", ID)
    deadline = time.monotonic() + 60
    while not sender.last_problem(sweep.spool, destination):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    began = time.monotonic()
    left = tracker.finish()
    assert time.monotonic() - began < 20
    assert left == sum(len(events) for events, _ in rounds(sweep.spool / EVENTS))
    assert sender.last_problem(sweep.spool, destination).startswith("the server does not answer (Connection refused)")
    assert f"{left} events are not in MLflow at http://127.0.0.1:{port} yet: " in view.unsent_text(
        sweep.spool, "x", left
    )
    assert send(sweep.spool, to(database))  # another destination gets everything
    assert stored(database) == meant(sweep.spool)


# --- what a user does -------------------------------------------------------------------------------


def names(database):
    return Counter(name for (name,) in query(database, "SELECT name FROM experiments") if name != "Default")


def test_another_sweep_of_the_same_name_gets_its_own_experiment(spool, database):
    other = "1" * 32
    assert send(spool, to(database))
    assert send(spool, to(database, id=ID))
    (spool / "sent.json").unlink()
    assert send(spool, to(database, id=other))
    assert names(database) == {"digits-mlp": 1, "digits-mlp-111111": 1}
    assert stored(database, other).keys() == stored(database, ID).keys()


def test_a_chosen_experiment_is_shared(spool, database):
    other = "1" * 32
    for id in (ID, other):
        (spool / "sent.json").unlink(missing_ok=True)
        assert send(spool, to(database, experiment="shared", id=id, named=True))
    assert names(database) == {"shared": 1}
    assert stored(database, ID).keys() == stored(database, other).keys()
    assert stored(database) == meant(spool)


def client(database):
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{database}")


def test_a_deleted_experiment_is_said_and_all_is_there_once_it_is_restored(spool, database):
    destination = to(database)
    send(spool, destination)
    rows = counts(database)
    (id,) = (id for id, name in query(database, "SELECT experiment_id, name FROM experiments") if name != "Default")
    client(database).delete_experiment(str(id))
    (spool / "sent.json").unlink()
    assert not send(spool, destination)
    assert f"mlflow experiments restore --experiment-id {id}" in sender.last_problem(spool, destination)
    client(database).restore_experiment(str(id))
    assert send(spool, destination)
    assert counts(database) == rows


def test_a_run_that_a_person_deleted_stays_deleted(spool, database):
    send(spool, to(database))
    (run,) = query(database, "SELECT run_uuid FROM runs WHERE name LIKE 'cosine:4 %'")[0]
    client(database).delete_run(run)
    (spool / "sent.json").unlink()
    assert send(spool, to(database))
    assert meant(spool).keys() - stored(database).keys() == {("cosine", "4")}


def test_a_run_deleted_while_it_is_sent_is_left_alone(spool, database, monkeypatch):
    monkeypatch.setattr(sender, "POINTS_A_TURN", 50)
    delivery = Delivery(spool, to(database))
    assert delivery.send_batch()
    (run,) = query(database, "SELECT run_uuid FROM runs WHERE name LIKE 'cosine:0 %'")[0]
    client(database).delete_run(run)
    while delivery.send_batch():
        pass
    assert meant(spool).keys() - stored(database).keys() == {("cosine", "0")}


def test_a_database_that_is_gone_is_filled_again(spool, database, template):
    send(spool, to(database))
    database.unlink()
    shutil.copy(template, database)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore._engine_map.clear()  # a new process has none
    assert send(spool, to(database))
    assert stored(database) == meant(spool)


@pytest.mark.parametrize("name", ["wsd:0 %", "wsd"], ids=["trial", "study, which has no params"])
def test_an_empty_twin_is_deleted(spool, database, name):
    """A request that timed out may have been carried out: the run it made is found and deleted."""
    send(spool, to(database))
    once = stored(database)
    (run,) = query(database, "SELECT run_uuid FROM runs WHERE name LIKE ?", name)[0]
    tags = dict(query(database, "SELECT key, value FROM tags WHERE run_uuid = ?", run))
    sender.store_destination(spool, to(database))
    experiment = sender.experiment_id(spool)
    names = ("sweep.id", "sweep.role", "sweep.study", "trial.number", "sweep.study_run")
    identity = {name: tags[name] for name in names if name in tags}
    client(database).create_run(experiment, tags=identity)
    delivery = Delivery(spool, to(database))
    delivery.connect()
    assert stored(database) == once


def test_sync_needs_the_password_that_no_file_holds(spool, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = "postgresql://me:secret@nowhere/mlflow"
    sender.store_destination(spool, Destination(uri, "x", ID))
    assert "secret" not in (spool / "destination.json").read_text()
    with pytest.raises(sender.InputError, match="MLFLOW_TRACKING_URI"):
        sender.sync(spool)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert sender.stored_destination(spool) == Destination(uri, "x", ID)


def test_what_is_recorded_after_a_lost_spool_is_sent_whole(database, spool, played):
    """The new file outgrows what was sent of the lost one, before a sender looks at it again."""
    destination = to(database)
    assert send(spool, destination)
    before, sent = stored(database), (spool / EVENTS).stat().st_size
    (spool / EVENTS).unlink()
    assert sender.count_unsent(spool, destination) == 0
    tracker = Spool(spool, 1000)
    rounds_of = list(played(tracker, first_round=1001))
    tracker.describe("cosine", Summary(tags={"padding": "x" * sent}))
    tracker.commit(rounds_of[-1])
    tracker.publish(rounds_of[-1])
    tracker.finish()
    assert (spool / EVENTS).stat().st_size > sent
    assert send(spool, destination)
    after = stored(database)
    assert after.keys() == before.keys()
    assert {key: run["tags"]["trial.state"] for key, run in after.items() if key[1]} == {
        key: run["tags"]["trial.state"] for key, run in before.items() if key[1]
    }
    assert after["cosine", None]["tags"]["padding"].startswith("xxx")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", None])
def test_sync_without_its_destination_says_so(spool, tmp_path, capsys, content):
    path = spool / "destination.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"sync=.*destination\.json: damaged or missing, so it is not known"):
        sender.sync(spool)
    path.rmdir() if content is None else path.write_bytes(b"null")
    assert sender.sync(spool) == 0
    assert "is not tracked (tracking=none)" in capsys.readouterr().out
    shutil.rmtree(spool)
    with pytest.raises(InputError, match=r"destination\.json: damaged or missing"):
        sender.sync(spool)
