"""A sweep in several processes equals the sweep in one, also after kills and with another number of processes."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sweeper.search.records import read

SWEEP = [
    "name=spread",
    "data=digits",
    "model=mlp",
    "model.width=16",
    "model.dropout=0.1",
    "schedule=[cosine,onecycle]",
    "optimizer.peak_lr.high=30",  # some trials diverge
    "train.steps=240",
    "search.n_trials=10",
    "search.concurrent_trials=4",
    "pruner.n_startup_trials=2",
    "tracking=none",
]
TRAINERS = ["sequential", "lanes"]


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
    log = folder / "sweeps" / "spread" / "log.txt"
    assert bool(re.search(r"Training in \d+ processes", log.read_text())) == ("trainer.workers=1" not in more)


def result(folder):
    """Return everything stored of the trials except seconds."""
    home = Path(folder) / "sweeps" / "spread"
    kept = ("study", "family", "number", "state", "params", "value", "intermediate", "steps_done", "diverged_step")
    trials = [{key: getattr(record, key) for key in kept} for record in read(home / "journal.log")]
    tables = [pd.read_csv(home / "tables" / f"{name}.csv") for name in ("trials", "families")]
    return trials, [table[[name for name in table if "seconds" not in name]] for table in tables]


def assert_same(found, expected):
    assert found[0] == expected[0]
    for one, other in zip(found[1], expected[1], strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return the result of the sweep in one process, by trainer."""
    folders = {trainer: tmp_path_factory.mktemp(trainer) for trainer in TRAINERS}
    for trainer, folder in folders.items():
        through(folder, f"trainer={trainer}", "trainer.workers=1")
    return {trainer: result(folder) for trainer, folder in folders.items()}


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_two_processes_are_one(alone, trainer, tmp_path):
    through(tmp_path, f"trainer={trainer}", "trainer.workers=2")
    assert_same(result(tmp_path), alone[trainer])
    assert {trial["state"] for trial in alone[trainer][0]} >= {"complete", "pruned", "diverged"}


@pytest.mark.slow
def test_killed_with_one_number_of_processes_it_goes_on_with_another(alone, tmp_path):
    moments = random.Random(5)
    journal = tmp_path / "sweeps" / "spread" / "journal.log"
    for workers in (3, 1, 2):
        size = journal.stat().st_size if journal.exists() else 0
        process = start(tmp_path, "trainer=sequential", f"trainer.workers={workers}")
        while process.poll() is None and (journal.stat().st_size if journal.exists() else 0) <= size:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        assert process.poll() is None, "the sweep was over: it must be longer"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    through(tmp_path, "trainer=sequential", "trainer.workers=2")
    assert_same(result(tmp_path), alone["sequential"])
