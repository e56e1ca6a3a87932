"""A project folder may have any name, and may be moved or copied: everything stays beside the database that is used."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest

from sweeper.tracking import trackers
from sweeper.tracking.mlflow import sender, view
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.tracking.spool import Spool
from sweeper.types import TrackedSweep

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

ID = "abcdef0123456789abcdef0123456789"
FOLDERS = ["50%20off", "a?b", "a#b", "päß 日本", "a:b@c", "100%", "%(here)s"]


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A fresh database; copied, because making one takes seconds."""
    from sweeper.tracking.mlflow.client import make_database

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    make_database(path)
    return path


def send(project, played):
    """Track a sweep as a command in that working folder does, with a file. Returns the folder of the spool."""
    sweep = TrackedSweep(project / "sweeps" / "x", "x", ID, 0)
    tracker = trackers.start(sweep, MLflow(flush_seconds=120))
    last = list(played(tracker, trials=1))[-1]
    attach(tracker, project, last)
    assert tracker.finish() == 0, (sweep.spool / "sender.log").read_text()
    return sweep.spool


def attach(tracker, project, round, name="table.txt"):
    (project / "sweeps" / "x" / name).write_text(name)
    tracker.artifact("cosine", project / "sweeps" / "x" / name)
    tracker.commit(round)
    tracker.publish(round)


def attach_later(project, name):
    """Attach one more file, as a command that resumes the sweep does, without sending it."""
    spool = Spool(project / "sweeps" / "x" / "spool", 10**6)
    attach(spool, project, 10**6, name)
    spool.finish()


def files(folder, name):
    return [path.read_text() for path in folder.rglob(name) if "mlartifacts" in path.parts]


def shown(spool, name):
    """Return a file as MLflow's server shows it."""
    destination = sender.stored_destination(spool)
    with closing(sqlite3.connect(destination.database)) as connection:
        run = connection.execute("SELECT run_uuid FROM runs WHERE name = 'cosine'").fetchone()[0]
    with view.serve(destination.uri, view.free_port(6100 + os.getpid() % 3000)) as base:
        query = urlencode({"run_id": run, "path": name})
        with urllib.request.urlopen(f"{base}/get-artifact?{query}", timeout=60) as answer:
            return answer.read().decode()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_any_name(name, tmp_path, played, monkeypatch, database):
    project = tmp_path / name
    project.mkdir()
    monkeypatch.chdir(project)
    if name != FOLDERS[0]:  # that one makes its own
        shutil.copy(database, project / "mlflow.db")
    spool = send(project, played)
    assert files(project, "table.txt") == ["table.txt"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in project.iterdir()} <= {
        "mlflow.db",
        "mlflow.db-wal",
        "mlflow.db-shm",
        "mlartifacts",
        "sweeps",
    }
    if name in FOLDERS[:2]:
        assert shown(spool, "table.txt") == "table.txt"


def test_a_whole_sweep_in_a_folder_with_a_percent_sign(tmp_path):
    project = tmp_path / "50%20off"
    project.mkdir()
    words = ["data=digits", "model=mlp", "schedule=constant", "search.n_trials=1", "train.steps=8", "search.reports=4"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    for command in ([*words, "name=x"], ["sync"]):
        done = subprocess.run(
            [sys.executable, "-m", "sweeper", *command], cwd=project, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "not in MLflow" not in done.stdout + done.stderr
    assert "Everything is in MLflow at sqlite:////" in done.stdout
    assert len(files(project, "config.yaml")) == 1
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        data = connection.execute("SELECT DISTINCT value FROM tags WHERE key = 'data'").fetchall()
        parents = connection.execute("SELECT value FROM tags WHERE key = 'mlflow.parentRunId'").fetchall()
        summary = connection.execute("SELECT run_uuid FROM runs WHERE name LIKE 'constant-%' ORDER BY name").fetchall()
    assert len(data) == 1
    assert parents[0] in summary


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_that_is_elsewhere_now(how, tmp_path, played, monkeypatch, database):
    before, after = tmp_path / "before", tmp_path / "after 50%20off"
    before.mkdir()
    shutil.copy(database, before / "mlflow.db")
    monkeypatch.chdir(before)
    spool = send(before, played)
    sent = json.loads((spool / "sent.json").read_text())
    monkeypatch.chdir(tmp_path)
    before.rename(after) if how == "moved" else shutil.copytree(before, after)
    original = sorted(path.relative_to(tmp_path) for path in before.rglob("*"))
    monkeypatch.chdir(after)
    spool = after / "sweeps" / "x" / "spool"
    assert sender.stored_destination(spool).database == after / "mlflow.db"
    assert sender.experiment_id(spool) is not None
    attach_later(after, "later.txt")
    assert sender.sync(spool) == 0, (spool / "sender.log").read_text()
    assert files(after, "table.txt") == ["table.txt"]
    assert files(after, "later.txt") == ["later.txt"]
    assert shown(spool, "table.txt") == "table.txt"
    assert json.loads((spool / "sent.json").read_text()).keys() == sent.keys()
    assert sorted(path.relative_to(tmp_path) for path in before.rglob("*")) == original
    assert before.exists() == (how == "copied")


def test_an_experiment_of_somebody_else_keeps_its_folder(tmp_path, played, monkeypatch, database):
    """Where the user's own experiment stores files is the user's choice."""
    from mlflow.tracking import MlflowClient

    shutil.copy(database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_experiment("theirs", artifact_location=str(tmp_path / "elsewhere" / "mlartifacts"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    send(tmp_path, played)
    assert files(tmp_path / "elsewhere", "table.txt") == ["table.txt"]
    assert not (tmp_path / "mlartifacts").exists()
