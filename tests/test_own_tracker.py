"""The user-written tracker in examples/, from the command line: after a kill and a resume it has everything once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.api import load

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SWEEP = [
    *("name=tracked", "data=digits", "model=mlp", "model.width=8", "schedule=[cosine,constant]", "pruner=none"),
    *("train.steps=16", "search.reports=4", "search.n_trials=3", "search.concurrent_trials=2"),
]
PAGE = (ROOT / "docs" / "guide" / "tracking.md").read_text()
TRACKED = re.findall(r"^ +(tracking\._target_=.*)$", PAGE, re.MULTILINE)[0].split()
DYING = """
import os
from jsonl_tracker import JsonLines


class Dying(JsonLines):
    def commit(self, round):
        super().commit(round)
        if round == 6:  # it is one round ahead of the journal
            {how}
"""


def lines(home):
    return [json.loads(line) for line in (home / "runs.jsonl").read_text().splitlines()]


def interrupt(sweeper, folder):
    (folder / "dying.py").write_text(DYING.format(how="raise KeyboardInterrupt"))
    assert sweeper(*SWEEP, "tracking._target_=dying.Dying")[0] == 130


def kill(sweeper, folder):
    (folder / "dying.py").write_text(DYING.format(how="os._exit(9)"))
    command = [sys.executable, "-m", "sweeper", *SWEEP, "tracking._target_=dying.Dying"]
    path = os.pathsep.join([str(ROOT), str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    assert subprocess.run(command, cwd=folder, env=environment, check=False, timeout=120).returncode == 9


@pytest.mark.parametrize("end", [interrupt, pytest.param(kill, marks=pytest.mark.slow)])
def test_a_resumed_sweep_is_tracked_once(sweeper, tmp_path, monkeypatch, end):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(tmp_path)
    home = tmp_path / "sweeps" / "tracked"
    end(sweeper, tmp_path)
    monkeypatch.delitem(sys.modules, "dying", raising=False)
    assert max(line["round"] for line in lines(home)) == 6
    code, out, err = sweeper(*SWEEP, *TRACKED)
    assert code == 0, err
    assert "MLflow" not in out
    assert not (tmp_path / "mlflow.db").exists()

    sweep, tracked = load(home), lines(home)
    assert sweep.finished
    assert "tracking" not in sweep.config
    assert len(sweep.records) == 6
    for record in sweep.records:
        trial = f"{record.study}:{record.number}"
        trace = sweep.trace(record.study, record.number)
        of_run = [line for line in tracked if line["run"] == f"{trial}:0"]
        for name in ("train/loss", "lr/group0", "valid/loss"):
            points = [(line["step"], line[name]) for line in of_run if name in line]
            assert points == list(trace[["step", name]].dropna().itertuples(index=False, name=None))
        assert [line["config"]["family"] for line in of_run if "config" in line] == [record.family]
        (ended,) = (line["summary"] for line in tracked if line["run"] == trial)
        assert (ended["state"], ended["objective"]) == (record.state, record.value)
    for study in sweep.config["studies"]:
        said = [line["summary"] for line in tracked if line["run"] == study]
        assert "**Result of the search:**" in said[-1]["note"]

    code, _, err = sweeper(*SWEEP, "tracking=none")  # nothing is left to train: it is the same sweep
    assert code == 0, err
    assert [path.name for path in home.parent.iterdir()] == ["tracked"]
