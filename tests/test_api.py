"""Sweeps from Python: results, resuming, what starts another sweep, errors."""

from functools import partial

import numpy as np
import pytest
from torch import nn

import sweeper
from sweeper.tasks import Arrays, Supervised
from sweeper.types import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


class Net(nn.Module):
    def __init__(self, inputs, outputs, width=8, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, x):
        return self.layers(x)


class Tanh(Net):
    def forward(self, x):
        return self.layers(x).tanh()


def halved(tau_LS, decay_steps_L, *, decay=0.5):
    """Halve the LR in the middle of the run."""
    return decay ** (tau_LS >= decay_steps_L / 2)


def flat(tau_LS, decay_steps_L, *, decay=0.5):
    return decay + 0.0 * tau_LS


TASK = Supervised(Arrays(X, Y), Net)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Return a function that runs a small sweep in an empty folder."""
    monkeypatch.chdir(tmp_path)
    given = {"steps": 16, "n_trials": 3, "tracking": "none", "trainer": {"sequential": {"workers": 1}}}
    given["search"] = {"reports": 4, "concurrent_trials": 2}

    def run(families="cosine", task=TASK, **changed):
        return sweeper.sweep(task, families, **{**given, **changed})

    return run


def test_it_trains_what_is_asked(small, tmp_path):
    sweep = small(["cosine", "wsd", "constant"], optimizer="adamw", batch_size=16)
    assert sweep.finished
    assert sorted(sweep.families["family"]) == ["constant", "cosine", "wsd"]
    assert len(sweep.trials) == 9
    assert sweep.name.startswith("arrays-net-adamw-")
    assert (tmp_path / "sweeps" / sweep.name / "tables" / "families.csv").exists()
    question = sweep.config["question"]
    assert question["train"] == {"steps": 16, "batch_size": 16, "precision": "float32"}
    assert question["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert question["model"]["class"] == "Net"


@pytest.mark.slow
def test_the_same_call_goes_on_and_a_family_more_joins(small):
    first = small()
    again = small()
    assert again.name == first.name
    assert again.trials.equals(first.trials)
    more = small(["cosine", "linear"], n_trials=4)
    assert more.name == first.name
    of_cosine = more.trials[more.trials["family"] == "cosine"].reset_index(drop=True)
    assert of_cosine["value"].tolist()[:3] == first.trials["value"].tolist()
    assert len(more.trials) == 8


@pytest.mark.slow
def test_a_sweep_cut_by_its_time_limit_says_so_and_goes_on_to_the_same_numbers(small, capsys):
    whole = small(root="whole")
    cut = small(search={"reports": 4, "concurrent_trials": 2, "timeout": 1e-6})
    assert not cut.finished
    out = capsys.readouterr().out
    assert "Stopped (search.timeout is over). Nothing is lost: the same call resumes the sweep." in out
    rest = small()
    assert rest.finished
    assert rest.trials["value"].tolist() == whole.trials["value"].tolist()


@pytest.mark.slow
def test_another_model_is_another_sweep(small):
    names = {
        small(n_trials=1, task=task).name
        for task in (
            TASK,
            Supervised(Arrays(X, Y), partial(Net, width=9)),
            Supervised(Arrays(X, Y), Tanh),
            Supervised(Arrays(X, 1 - Y), Net),
        )
    }
    assert len(names) == 4


def test_a_name_given_to_one_model_is_refused_to_another(small):
    small(n_trials=1, name="mine")
    with pytest.raises(
        InputError, match=r"name=mine: the stored sweep has other settings \(.*model\.code: \w+ there, \w+ here"
    ):
        small(n_trials=1, name="mine", task=Supervised(Arrays(X, Y), Tanh))
    assert small(n_trials=1, name="mine", task=Supervised(Arrays(X, Y), Tanh), fresh=True).name == "mine.2"


def test_a_factor_of_ones_own_is_swept_and_its_code_is_its_identity(small, monkeypatch):
    sweep = small(halved)
    (study,) = sweep.config["studies"]
    lr_S = sweep.lr(sweep.best)
    assert lr_S[-1] == pytest.approx(lr_S.max() / 2)
    assert sweep.trace(sweep.best)["lr/group0"].dropna().to_numpy() == pytest.approx(lr_S, rel=1e-6)
    before, halved.__code__ = (
        halved.__code__,
        (lambda tau_LS, decay_steps_L, *, decay=0.5: decay + 0.0 * tau_LS).__code__,
    )
    try:
        other = small(halved, n_trials=1)
    finally:
        halved.__code__ = before
    assert other.name == sweep.name
    assert len(other.config["studies"]) == 2
    assert study in other.config["studies"]


def test_numbers_of_the_model_are_searched(small):
    sweep = small(model={"dropout": {"low": 0.0, "high": 0.5}}, n_trials=4)
    assert len(set(sweep.trials["model.dropout"])) == 4
    assert sweep.trials["model.dropout"].between(0, 0.5).all()


def test_epochs_take_the_place_of_steps(small):
    sweep = small(steps=None, epochs=3, batch_size=20, schedule_unit="epoch", n_trials=1)
    assert sweep.config["question"]["train"]["steps"] == 18
    lr_S = sweep.lr("cosine:0")
    assert len(set(lr_S)) == 3
    assert sweep.trace("cosine:0")["lr/group0"].dropna().tolist() == lr_S.tolist()


def test_the_first_line_says_what_was_understood(small, capfd):
    small(n_trials=1)
    line = "classification, 2 classes; 4 inputs are standardized (scale=False leaves them)."
    assert capfd.readouterr().err.splitlines()[0] == line


def test_a_regression_is_swept(small):
    task = Supervised(Arrays(X, X @ np.ones(4) + RNG.normal(size=200)), Net)
    sweep = small(task=task, objective={"metric": "valid/r2", "direction": "maximize"})
    assert sweep.best["value"] <= 1
    assert sweep.best["value"] == sweep.trials["value"].max()


WRONG = [
    ({"families": "cosin"}, "schedule=cosin: no such choice. Did you mean cosine"),
    ({"families": []}, r"schedule=\[\]: no family is chosen"),
    ({"families": {"cosine": {"decya": 1}}}, r"schedule\.cosine\.decya: no such hyperparameter"),
    ({"task": Net}, "task=Net: .*Make one"),
    ({"optimizer": "adanw"}, "optimizer=adanw: no such choice. Did you mean adamw"),
    ({"optimizer": {"sgd": {"moment": 1}}}, "optimizer.moment=1: no such option of"),
    ({"steps": 0}, "train.steps=0: not a whole number"),
    ({"epochs": 2, "train": {"steps": 5}}, r"train\.epochs=2: train\.steps=16 is set, too"),
    ({"n_trials": "many"}, "search.n_trials=many: not a whole number"),
    ({"objective": {"metric": "loss"}}, "objective.metric=loss"),
    ({"device": "gpu"}, "device=gpu"),
    ({"model": {"width": {"choice": [8, "x"]}, "height": {"low": 0, "high": 1}}}, "model: .*height"),
    ({"trainer": {"_target_": "nowhere.Trainer"}}, "trainer._target_=nowhere.Trainer: not found"),
    ({"name": "a/b"}, "name=a/b: not a folder name"),
]


@pytest.mark.parametrize(("changed", "told"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_told_and_nothing_is_written(small, tmp_path, changed, told):
    with pytest.raises(InputError, match=told):
        small(**changed)
    assert not list(tmp_path.iterdir())


def test_the_function_is_not_hidden_by_a_module():
    import sweeper.api

    assert callable(sweeper.sweep)
    assert sweeper.sweep is sweeper.api.sweep
    assert {"sweep", "load", "lr_trace", "Sweep"} <= set(dir(sweeper))
