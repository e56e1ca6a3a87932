"""Every file of conf is composed, instantiated and trains a short trial."""

import json
import sys
from pathlib import Path

import pytest

from sweeper import __main__ as command_line
from sweeper import conf, overrides

CONF = Path(conf.__path__[0])
SHORT = ["train.steps=8", "search.reports=4", "search.n_trials=1", "search.concurrent_trials=1", "tracking=none"]
DIGITS = ["data=digits", "model=mlp", "schedule=cosine"]
NEEDS = {  # what a choice cannot do without
    ("search", "grid"): ["schedule=constant", "optimizer.peak_lr={choice: [0.1, 0.2]}"],
    ("data", "text"): ["model=ngram"],
    ("model", "ngram"): ["data=text"],
    ("data", "digits"): ["model=mlp"],
    ("tracking", "mlflow"): ["tracking.flush_seconds=0"],
}


def stems(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture
def trained(tmp_path, monkeypatch, capfd):
    """Train a sweep in an empty folder; its table as `status --json` gives it."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        for typed in (words, ("status", "--json")):
            monkeypatch.setattr(sys, "argv", ["sweeper", *typed])
            assert command_line.main() == 0, capfd.readouterr().err
            out = capfd.readouterr().out
        return json.loads(out)

    return run


def test_every_family_trains(trained):
    answer = trained(*SHORT, *DIGITS[:2], "schedule=all")
    families = set(stems("schedule")) - {"core"}
    assert {row["family"] for row in answer["families"]} == families - set(overrides.NOT_IN_ALL)
    assert answer["finished"]
    assert answer["trials"]["failed"] == 0


@pytest.mark.parametrize("family", overrides.NOT_IN_ALL)
def test_families_that_all_leaves_out_train(trained, family):
    assert trained(*SHORT, *DIGITS[:2], f"schedule={family}")["finished"]


def test_a_file_of_schedule_is_a_family_or_the_named_list():
    assert set(overrides.families([CONF])) | set(overrides.NOT_IN_ALL) | {"core"} == set(stems("schedule"))


GROUPS = ("data", "model", "optimizer", "search", "pruner", "trainer")


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in GROUPS for choice in stems(group)])
def test_every_choice_trains(trained, group, choice):
    typed = [*SHORT, *DIGITS, f"{group}={choice}", *NEEDS.get((group, choice), [])]
    last = {word.partition("=")[0]: word for word in typed}  # of each key the last one
    answer = trained(*last.values())
    assert answer["finished"]
    assert answer["trials"]["failed"] == 0


@pytest.mark.parametrize("choice", stems("experiment"))
def test_every_experiment_trains(trained, choice):
    assert trained(*SHORT, f"experiment={choice}")["finished"]
