"""What a sweep is made of: the commit of the user's code, versions, and what is trained."""

import json
import subprocess

import pytest

from sweeper.api import load
from sweeper.run.provenance import commit
from sweeper.tracking.events import EVENTS

SMALL = ["data=digits", "model=mlp", "model.width=8", "train.steps=16", "search.reports=4", "search.n_trials=1"]


def git(folder, *words):
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("one")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "one")
    return tmp_path


def test_the_commit_and_whether_code_has_changed_since(repository):
    head = git(repository, "rev-parse", "HEAD")
    (repository / "mlflow.db").write_text("a file that git does not track")
    assert commit(repository) == {"git.commit": head, "git.dirty": "false"}
    (repository / "below").mkdir()
    (repository / "code.py").write_text("two")
    assert commit(repository / "below") == {"git.commit": head, "git.dirty": "true"}


def test_without_a_repository_a_commit_or_git_there_is_no_commit(tmp_path, monkeypatch):
    assert commit(tmp_path) == {}
    git(tmp_path, "init")
    assert commit(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(tmp_path) == {}


def test_every_study_is_told_to_the_tracker_with_its_configuration(sweeper, repository):
    code, _, err = sweeper(*SMALL, "tracking=none", "schedule=[constant,cosine]")
    assert code == 0, err
    sweep = load()
    events = [json.loads(line) for line in (sweep.home.spool / EVENTS).read_text().splitlines()]
    for study in sweep.config["studies"]:
        of_study = [event for event in events if event.get("study") == study]
        (made,) = [event for event in of_study if event["e"] == "describe" and "optimizer" in event["params"]]
        assert made["params"] == {
            "optimizer": "SGD(momentum=0.9, nesterov=True, weight_decay=0)",
            "model": "MLP(width=8, depth=2, dropout=0)",
            "data": "Digits(split_seed=0, valid=0.2, test=0.2)",
            "batch_size": 32,
            "steps": 16,
            "epochs": round(16 * 32 / 1078, 2),
        }
        assert made["tags"]["git.commit"] == git(repository, "rev-parse", "HEAD")
        assert {"version.sweeper", "version.torch", "version.python", "machine.processor"} <= made["tags"].keys()
        assert "config.yaml" in [event["path"] for event in of_study if event["e"] == "artifact"]
        assert of_study.index(made) < [event["e"] for event in of_study].index("open")
