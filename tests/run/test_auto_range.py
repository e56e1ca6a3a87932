"""`optimizer.peak_lr=auto`: the interval is found once, stored with the sweep, and kept however a command ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from torch import nn

import sweeper as package
from sweeper.search.records import read
from sweeper.tasks import Arrays, Supervised
from sweeper.types import InputError

SWEEP = [
    "name=small", "experiment=quadratic", "schedule=[constant,cosine]", "search.n_trials=3",
    "search.concurrent_trials=2", "tracking=none",
]  # fmt: skip
AUTO = "optimizer.peak_lr=auto"
MOMENTS = Path(__file__).parents[1] / "moments"
PATIENCE = 300  # seconds


class Still(nn.Module):
    """Its weights do not change its outputs."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        return 0.0 * self.layer(x)


def stored(folder, name="small"):
    return json.loads((folder / "sweeps" / name / "range.json").read_text())


def searched(folder, name="small"):
    """Return the interval in the space of each study, by family."""
    studies = yaml.safe_load((folder / "sweeps" / name / "config.yaml").read_text())["studies"].values()
    return {one["family"]: (one["schedule"]["peak_lr"]["low"], one["schedule"]["peak_lr"]["high"]) for one in studies}


def trials(folder, name="small"):
    records = read(folder / "sweeps" / name / "journal.log")
    return sorted((one.family, one.number, one.study, one.state, one.value, one.params["peak_lr"]) for one in records)


@pytest.fixture
def begun(sweeper, tmp_path):
    """Run a sweep of `auto` to its end, and return its folder."""
    code, _, err = sweeper(*SWEEP, AUTO)
    assert code == 0, err
    return tmp_path


def test_every_family_searches_the_interval_of_the_range_test(begun):
    found = stored(begun)
    assert 0 < found["low"] < found["high"]
    assert searched(begun) == {"constant": (found["low"], found["high"]), "cosine": (found["low"], found["high"])}
    assert len(found["points"]) == 8
    lrs = [lr for *_, lr in trials(begun)]
    assert all(found["low"] <= lr <= found["high"] for lr in lrs)
    assert len(set(lrs)) > 2


def test_the_same_command_resumes_with_the_stored_interval_whatever_a_test_would_find_now(sweeper, begun):
    path = begun / "sweeps" / "small" / "range.json"
    path.write_text(json.dumps({**stored(begun), "low": 0.25, "high": 0.5}))
    code, _, err = sweeper(*SWEEP, AUTO, "schedule=[wsd]")
    assert code == 0, err
    assert searched(begun)["wsd"] == (0.25, 0.5), "a family that joins"
    assert stored(begun)["low"] == 0.25


def test_it_is_the_sweep_of_the_interval_as_typed(sweeper, begun):
    before, found = trials(begun), stored(begun)
    typed = f"optimizer.peak_lr={{low: {found['low']}, high: {found['high']}, log: true}}"
    for words in ([AUTO], [typed]):
        code, _, err = sweeper(*SWEEP, *words)
        assert code == 0, err
        assert trials(begun) == before


def test_another_range_is_another_study_of_the_same_sweep(sweeper, begun):
    code, _, err = sweeper(*SWEEP, "optimizer.peak_lr={low: 0.01, high: 1, log: true}")
    assert code == 0, err
    assert len({study for _, _, study, *_ in trials(begun)}) == 4


def test_one_family_alone_may_have_it(sweeper, tmp_path):
    code, _, err = sweeper(*SWEEP, "schedule.cosine.peak_lr=auto", "optimizer.peak_lr={low: 0.01, high: 1, log: true}")
    assert code == 0, err
    assert searched(tmp_path) == {"constant": (0.01, 1), "cosine": (stored(tmp_path)["low"], stored(tmp_path)["high"])}


def test_a_fresh_start_finds_its_own(sweeper, begun):
    (begun / "sweeps" / "small" / "range.json").write_text(json.dumps({**stored(begun), "low": 0.25}))
    code, _, err = sweeper(*SWEEP, AUTO, "fresh=true")
    assert code == 0, err
    assert stored(begun, "small.2")["low"] != 0.25


def test_what_a_start_with_other_settings_left_does_not_count(sweeper, tmp_path):
    """It was killed before it trained, so the name is free."""
    folder = tmp_path / "sweeps" / "small"
    folder.mkdir(parents=True)
    (folder / "range.json").write_text(json.dumps({"question": "of another", "low": 0.25, "high": 0.5}))
    code, _, err = sweeper(*SWEEP, AUTO)
    assert code == 0, err
    assert stored(tmp_path)["low"] != 0.25


def test_a_damaged_interval_is_refused(sweeper, begun, check_form):
    (begun / "sweeps" / "small" / "range.json").write_text("{")
    code, _, err = sweeper(*SWEEP, AUTO)
    assert code == 2
    check_form(err.strip().removeprefix("sweeper: "))


