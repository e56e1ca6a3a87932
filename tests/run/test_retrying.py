"""Trials that failed are trained again, exactly those, once the cause is gone: command line, Python, kill -9."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import sweeper as package
from sweeper.tasks import Arrays, Supervised

# Wide models fail while the file `broken` is there. The sampler does not learn from what happens.
MODEL = """
from pathlib import Path
from torch import nn

class Fragile(nn.Module):
    def __init__(self, inputs, outputs, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, outputs))
        self.is_fragile = dropout > 0.2

    def forward(self, x):
        if self.training and self.is_fragile and len(x) > 2 and Path("broken").exists():
            raise RuntimeError("the disk of the data is gone")
        return self.layers(x)
"""
WORDS = [
    "data=digits", "model=fragile", "--config-dir", "own", "model.dropout={low: 0.0, high: 0.4}", "name=mine",
    "schedule=[constant,cosine]", "train.steps=48", "search.reports=8", "search.n_trials=6",
    "search.concurrent_trials=2", "search=random", "pruner=none", "trainer=sequential", "trainer.workers=1",
]  # fmt: skip


def write_model(folder):
    (folder / "own" / "model").mkdir(parents=True)
    (folder / "fragile.py").write_text(MODEL)
    (folder / "own" / "model" / "fragile.yaml").write_text("_target_: fragile.Fragile\ndropout: 0.0\n")
    return folder


def by_point(root):
    """Return the result of each trial that did not fail, by family, hyperparameters and seeds."""
    sweep = package.load("mine", root)
    ended = [record for record in sweep.records if record.state != "failed"]
    results = {
        repr((record.family, record.params, record.seeds)): (
            record.state,
            record.value,
            sweep.trace(record.study, record.number).to_dict("list"),
        )
        for record in ended
    }
    assert len(results) == len(ended), "a trial was trained twice"
    return results


def assert_equal(results, others):
    assert results.keys() == others.keys()
    for point, (*end, trace) in results.items():
        *other_end, other_trace = others[point]
        assert end == other_end
        assert trace.keys() == other_trace.keys()
        for name in trace:
            np.testing.assert_array_equal(trace[name], other_trace[name])


def test_retry_trains_the_failed_trials_and_no_others(sweeper, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_model(tmp_path))
    code, _, err = sweeper(*WORDS, "tracking=none")
    assert code == 0, err
    whole = by_point(tmp_path / "sweeps")
    (tmp_path / "sweeps").rename(tmp_path / "whole")

    (tmp_path / "broken").touch()
    code, out, err = sweeper(*WORDS, "tracking=none")
    assert code == 0, err
    sweep = package.load("mine")
    missing = len(sweep.given_up)
    assert 0 < missing < 12
    assert f"{12 - missing}/12 trials" in err
    assert f"{missing} given up" in err
    assert "the disk of the data is gone" in out
    assert "python -m sweeper retry mine" in " ".join(out.split())
    assert "MLflow" not in out + err
    assert all(name in out for name in sweep.given_up[:5])
    counts = json.loads(sweeper("status", "--json")[1])["trials"]
    assert counts["complete"] + counts["pruned"] + counts["diverged"] == 12 - missing
    assert f"{missing} trials failed, also when tried again: " in sweep._repr_html_()
    config, records = sweep.home.read(), sweep.records

    code, out, _ = sweeper("retry")  # the cause is still there
    assert code == 1
    assert json.loads(sweeper("status", "--json")[1])["given_up"] == package.load().given_up
    assert len(package.load().given_up) == missing

    (tmp_path / "broken").unlink()
    code, out, err = sweeper("retry", "mine")
    assert code == 0, err
    assert "12/12 trials" in err
    assert "given up" not in err
    assert "also when tried again" not in out
    sweep.refresh()
    assert sweep.given_up == []
    assert sweep.finished
    assert sweep.home.read() == config, "its question, its studies and their limits"
    started = {(record.study, record.number): record for record in sweep.records}
    assert [started[record.study, record.number] for record in records] == records, "no other trial changes"
    assert_equal(by_point(tmp_path / "sweeps"), whole)

    size = sweep.home.journal.stat().st_size
    code, out, _ = sweeper("retry")
    assert (code, out) == (0, "No trial of mine has to be trained again.\n")
    assert sweeper(*WORDS, "tracking=none")[0] == 0
    assert sweep.home.journal.stat().st_size == size


class Fragile(nn.Module):
    def __init__(self, inputs, outputs, broken):
        super().__init__()
        self.layer, self.broken, self.batches = nn.Linear(inputs, outputs), broken, 0

    def forward(self, x):
        self.batches += self.training
        if self.batches > 1 and Path(self.broken).exists():  # the first one is tried before the sweep
            raise RuntimeError("no data")
        return self.layer(x)


def test_in_python_the_older_of_two_sweeps_of_a_name_is_retried(tmp_path):
    """Every trial of it failed, so the sweep ended with an error."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    task = Supervised(Arrays(x, (x[:, 0] > 0).astype(int)), partial(Fragile, broken=str(tmp_path / "broken")))
    given = {"steps": 8, "n_trials": 2, "tracking": "none", "name": "mine", "root": tmp_path / "sweeps"}
    given |= {"search": {"reports": 4}, "trainer": {"sequential": {"workers": 1}}}
    (tmp_path / "broken").touch()
    with pytest.raises(RuntimeError, match="failed"):
        package.sweep(task, "cosine", **given)
    (tmp_path / "broken").unlink()
    package.sweep(task, "cosine", fresh=True, **given)
    first = package.load(tmp_path / "sweeps" / "mine")
    assert first.trials["state"].eq("failed").all()
    assert len(first.given_up) == 2
    assert first.retry(task) is first
    assert first.trials["state"].tolist().count("complete") == 2
    assert first.retry(task).given_up == []
    second = package.load(tmp_path / "sweeps" / "mine.2")
    assert len(second.trials) == 2
    assert sorted(second.trials["value"]) == sorted(first.trials["value"].dropna())


# --- in processes of their own ----------------------------------------------------------------------


def run(folder, *words):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "sweeper", *words]
    return subprocess.Popen(
        command, cwd=folder, env={**environment, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def through(folder, *words):
    process = run(folder, *words)
    out = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, out
    return out


def runs(folder):
    """Return how many runs of each state MLflow has of trials."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        rows = database.execute("select value, count(*) from tags where key = 'trial.state' group by value").fetchall()
    return dict(rows)


@pytest.mark.slow
def test_killed_during_retries_it_ends_the_same(tmp_path):
    longer = [*WORDS, "train.steps=400", "search.reports=40", "search.n_trials=10"]
    whole, folder = write_model(tmp_path / "whole"), write_model(tmp_path / "killed")
    through(whole, *longer, "tracking=none")
    (folder / "broken").touch()
    through(folder, *longer)
    (folder / "broken").unlink()
    journal, moments, kills = folder / "sweeps" / "mine" / "journal.log", random.Random(3), 0
    for _ in range(4):
        size = journal.stat().st_size
        process = run(folder, "retry")
        while process.poll() is None and journal.stat().st_size == size:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.2))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert kills >= 3, "the retries were over too soon to be killed"
    out = through(folder, "retry")
    assert "python -m sweeper ui mine" in out, "what is tried again is sent to where the sweep was sent"
    assert_equal(by_point(folder / "sweeps"), by_point(whole / "sweeps"))
    counts = package.load("mine", folder / "sweeps").trials["state"].value_counts().to_dict()
    assert runs(folder) == counts
