"""A sweep that is killed repeatedly ends like an uninterrupted one: the table, the journal, the rows in MLflow."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sweeper.search.records import read

SWEEP = [
    "name=killed",
    "data=digits",
    "model=mlp",
    "model.width=16",
    "model.dropout=0.1",
    "schedule=[cosine,sgdr]",
    "optimizer.peak_lr.high=30",  # some trials diverge
    "train.steps=240",
    "search.n_trials=16",
    "search.concurrent_trials=4",
    "pruner.n_startup_trials=2",
]
LANES = ("trainer=lanes", "trainer.width=3")  # fewer than the open trials


def start(folder, *more):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    return subprocess.Popen(
        [sys.executable, "-m", "sweeper", *SWEEP, *more],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def through(folder, *more):
    process = start(folder, *more)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def trials(folder):
    kept = ("study", "family", "number", "state", "params", "value", "intermediate", "steps_done", "diverged_step")
    records = read(folder / "sweeps" / "killed" / "journal.log")
    return [{key: getattr(record, key) for key in kept} for record in records]


def table(folder, name):
    frame = pd.read_csv(folder / "sweeps" / "killed" / "tables" / f"{name}.csv")
    return frame.drop(columns=["seconds", "seconds_to_target"], errors="ignore")


def rows(folder):
    """Return everything in MLflow except timestamps and seconds. Role, study and trial replace the ids of runs."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in database.execute("select run_uuid, key, value from tags"):
            tags.setdefault(run, {})[key] = value
        own = {
            run: tuple(of_run.get(key) for key in ("sweep.role", "sweep.study", "trial.number"))
            for run, of_run in tags.items()
        }
        assert len(set(own.values())) == len(own), "a run was made twice"
        found = {
            "runs": [(own[run], *rest) for run, *rest in database.execute("select run_uuid, name, status from runs")],
            "params": [(own[run], *rest) for run, *rest in database.execute("select run_uuid, key, value from params")],
            "metrics": [
                (own[run], *rest)
                for run, *rest in database.execute("select run_uuid, key, step, value from metrics")
                if rest[0] not in ("seconds", "seconds_to_target")
            ],
            "tags": [
                (own[run], key, value)
                for run, of_run in tags.items()
                for key, value in of_run.items()
                if key.startswith(("sweep.", "trial.", "schedule.", "diverged."))
                and key not in ("sweep.study_run", "sweep.id")
            ],
        }
    return {kind: sorted(of_kind, key=repr) for kind, of_kind in found.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return the folder of the same sweep without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    through(folder)
    return folder


def kill(folder, times, *more):
    """Run the sweep and kill it that many times, each time at a random moment after a commit."""
    moments = random.Random(11)
    journal = folder / "sweeps" / "killed" / "journal.log"
    for done in range(times):
        size = journal.stat().st_size if journal.exists() else 0
        process = start(folder, *more)
        while process.poll() is None and (journal.stat().st_size if journal.exists() else 0) <= size:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.25))
        assert process.poll() is None, f"the sweep was over after {done} kills: it must be longer"
        process.send_signal(signal.SIGKILL)
        process.communicate()


def assert_same(folder, whole):
    assert trials(folder) == trials(whole)
    for name in ("trials", "families"):
        pd.testing.assert_frame_equal(table(folder, name), table(whole, name))
    theirs, ours = rows(whole), rows(folder)
    for kind in theirs:
        assert ours[kind] == theirs[kind], kind
    assert {trial["state"] for trial in trials(whole)} >= {"complete", "pruned", "diverged"}


@pytest.mark.slow
def test_killed_at_ten_moments_it_ends_the_same(whole, tmp_path):
    kill(tmp_path, 10)
    through(tmp_path)
    assert_same(tmp_path, whole)


@pytest.fixture(scope="module")
def whole_in_lanes(tmp_path_factory) -> Path:
    """Return the folder of the same sweep in lanes of one process, without interruption."""
    folder = tmp_path_factory.mktemp("whole-in-lanes")
    through(folder, *LANES, "trainer.workers=1")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "times"), [(1, 2), (2, 3)])
def test_killed_in_lanes_it_ends_the_same(whole_in_lanes, tmp_path, workers, times):
    words = (*LANES, f"trainer.workers={workers}")
    kill(tmp_path, times, *words)
    through(tmp_path, *words)
    assert_same(tmp_path, whole_in_lanes)


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_more_trials_continue(whole):
    before, stored = trials(whole), rows(whole)
    through(whole)
    assert trials(whole) == before
    assert rows(whole) == stored
    through(whole, "search.n_trials=18", "tracking=none")
    after = trials(whole)
    assert len(after) == len(before) + 4
    assert [trial for trial in after if trial["number"] < 16] == before


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_round_and_says_how_to_go_on(tmp_path, sent):
    process = start(tmp_path, "tracking=none", "search.n_trials=200")
    journal = tmp_path / "sweeps" / "killed" / "journal.log"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    process.send_signal(sent)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + sent, out
    assert "Finishing this round" in out
    assert "the same command resumes the sweep" in out
    assert trials(tmp_path)
    assert (tmp_path / "sweeps" / "killed" / "checkpoint").exists()


@pytest.mark.slow
def test_a_second_ctrl_c_stops_now(tmp_path):
    process = start(tmp_path, "tracking=none", "train.steps=400000", "search.reports=4")
    while process.poll() is None and not (tmp_path / "sweeps" / "killed" / "config.yaml").exists():
        time.sleep(0.01)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 130, out
