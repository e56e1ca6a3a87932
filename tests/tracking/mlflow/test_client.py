"""MLflow's database of one file is made whole or not at all, whoever else makes it and whatever is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from sweeper.tracking.mlflow import sender

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

MAKE = """
import sys, pathlib
from sweeper.tracking.mlflow.client import make_database
make_database(pathlib.Path(sys.argv[1]))
"""
# What `mlflow ui` and any user's script do in a fresh folder.
IN_PLACE = """
import sys
from mlflow.tracking import MlflowClient
MlflowClient("sqlite:///" + sys.argv[1]).search_experiments()
"""


def start(script, path):
    return subprocess.Popen([sys.executable, "-c", script, str(path)], env={**os.environ, **sender.ENVIRONMENT})


def tables(path):
    with sqlite3.connect(path) as database:
        found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        mode = database.execute("PRAGMA journal_mode").fetchone()[0]
        revision = database.execute("SELECT version_num FROM alembic_version").fetchall()
    database.close()
    return found, mode, revision


def test_processes_that_make_it_at_the_same_time_all_get_one(tmp_path):
    path = tmp_path / "mlflow.db"
    assert [process.wait(120) for process in [start(MAKE, path) for _ in range(4)]] == [0] * 4
    found, mode, revision = tables(path)
    assert {"runs", "metrics", "latest_metrics"} <= found
    assert mode == "wal"
    assert len(revision) == 1
    assert [file.name for file in tmp_path.iterdir() if "new" in file.name] == []


def test_a_kill_in_the_middle_leaves_no_database_and_the_next_makes_it(tmp_path):
    path = tmp_path / "mlflow.db"
    process = start(MAKE, path)
    while not any(file.stat().st_size for file in tmp_path.glob(".mlflow.db.*.new")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists()
    (leftover,) = tmp_path.glob(".mlflow.db.*.new")
    os.utime(leftover, (0, 0))
    assert start(MAKE, path).wait(120) == 0
    assert "runs" in tables(path)[0]
    assert not leftover.exists()


def test_a_migration_that_another_program_began_is_waited_for(tmp_path):
    path = tmp_path / "mlflow.db"
    other = start(IN_PLACE, path)
    while not (path.exists() and path.stat().st_size):
        assert other.poll() is None
        time.sleep(0.01)
    assert start(MAKE, path).wait(120) == 0
    complete = tables(path)
    assert other.wait(120) == 0
    assert tables(path) == complete


def test_an_existing_database_is_left_as_it_is(tmp_path):
    path = tmp_path / "mlflow.db"
    assert start(IN_PLACE, path).wait(120) == 0
    before = path.read_bytes()
    assert start(MAKE, path).wait(120) == 0
    assert path.read_bytes() == before
