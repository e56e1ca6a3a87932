"""Tuning again for another question, on the quadratic whose expected losses need no training."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sweeper as package
from sweeper.results import retune as results
from sweeper.results.chosen import chosen
from sweeper.tasks import Supervised
from sweeper.tasks.quadratic import Point, Quadratic
from sweeper.types import InputError

EXPECTED = {"expected": {"spread": 0.1, "own_spread": 0.05}}
FAMILIES = ["constant", "cosine"]


def task():
    return Supervised(Quadratic(), Point)


def again(old, root, **changes):
    options = {"steps": 400, "trainer": EXPECTED, "tracking": "none", "confirm": {"looks": [8, 12]}}
    return package.retune(old, task(), root=root, **{**options, **changes})


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    root = tmp_path_factory.mktemp("old")
    options = {"n_trials": 8, "trainer": EXPECTED, "tracking": "none", "root": root}
    return package.sweep(task(), FAMILIES, experiment="quadratic", steps=200, name="old", **options)


@pytest.fixture(scope="module")
def new(old, tmp_path_factory):
    return again(old, tmp_path_factory.mktemp("new"))


def test_the_old_winner_is_trial_0_of_its_family_and_is_judged(old, new):
    winner = chosen(old).record
    first = new.record(f"{winner.family}:0")
    assert {name: first.params[name] for name in first.searched} == {
        name: winner.params[name] for name in winner.searched
    }
    judged = [(row["family"], row["trial"]) for row in new.verdict["configurations"]]
    assert (winner.family, 0) in judged
    assert set(FAMILIES) == {family for family, _ in judged}
    found = new.retuned
    assert found["old"] == {"family": winner.family, "trial": 0}
    assert found["earlier"]["sweep"] == "old"
    assert found["earlier"]["changed"] == ["train.steps: 200 there, 400 here"]
    assert json.loads((new.home.path / "retune.json").read_text()) == found


def test_the_new_sweep_is_like_the_old_one_but_for_what_changed(old, new):
    question = {**old.config["question"], "train": {**old.config["question"]["train"], "steps": 400}}
    assert new.config["question"] == question
    stored, now = ({study["family"]: study for study in one.config["studies"].values()} for one in (old, new))
    assert stored == now


def test_the_result_is_the_paired_contrast_of_the_confirmation(new):
    found, verdict = new.retuned, new.verdict
    winner = verdict["winner"] or verdict["leader"]
    assert found["new"] == winner
    if found["status"] == "kept":
        assert found["new"] == found["old"]
    else:
        assert found["contrast"] in verdict["contrasts"]
        assert (found["contrast"]["a"], found["contrast"]["b"]) == (found["new"], found["old"])
    assert found["sentence"].startswith("With train.steps changed, ")


def test_repeated_it_trains_nothing_and_finds_the_same(old, new):
    journal, found = new.home.journal.read_bytes(), (new.home.path / "retune.json").read_bytes()
    again(old, new.home.path.parent)
    assert new.home.journal.read_bytes() == journal
    assert (new.home.path / "retune.json").read_bytes() == found


def test_the_same_question_is_refused(old, tmp_path):
    with pytest.raises(InputError, match="the question is the same"):
        again(old, tmp_path, steps=200)
    assert not list(tmp_path.iterdir())


def test_without_its_task_a_sweep_of_python_is_refused(old, tmp_path):
    with pytest.raises(InputError, match=r'its task is not stored. Retune it there: sweeper.retune\("old", task\)'):
        package.retune(old.home.path, steps=300, root=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": ["onecycle"]}, "schedule: it lacks "),
        ({"families": {"WINNER": {"peak_lr": 0.123}}}, "schedule.WINNER.peak_lr=0.123: the old winner has "),
        (
            {"families": {"WINNER": {"peak_lr": {"low": 1e-6, "high": 1e-5, "log": True}}}},
            "schedule.WINNER.peak_lr: the old winner has ",
        ),
        ({"confirm": {"also": 3}}, "confirm.also=3: not a list of trials"),
        ({"confirm": {"searches": 8}}, "confirm.searches=8: retune compares configurations"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_what_cannot_be_compared_is_refused(old, tmp_path, changes, message):
    family = chosen(old).record.family
    if isinstance(changes.get("families"), dict):
        changes = {"families": {family: changes["families"]["WINNER"]}}
    with pytest.raises(InputError) as error:
        again(old, tmp_path, **changes)
    assert str(error.value).startswith(message.replace("WINNER", family))
    assert not list(tmp_path.iterdir())


def test_a_trial_that_did_not_end_well_can_be_judged_too(old, tmp_path):

    shutil.copytree(old.home.path, tmp_path / "old")
    sweep = package.load(tmp_path / "old")
    record = next(one for one in sweep.records if one.state != "complete")
    name = f"{record.family}:{record.number}"
    verdict = sweep.confirm(task(), also=[name], looks=[8]).verdict
    (row,) = (
        one for one in verdict["configurations"] if (one["family"], one["trial"]) == (record.family, record.number)
    )
    assert row["search_value"] is None
    assert row["n"] == 8
    with pytest.raises(InputError, match=r"confirm\.also: this confirmation was begun otherwise"):
        sweep.confirm(task(), looks=[8])
    with pytest.raises(InputError, match=r"confirm\.also=cosine:99: no such trial"):
        sweep.confirm(task(), looks=[8], also=["cosine:99"])


# --- the words, and the updates saved -----------------------------------------------------------------


def test_a_level_is_reached_between_reports():
    import numpy as np

    curve = ((100, 200, 300), np.array([1.0, 0.6, 0.5]))
    assert results.reached(curve, 0.8, 1.0) == pytest.approx(150)
    assert results.reached(curve, 1.5, 1.0) == 100
    assert results.reached(curve, 0.5, 1.0) == 300
    assert results.reached(curve, 0.4, 1.0) is None
    rising = ((100, 200), np.array([0.7, 0.9]))
    assert results.reached(rising, 0.8, -1.0) == pytest.approx(150)


def test_a_fingerprint_is_told_as_the_data():
    assert results.changes(["fingerprint: ab there, cd here"]) == ["the data"]
    assert results.changes(["data.path: a there, b here", "fingerprint: ab there, cd here"]) == [
        "data.path: a there, b here"
    ]


def verdict_of(build_confirmation, means, **options):
    from sweeper.results import words
    from sweeper.results.assembling import verdict_of as assemble

    verdict = assemble(build_confirmation(means, **options))
    return {**verdict, "sentence": words.sentence(verdict)}


EARLIER = {"sweep": "old", "name": "wsd:3", "why": "", "params": {}, "changed": ["data.path: a there, b here"]}


def compared(build_confirmation, means, **options):
    verdict = verdict_of(build_confirmation, means, **options)
    return results.compare(verdict, EARLIER, {"family": "wsd", "trial": 7}, []), verdict


@pytest.mark.parametrize(
    ("means", "options", "status", "code", "says"),
    [
        ({"wsd": 0.6, "cosine": 0.5}, {}, "better", 0, "cosine trial 7 beats the old settings (wsd:3 of old, here"),
        ({"wsd": 0.5, "cosine": 0.5}, {"noise": 0.3}, "tie", 10, "There is no need to change"),
        ({"wsd": 0.5, "cosine": 0.6}, {}, "kept", 11, "are the best again: a new search found nothing better"),
        ({"wsd": 0.5, "cosine": 0.6}, {"seeds": 3}, "no_test", 130, "nothing was tested"),
        ({"wsd": 0.5}, {}, "kept", 13, "a new search came to the old settings (wsd:3 of old, here wsd trial 7) again"),
        (
            {"wsd": 0.6, "cosine": 0.5},
            {"states": {("wsd", place): "diverged" for place in range(8)}, "seeds": 8},
            "void",
            13,
            "there is no verdict",
        ),
        (
            {"wsd": 0.6, "cosine": 0.5, "linear": 0.7},
            {"states": {("wsd", place): "diverged" for place in range(8)}},
            "better",
            0,
            "which diverge too often",
        ),
    ],
)
def test_words_and_exit_code(build_confirmation, means, options, status, code, says):
    found, verdict = compared(build_confirmation, means, **options)
    if status == "tie" and found["status"] == "kept":  # which of two equals leads is chance
        found, verdict = compared(build_confirmation, {"cosine": 0.49, "wsd": 0.5}, **options)
    assert found["status"] == status
    assert says in found["sentence"]
    assert found["sentence"].startswith("With data changed, ")
    assert results.exit_code(found, verdict) == code


# --- the command line ---------------------------------------------------------------------------------

KILLED = str(Path(__file__).parent / "scripts" / "killing.py")
WORDS = "retune --from old data.valid=0.3 tracking=none name=new confirm.looks=[8] confirm.exit=verdict"


@pytest.mark.slow
def test_killed_and_resumed_on_a_real_task_it_finds_what_it_finds_undisturbed(tmp_path):
    """Killed in the search and in the confirmation: retune.json is equal to the last byte, and so is the exit code."""

    def run(folder, *command):
        return subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False)

    old = "name=old data=digits model=mlp model.width=8 schedule=[cosine,constant] train.steps=60 search.n_trials=4"
    assert run(tmp_path, sys.executable, "-m", "sweeper", *old.split(), "tracking=none").returncode == 0
    shutil.copytree(tmp_path, tmp_path / "undisturbed")
    for rounds in (5, 40, 10**9):
        ended = run(tmp_path, sys.executable, KILLED, str(rounds), *WORDS.split())
        if rounds < 10**9:
            assert ended.returncode == -signal.SIGKILL, ended.stderr
    other = run(tmp_path / "undisturbed", sys.executable, "-m", "sweeper", *WORDS.split(), "--json")
    mine, undisturbed = (
        (folder / "sweeps" / "new" / "retune.json").read_bytes() for folder in (tmp_path, tmp_path / "undisturbed")
    )
    assert mine == undisturbed
    found = json.loads(other.stdout)
    assert found == json.loads(mine)
    assert found["earlier"]["changed"][0] == "data.valid: 0.2 there, 0.3 here"
    codes = {"better": 0, "tie": 10, "kept": 11}
    assert ended.returncode == other.returncode == codes[found["status"]]
    assert found["sentence"] in " ".join(ended.stdout.split())
    refused = run(tmp_path, sys.executable, "-m", "sweeper", "retune", "--from", "old", "data.valid=0.2")
    assert refused.returncode == 2
    assert "the question is the same" in refused.stderr
