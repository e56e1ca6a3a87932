"""The comparison of a confirmation under changes, from the options to the verdict."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sweeper as package
from sweeper.results.changes import Change
from sweeper.run.confirm_spec import parse_confirm, parse_words
from sweeper.tasks import Supervised
from sweeper.tasks.quadratic import Point, Quadratic
from sweeper.types import InputError

FAMILIES = ["constant", "cosine", "linear"]
HALF, DOUBLE = Change("train.steps", 0.5, is_factor=True), Change("train.steps", 2.0, is_factor=True)
CHANGES = {"train.steps": ["x0.5", "x2"]}
LOOKS = [8]
KILLED = str(Path(__file__).parent / "scripts" / "killed_confirm.py")


def search(root, **changes):
    """A search on the quadratic whose expected losses need no training."""
    options = {"n_trials": 3, "trainer": {"expected": {"spread": 0.1, "own_spread": 0.05}}, "tracking": "none"}
    task = Supervised(Quadratic(), Point)
    return package.sweep(task, FAMILIES, experiment="quadratic", root=root, **{**options, **changes})


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    """A confirmed search without changes. Tests copy it (`copy_of`)."""
    return search(tmp_path_factory.mktemp("confirmed")).confirm(looks=LOOKS)


@pytest.fixture(scope="module")
def varied(confirmed, tmp_path_factory):
    return copy_of(confirmed, tmp_path_factory.mktemp("varied")).confirm(looks=LOOKS, vary=CHANGES)


def copy_of(sweep, root):
    shutil.copytree(sweep.home.path, root / sweep.name)
    copied = package.load(root / sweep.name)
    copied._subject = sweep._subject
    return copied


# --- the option -------------------------------------------------------------------------------------


def test_changes_of_the_command_line_and_of_python_are_the_same():
    words = ["confirm.vary={train.steps: [x0.5, x2], optimizer.weight_decay: 1e-3, train.batch_size: [64]}"]
    given = {"train.steps": ("x0.5", "x2"), "optimizer.weight_decay": 0.001, "train.batch_size": [64]}
    expected = (HALF, DOUBLE, Change("optimizer.weight_decay", 0.001), Change("train.batch_size", 64))
    assert parse_words(words).vary == parse_confirm({"vary": given}).vary == expected


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("null", "confirm.vary=null: no lists by key. Write 'confirm.vary="),
        ("{}", "confirm.vary={}: no lists by key"),
        ("[x2]", "confirm.vary=[x2]: no lists by key"),
        ("{train.steps: []}", "confirm.vary.train.steps=[]: no factor and no value"),
        ("{train.steps: [x2, x2.0]}", "confirm.vary.train.steps=x2.0: listed twice"),
        ("{train.steps: [2, 2.0]}", "confirm.vary.train.steps=2.0: listed twice"),
        ("{train.steps: [xx]}", "confirm.vary.train.steps=xx: neither a positive factor nor a number"),
        ("{train.steps: [x0]}", "confirm.vary.train.steps=x0: neither a positive factor nor a number"),
        ("{train.steps: [x-2]}", "confirm.vary.train.steps=x-2: neither"),
        ("{train.steps: [xinf]}", "confirm.vary.train.steps=xinf: neither"),
        ("{train.steps: [.nan]}", "confirm.vary.train.steps=nan: neither"),
        ("{train.steps: [true]}", "confirm.vary.train.steps=true: neither"),
        ("{train.steps: null}", "confirm.vary.train.steps=null: neither"),
        ("{optimizer: {momentum: [x2]}}", "confirm.vary.optimizer={momentum: [x2]}: neither"),
    ],
)
def test_a_wrong_form_is_refused(written, message):
    with pytest.raises(InputError) as error:
        parse_words([f"confirm.vary={written}"])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("key", "written", "message"),
    [
        ("train.step", "x2", "no number of this sweep has this key. Did you mean train.steps?"),
        ("optimizer.peak_lr", "x2", "no number of this sweep has this key. Choose one of optimizer.momentum, "),
        ("model.width", "x2", "no number of this sweep has this key. Choose one of"),
        ("train.precision", "x2", "no number of this sweep has this key"),
        ("train.clip", 1, "no number of this sweep has this key"),
        ("optimizer.nesterov", 1, "no number of this sweep has this key"),
        ("train.steps", "x1", "changes nothing: it stays 60"),
        ("train.steps", 60, "changes nothing: it stays 60"),
        ("train.steps", "x1.001", "changes nothing: it stays 60"),
        ("optimizer.momentum", "x2", "changes nothing: it stays 0"),
        ("train.steps", "x0.1", "that makes it 6; search.reports=20: more than the 6 updates of a trial"),
        ("train.steps", 0, "not a whole number of at least 1"),
        ("train.epochs", "x0.1", "that makes it 0.00585938; search.reports=20: more than the 6 updates"),
        ("train.batch_size", "x0.1", "that makes it 0; not a whole number of at least 1"),
        ("train.batch_size", 8192, "more than the 4096 training examples"),
        ("train.accumulate", 0, "not a whole number"),
        ("optimizer.weight_decay", -1, "optimizer=SGD: refuses"),
        ("train.batch_size", "x2", "that makes it 8; the expected loss holds for 4 examples"),
    ],
)
def test_a_change_that_cannot_be_trained_is_refused_before_anything_is_written(confirmed, key, written, message):
    before = {path: path.read_bytes() for path in confirmed.home.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as error:
        confirmed.confirm(looks=LOOKS, vary={"train.epochs": ["x2"], key: [written]})
    assert str(error.value).startswith(f"confirm.vary.{key}={written}: {message}")
    assert {path: path.read_bytes() for path in confirmed.home.path.rglob("*") if path.is_file()} == before


# --- from beginning to end --------------------------------------------------------------------------


def test_each_change_is_trained_on_fresh_common_seeds(confirmed, varied):
    verdict = varied.verdict
    assert [(one["change"], one["value"]) for one in verdict["varied"]] == [
        ("train.steps", "x0.5"),
        ("train.steps", "x2"),
    ]
    leader = verdict["leader"]
    for one, steps in zip(verdict["varied"], (30, 120), strict=True):
        assert len(set(one["seeds"])) == 8
        assert not set(one["seeds"]) & {*verdict["seeds"]["choose"], *verdict["seeds"]["judge"]}
        assert [row["value"] for row in one["configurations"]] == [steps] * len(one["configurations"])
        first, *_ = one["configurations"]
        assert {"family": first["family"], "trial": first["trial"]} == leader
        assert "constant" in [row["family"] for row in one["configurations"]]
        trained = [
            record
            for record in varied.replicates
            if record.study.endswith(f".train.steps={one['value']}") and record.family == first["family"]
        ]
        assert [record.replicate.seed for record in trained] == one["seeds"]
        assert {record.steps_done for record in trained} == {steps}
        assert [record.value for record in trained] == first["values"]
        assert trained[0].params == varied.record(f"{first['family']}:{first['trial']}").params
    others = {key: value for key, value in verdict.items() if key != "varied"}
    assert others == confirmed.verdict, "the verdict itself does not change"


def test_a_change_is_said_below_the_verdict(varied, capsys):
    from sweeper.results import varied_words
    from sweeper.views import conclusion, note

    lines = varied_words.lines(varied.verdict)
    assert lines
    conclusion.print_all(varied)
    table = " ".join(capsys.readouterr().out.split())
    markdown = note.study_note(varied, varied.records[0].study)
    for line in lines:
        assert line in table
        assert line in varied._repr_html_()
        assert note._escape(line) in markdown


def test_confirming_again_keeps_what_was_found(varied, tmp_path):
    sweep = copy_of(varied, tmp_path)
    before = (sweep.home.path / "confirm.json").read_bytes()
    journal = (sweep.home.path / "journal.log").read_bytes()
    sweep.confirm(looks=LOOKS)
    sweep.confirm(looks=LOOKS, vary={"train.steps": ["x2"]})
    assert (sweep.home.path / "confirm.json").read_bytes() == before
    assert (sweep.home.path / "journal.log").read_bytes() == journal


def test_a_fraction_of_an_update_is_rounded_and_said(confirmed, tmp_path, capsys):
    sweep = copy_of(confirmed, tmp_path).confirm(looks=LOOKS, vary={"train.steps": ["x0.555"]})
    assert "train.steps=33.3 is rounded to 33." in capsys.readouterr().err
    assert {row["value"] for row in sweep.verdict["varied"][0]["configurations"]} == {33}


@pytest.mark.slow
def test_a_searched_hyperparameter_is_multiplied_for_each_configuration(tmp_path):
    """Weight decay is searched, so each trial has its own: x2 doubles it, and 0.5 replaces it."""
    searched = {"sgd": {"momentum": 0.0, "nesterov": False, "weight_decay": {"low": 1e-4, "high": 1e-2, "log": True}}}
    sweep = search(tmp_path, optimizer=searched, trainer="sequential")
    sweep.confirm(looks=[5], vary={"optimizer.weight_decay": ["x2", 0.5]})
    double, fixed = sweep.verdict["varied"]
    for row in double["configurations"]:
        trial = sweep.record(f"{row['family']}:{row['trial']}")
        own = trial.params["optimizer.weight_decay"]
        assert row["value"] == 2 * own
        repeated = [record for record in sweep.replicates if "weight_decay=x2" in record.study]
        assert {r.params["optimizer.weight_decay"] for r in repeated if r.family == row["family"]} == {2 * own}
        assert {name: value for name, value in repeated[0].params.items() if "." not in name} == {
            name: value
            for name, value in sweep.record(repeated[0].family, repeated[0].replicate.trial).params.items()
            if "." not in name
        }
    assert {row["value"] for row in fixed["configurations"]} == {0.5}
    assert double["configurations"][0]["values"] != fixed["configurations"][0]["values"]


@pytest.mark.slow
def test_killed_changes_go_on_to_the_same_verdict(confirmed, varied, tmp_path):
    """Killed within the first change and within the second one: the JSON is equal to the last byte."""
    sweep = copy_of(confirmed, tmp_path)
    codes, options = [], json.dumps({"looks": LOOKS, "vary": CHANGES})
    for rounds in (3, 25, 10**9):
        command = [sys.executable, KILLED, str(sweep.home.path), str(rounds), options]
        ended = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, check=False)
        codes.append(ended.returncode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0], ended.stderr.decode()
    mine, other = ((one.home.path / "confirm.json").read_bytes() for one in (sweep, varied))
    assert mine == other
    assert json.loads(mine)["varied"]
