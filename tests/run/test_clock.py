"""The wall clock may jump at any moment: no result changes. A finished sweep is opened without writing it again."""

import datetime
import itertools
import json
import os
import shutil
import time
from functools import partial

import pytest

import sweeper as package
from sweeper.spec.question import Home, homes
from sweeper.tracking import trackers
from sweeper.tracking.spool import Spool
from sweeper.views import conclusion

SWEEP = [
    "data=digits", "model=mlp", "model.width=8", "train.steps=24", "search.reports=8", "search.n_trials=8",
    "search.concurrent_trials=2", "search.sampler.n_startup_trials=3", "pruner.n_startup_trials=2",
    "pruner.n_warmup_steps=2", "optimizer.peak_lr.high=30", "schedule=[constant,cosine]", "search.stop=6",
    "tracking=none", "trainer=sequential", "trainer.workers=1", "name=mine",
]  # fmt: skip
HOUR = 3600
JUMPS = [0, 5 * HOUR, -20 * HOUR, HOUR, 365 * 24 * HOUR, -3000 * 24 * HOUR, 7]


@pytest.fixture
def jump(monkeypatch):
    """Return a function that lets every clock but the monotonic ones jump at each call."""
    real, jumps = time.time, itertools.cycle(JUMPS)

    def now():
        return real() + next(jumps)

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(now(), tz)

    def start():
        monkeypatch.setattr(time, "time", now)
        monkeypatch.setattr(time, "time_ns", lambda: int(now() * 1e9))
        monkeypatch.setattr("optuna.storages.journal._storage.datetime", Jumping)
        monkeypatch.setattr("optuna.trial._frozen.datetime.datetime", Jumping, raising=False)
        monkeypatch.setattr(trackers, "Spool", partial(Spool, clock=lambda: int(now() * 1e9)))

    return start


def results(folder):
    sweep = package.load("mine", folder / "sweeps")
    without = ["seconds", "seconds_to_target"]
    return sweep.trials.drop(columns=without), sweep.families.drop(columns=without[1:]), dict(sweep.stopped)


def test_a_jumping_clock_changes_no_result(sweeper, tmp_path, jump):
    assert sweeper(*SWEEP)[0] == 0
    before = results(tmp_path)
    assert {"complete", "pruned", "diverged"} <= set(before[0]["state"])
    (tmp_path / "sweeps").rename(tmp_path / "before")
    jump()
    for timeout in ("search.timeout=0.01", "search.timeout=3600"):  # interrupted by a clock that does not jump
        code, _, err = sweeper(*SWEEP, timeout)
        assert code == 0, err
    now = results(tmp_path)
    assert now[0].equals(before[0])
    assert now[1].equals(before[1])
    assert now[2] == before[2]
    lines = (tmp_path / "sweeps" / "mine" / "spool" / "events.jsonl").read_text().splitlines()
    times = [json.loads(line)["t"] for line in lines]
    assert times == sorted(times)
    code, out, _ = sweeper("status", "--watch")
    assert code == 0
    assert "mine" in out


def test_the_sweep_used_last_is_the_last_also_if_the_clock_was_set_back(tmp_path):
    for name, hours in (("first", 0), ("second", 50), ("third", 0), ("first", 0)):
        home = Home(tmp_path / name)
        home.path.mkdir(exist_ok=True)
        home.write({"name": name})
        if hours:  # the clock was ahead when it was written
            ahead = time.time() + hours * HOUR
            os.utime(home.config, (ahead, ahead))
        assert homes(tmp_path)[-1] == home


def test_a_finished_sweep_is_opened_without_writing_its_files_again(sweeper, tmp_path):
    assert sweeper(*SWEEP)[0] == 0
    home = Home(tmp_path / "sweeps" / "mine")

    def files():
        kept = [path for path in home.path.rglob("*") if path.is_file() and path.parent != home.path]
        return {path: (path.stat().st_ino, path.read_bytes()) for path in kept if path.name != "published.json"}

    before, printed = files(), sweeper("status")[1]
    code, out, _ = sweeper(*SWEEP)
    assert code == 0
    assert out.startswith(printed)
    assert files() == before

    for folder in (home.tables, home.traces, home.path / "figures"):
        shutil.rmtree(folder)
        assert sweeper(*SWEEP)[0] == 0
        assert folder.is_dir()
    assert {path.name for path in home.tables.iterdir()} == {"trials.csv", "families.csv", "families.json"}

    assert sweeper(*SWEEP, "objective.target=0.5")[0] == 0
    assert files() != before, "another target changes what the tables show"


def test_a_command_that_died_before_it_wrote_the_files_is_made_up_for(sweeper, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    home = Home(tmp_path / "sweeps" / "mine")
    with monkeypatch.context() as patch:
        patch.setattr(conclusion, "conclude", die)
        assert sweeper(*SWEEP)[0] == 130
    assert not home.tables.exists()
    assert package.load("mine").finished
    assert sweeper(*SWEEP)[0] == 0
    assert (home.tables / "families.csv").exists()

    with monkeypatch.context() as patch:  # after more trials, with the tables of fewer
        patch.setattr(conclusion, "conclude", die)
        assert sweeper(*SWEEP, "search.n_trials=9", "search.stop=null")[0] == 130
    assert sweeper(*SWEEP, "search.n_trials=9", "search.stop=null")[0] == 0
    assert len((home.tables / "trials.csv").read_text().splitlines()) == 1 + len(package.load("mine").trials) == 19
