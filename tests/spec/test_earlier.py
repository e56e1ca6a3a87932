"""Sweeps of arrays from before `scale` existed resume and rerun on the data as given; new ones are standardized.

Such a sweep has the identity of one with scale=False; tests/test_golden.py has a stored one.
"""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import sweeper
from sweeper.spec import earlier
from sweeper.tasks import MLP, Arrays, Supervised
from sweeper.training.finetuned import FineTuned
from sweeper.types import InputError

RNG = np.random.default_rng(0)
X = 5 + 3 * RNG.normal(size=(100, 3))
CLASSES, VALUES = (X[:, 0] > 5).astype(int), 100 * X[:, 0] + 7
COLUMN = VALUES[:, None]  # as torch's losses take it
MODEL = partial(MLP, width=4)


def weights(folder):
    path = folder / "weights.pt"
    if not path.exists():
        torch.save(Supervised(Arrays(X, CLASSES), MODEL).build(0).state_dict(), path)
    return path


TASKS = {
    "classes": lambda folder, **scale: Supervised(Arrays(X, CLASSES, **scale), MODEL),
    "values": lambda folder, **scale: Supervised(Arrays(X, VALUES, **scale), MODEL),
    "folds": lambda folder, **scale: Supervised(Arrays(X, VALUES, folds=2, **scale), MODEL),
    "metrics": lambda folder, **scale: Supervised(Arrays(X, VALUES, **scale), MODEL, metrics=["mse"]),
    "loss": lambda folder, **scale: Supervised(Arrays(X, COLUMN, **scale), MODEL, nn.HuberLoss()),
    "own loss": lambda folder, **scale: Supervised(Arrays(X, COLUMN / 500, **scale), MODEL, nn.PoissonNLLLoss()),
    "fine-tuned": lambda folder, **scale: FineTuned(Supervised(Arrays(X, CLASSES, **scale), MODEL), weights(folder)),
}


def run(task, root, families="constant", **changed):
    given = {"steps": 8, "n_trials": 1, "tracking": "none", "trainer": {"sequential": {"workers": 1}}, "device": "cpu"}
    return sweeper.sweep(task, families, root=root, **{**given, "search": {"reports": 4}, **changed})


def fingerprint(sweep):
    return sweep.config["question"]["fingerprint"]


SLOW = ("folds", "metrics", "loss", "classes")  # tests/test_golden.py has classes


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TASKS])
def make(request, tmp_path):
    return partial(TASKS[request.param], tmp_path)


def test_a_stored_sweep_resumes_and_reruns_on_the_data_as_given(make, tmp_path, capfd):
    stored = run(make(scale=False), tmp_path)
    capfd.readouterr()
    resumed = run(make(), tmp_path, ["constant", "linear"])
    assert earlier.NOTE in capfd.readouterr().err
    assert (resumed.name, fingerprint(resumed)) == (stored.name, fingerprint(stored))
    assert sorted(resumed.families["family"]) == ["constant", "linear"]
    for trial in ("constant:0", "linear:0"):
        assert resumed.rerun(trial, make()).differences == ()


def test_a_new_sweep_is_standardized_and_resumes_so(make, tmp_path, capfd):
    sweep = run(make(), tmp_path)
    assert "-standardized-inputs" in fingerprint(sweep)
    again = run(make(), tmp_path, ["constant", "linear"])
    assert again.name == sweep.name
    assert again.rerun("linear:0", make()).differences == ()
    assert earlier.NOTE not in capfd.readouterr().err


def test_a_name_finds_its_sweep_and_a_fresh_start_is_standardized(tmp_path):
    make = partial(TASKS["values"], tmp_path)
    stored = run(make(scale=False), tmp_path, name="mine")
    assert fingerprint(run(make(), tmp_path, name="mine")) == fingerprint(stored)
    fresh = run(make(), tmp_path, name="mine", fresh=True)
    assert (fresh.name, fingerprint(fresh)) == ("mine.2", f"{fingerprint(stored)}-standardized-inputs-target")
    assert run(make(), tmp_path, name="mine").name == "mine.2"


def test_both_may_be_stored_and_the_standardized_one_resumes(tmp_path):
    make = partial(TASKS["classes"], tmp_path)
    stored = run(make(scale=False), tmp_path)
    fresh = run(make(), tmp_path, fresh=True)
    assert fresh.name != stored.name
    assert run(make(), tmp_path).name == fresh.name
    assert run(make(scale=False), tmp_path).name == stored.name


@pytest.mark.parametrize("scale", [True, "auto"])
def test_only_what_was_not_asked_for_is_taken_back(tmp_path, scale):
    """With scale=True the user asks for it, and other data are other data."""
    task = TASKS["values"](tmp_path, scale=False)
    stored = run(task, tmp_path, name="mine")
    other = Supervised(Arrays(X + (scale == "auto"), VALUES, scale=scale), MODEL)
    with pytest.raises(InputError, match="name=mine: the stored sweep has other settings"):
        run(other, tmp_path, name="mine")
    with pytest.raises(InputError, match="data, model or settings are not those of the sweep"):
        stored.rerun("constant:0", other)