def test_a_sweep_in_python(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    task = Supervised(Arrays(x, (x.sum(1) > 0).astype(int)), lambda inputs, outputs: nn.Linear(inputs, outputs))
    options = {"steps": 16, "n_trials": 2, "tracking": "none", "trainer": {"sequential": {"workers": 1}}}
    options |= {"optimizer": {"adamw": {"peak_lr": "auto"}}, "search": {"reports": 4}, "name": "small"}
    first = package.sweep(task, "constant", root=tmp_path / "sweeps", **options)
    again = package.sweep(task, "constant", root=tmp_path / "sweeps", **options)
    assert first.trials["value"].tolist() == again.trials["value"].tolist()
    assert first.trials["peak_lr"].between(stored(tmp_path)["low"], stored(tmp_path)["high"]).all()


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["optimizer.peak_lr=automatic"], "optimizer.peak_lr=automatic"),
        (["optimizer.peak_lr={auto: true}"], "optimizer.peak_lr"),
        ([AUTO, "train.batch_size=5"], "train.batch_size=5"),
        ([AUTO, "objective.metric=valid/f1"], "objective.metric=valid/f1"),
        ([AUTO, "search.start={cosine: [{peak_lr: 1e6, warmup: 0, decay: 0.01}]}"], "search.start.cosine"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(sweeper, tmp_path, check_form, words, key):
    code, _, err = sweeper(*SWEEP, *words)
    assert code == 2
    said = err.strip().splitlines()[-1].removeprefix("sweeper: ")
    check_form(said)
    assert said.startswith(key)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_falls_at_no_lr_is_refused(tmp_path, check_form):
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    task = Supervised(Arrays(x, (x.sum(1) > 0).astype(int)), Still)
    with pytest.raises(InputError, match="neither fell nor exploded") as caught:
        package.sweep(task, "constant", optimizer={"sgd": {"peak_lr": "auto"}}, root=tmp_path / "sweeps")
    check_form(str(caught.value))
    assert not list(tmp_path.iterdir())


def test_a_preview_does_not_know_it(sweeper, tmp_path, check_form):
    code, _, err = sweeper("preview", *SWEEP[1:], AUTO)
    assert code == 2
    check_form(err.strip().removeprefix("sweeper: "))
    assert not list(tmp_path.iterdir())


def test_a_plan_does_without_and_takes_the_stored_one(sweeper, tmp_path):
    code, out, err = sweeper("plan", *SWEEP, AUTO, "--json")
    assert code == 0, err
    assert not list(tmp_path.iterdir())
    assert sweeper(*SWEEP, AUTO)[0] == 0
    code, out, err = sweeper("plan", *SWEEP, AUTO, "--json")
    assert code == 0, err
    assert [(row["trials"], row["done"]) for row in json.loads(out)["families"]] == [(3, 3), (3, 3)]


# --- kill -9 ----------------------------------------------------------------------------------------


def start(folder, *moments):
    files = [{**moment, "file": str(folder / f"moment-{number}")} for number, moment in enumerate(moments)]
    path = os.pathsep.join(filter(None, [str(MOMENTS), os.environ.get("PYTHONPATH")]))
    with (folder / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeper", *SWEEP, AUTO],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "MOMENTS": json.dumps(files)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def kill_at(folder, moment):
    """Run the command and kill it when it reaches a moment."""
    (folder / "moment-0").unlink(missing_ok=True)
    process, deadline = start(folder, moment), time.monotonic() + PATIENCE
    try:
        while not (folder / "moment-0").exists():
            assert process.poll() is None, (folder / "output.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


@pytest.mark.slow
def test_killed_before_and_after_the_interval_is_stored_it_is_found_once(tmp_path):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed.mkdir()
    undisturbed.mkdir()
    path = killed / "sweeps" / "small" / "range.json"
    ramping = {"call": "sweeper.run.ramping:_Ramps.tell", "path": "", "torn": False, "count": 2}
    kill_at(killed, ramping)
    assert not (killed / "sweeps").exists(), "a range test stores nothing by itself"
    kill_at(killed, {"call": "", "path": r".*/range\.json.*", "torn": True, "count": 1})
    assert not path.exists()
    kill_at(killed, {**ramping, "call": "sweeper.run.untrained:level", "count": 1})
    found = path.read_bytes()
    assert not (killed / "sweeps" / "small" / "config.yaml").exists()
    kill_at(killed, {**ramping, "call": "sweeper.tracking.trackers:start", "count": 1})
    kill_at(killed, {**ramping, "call": "sweeper.search.study:Studies.tell", "count": 3})
    for folder in (killed, undisturbed):
        assert start(folder).wait(PATIENCE) == 0, (folder / "output.txt").read_text()
    assert path.read_bytes() == found == (undisturbed / "sweeps" / "small" / "range.json").read_bytes()
    assert "range test" not in (killed / "output.txt").read_text()
    assert trials(killed) == trials(undisturbed)
