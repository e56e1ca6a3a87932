"""The ramps of an LR range test, on tasks with a known answer and on real ones."""

import json
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import sweeper
from sweeper.results.lr_range import DIVERGENCE
from sweeper.run import ramping
from sweeper.run.ramping import find_lr
from sweeper.spec.composing import build_subject, compose
from sweeper.spec.ramp_spec import parse_ramp
from sweeper.spec.requests import Request
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.quadratic import expected_loss
from sweeper.types import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 6)).astype(np.float32)
Y = (X @ RNG.normal(size=6)).astype(np.float32)[:, None]
PLAIN_SGD = {"sgd": {"momentum": 0.0, "nesterov": False}}


class Linear(nn.Module):
    def __init__(self, inputs, outputs, rate=1.0):
        super().__init__()
        self.layer, self.rate = nn.Linear(inputs, outputs, bias=False), rate

    def forward(self, x):
        return self.rate * self.layer(x)


class Broken(Linear):
    def forward(self, x):
        if self.training and self.layer.weight.abs().max() > 0.5:
            raise RuntimeError("out of order")
        return super().forward(x)


class Still(Linear):
    """Its weights do not change its outputs."""

    def forward(self, x):
        return 0.0 * super().forward(x) + 1.0


DATA = Arrays(X, Y, scale=False)
TASK = Supervised(DATA, Linear)
SIZE = TASK.size("train", 0)


def curvature():
    """Return the largest curvature of the mean squared error of all training examples."""
    import torch

    inputs, _ = TASK.fetch("train", 0, torch.arange(SIZE))
    return float(np.linalg.eigvalsh(2 * inputs.double().numpy().T @ inputs.double().numpy() / SIZE).max())


def of_command(*words, **options):
    composed = compose(Request(words))
    return find_lr(composed, build_subject(composed.nodes, composed.label), parse_ramp(options, composed))


@pytest.fixture(scope="module")
def expected():
    return of_command("experiment=quadratic", seeds=2)


def lrs(test, *, warmup):
    return [one.lr_S for one in test.ramps if bool(one.warmup) == warmup]


# --- the ramps --------------------------------------------------------------------------------------


def test_without_warmup_the_lr_grows_by_the_same_factor_from_the_lowest_to_the_highest(expected):
    for lr_S in lrs(expected, warmup=False):
        np.testing.assert_allclose(lr_S[[0, -1]], [1e-7, 100.0], rtol=1e-12)
        np.testing.assert_allclose(lr_S[1:] / lr_S[:-1], (1e9) ** (1 / 99), rtol=1e-9)


def test_with_warmup_it_is_the_same_growth_under_a_linear_rise(expected):
    for lr_S in lrs(expected, warmup=True):
        growth, updates = (1e9) ** (1 / 99), np.arange(len(lr_S))
        assert lr_S[-1] == pytest.approx(100.0)
        ramp_S = 100.0 * growth ** (updates - updates[-1])
        np.testing.assert_allclose(lr_S, ramp_S * np.minimum(1, (updates + 1) / 26), rtol=1e-9)
    rows = [one["lr"] for one in expected.points if one["warmup"] == "off" and one["point"] != DIVERGENCE]
    assert lr_S[25] == pytest.approx(np.median(rows), rel=0.12), "after the warmup it goes on from the suggested LR"


def test_losses_are_those_of_training_at_these_lrs(expected):
    for ramp in expected.ramps:
        np.testing.assert_array_equal(ramp.loss_S, expected_loss(ramp.lr_S)[: len(ramp.loss_S)])


def test_a_ramp_that_diverged_is_stopped(expected):
    for ramp in expected.ramps:
        assert len(ramp.loss_S) < len(ramp.lr_S) - 5
        assert not ramp.loss_S[-1] <= ramp.loss_S[0]
    assert expected.updates == sum(len(ramp.loss_S) for ramp in expected.ramps)


@pytest.mark.parametrize("trainer", ["sequential", "lanes"])
def test_full_batches_diverge_beyond_two_over_the_largest_curvature(trainer):
    found = sweeper.find_lr(TASK, optimizer=PLAIN_SGD, batch_size=SIZE, seeds=2, trainer=trainer, updates=60)
    diverged = found.table.query("point == 'divergence'")
    assert (diverged[["lr", "lowest", "highest"]] > 2 / curvature()).all(axis=None)
    assert (diverged[["lr", "lowest", "highest"]] < 100 / curvature()).all(axis=None)
    low, high = found.interval
    assert low < 1 / curvature() < high


def test_the_same_test_again_gives_the_same_and_another_seed_others():
    first, again, other = (
        sweeper.find_lr(TASK, seeds=2, updates=40, search={"seed": seed}, trainer="sequential") for seed in (1, 1, 2)
    )
    assert first.points == again.points
    np.testing.assert_array_equal(first.ramps[0].loss_S, again.ramps[0].loss_S)
    assert first.ramps[0].loss_S[0] != other.ramps[0].loss_S[0]
    assert len({one.loss_S[0] for one in first.ramps}) == 2, "each seed has its own weights and batches"


def test_searched_hyperparameters_are_in_the_middle_of_their_ranges():
    options = {"optimizer": PLAIN_SGD, "seeds": 1, "updates": 40, "trainer": "sequential"}
    searched = sweeper.find_lr(TASK, model={"rate": {"low": 0.25, "high": 4.0, "log": True}}, **options)
    assert searched.points == sweeper.find_lr(TASK, **options).points
    assert searched.points != sweeper.find_lr(Supervised(DATA, partial(Linear, rate=0.25)), **options).points


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = sweeper.find_lr(TASK, optimizer="adamw", seeds=1, updates=40)
    assert not list(tmp_path.iterdir())
    assert found.figure._repr_png_().startswith(b"\x89PNG")
    assert "To search there: 'optimizer.peak_lr={low: " in repr(found)


def test_a_long_test_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(ramping, "SECONDS", 0.0)
    sweeper.find_lr(TASK, seeds=1, updates=40, trainer="sequential")
    out, err = capsys.readouterr()
    assert out == ""
    first, *_, last = err.splitlines()
    assert re.fullmatch(r"LR range test without warmup: update 2, LR 1\.7e-07, loss \d\.\d+", first)
    assert last.startswith("LR range test with warmup: update ")


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"seeds": 0}, "seeds"),
        ({"seeds": True}, "seeds"),
        ({"updates": 19}, "updates"),
        ({"updates": 50.5}, "updates"),
        ({"low": 0}, "low"),
        ({"high": math.inf}, "high"),
        ({"low": 1.0, "high": 0.1}, "high"),
        ({"low": 1e3}, "low"),
        ({"warmup": 0.1}, "warmup"),
        ({"optimiser": "sgd"}, "optimiser"),
        ({"optimizer": "adamv"}, "optimizer"),
        ({"train": {"clip": -1}}, "train.clip"),
        ({"batch_size": 10**6}, "train.batch_size"),
    ],
)
def test_what_cannot_be_used_is_refused(options, key, check_form):
    with pytest.raises(InputError) as caught:
        sweeper.find_lr(TASK, **options)
    check_form(str(caught.value))
    assert caught.value.key == key


def test_a_ramp_that_fails_says_why(check_form):
    with pytest.raises(InputError, match="out of order") as caught:
        sweeper.find_lr(Supervised(DATA, Broken), optimizer=PLAIN_SGD, updates=40, trainer="sequential")
    check_form(str(caught.value))


def test_where_the_loss_falls_at_no_lr_there_is_no_interval():
    found = sweeper.find_lr(Supervised(DATA, Still), seeds=1, updates=40, trainer="sequential")
    assert found.interval is None
    assert {one.warmup for one in found.ramps} == {0}, "there is no LR to warm up to"
    assert "there is no suggestion" in repr(found)
    assert found.figure is not None


# --- the command ------------------------------------------------------------------------------------


def test_the_verb_writes_pictures_and_prints_the_table(sweeper, tmp_path):
    code, out, err = sweeper("range", "experiment=quadratic", "--seeds", "1", "--out", str(tmp_path / "pictures"))
    assert (code, err) == (0, "")
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"pictures/range.png", "pictures/range.svg"}
    assert out.startswith("LR range test of quadratic-quadratic-sgd: 1 seed, ")
    assert "'optimizer.peak_lr={low: " in out
    assert max(map(len, out.splitlines()[:-1])) <= 100, "but for the paths"


def test_the_verb_prints_json(sweeper, tmp_path):
    code, out, _ = sweeper(
        "range", "experiment=quadratic", "--json", "--out", str(tmp_path / "lr.svg"), "--low", "1e-5"
    )
    assert code == 0
    whole = json.loads(out)
    assert whole["pictures"] == [str(tmp_path / "lr.svg")]
    assert Path(whole["pictures"][0]).read_text().lstrip().startswith("<?xml")
    assert len(whole["points"]) == 8
    assert whole["interval"][0] < whole["interval"][1]
    assert whole["seeds"] == 3


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--seeds", "0"], "--seeds=0"),
        (["--low", "5", "--high", "1"], "--high=1.0"),
        (["--out", "range.gif"], "--out=range.gif"),
        (["-m", "model.width=8,16"], "--multirun"),
        (["data=nothing"], "data=nothing"),
    ],
)
def test_the_verb_refuses_what_cannot_be_used(sweeper, tmp_path, check_form, words, key):
    code, out, err = sweeper("range", "experiment=quadratic", *words)
    assert (code, out) == (2, "")
    check_form(err.strip().removeprefix("sweeper: "))
    assert err.startswith(f"sweeper: {key}: ")
    assert not list(tmp_path.iterdir())


# --- a real task ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "inside", "far"), [("adamw", 3e-3, 3.0), ("sgd", 0.1, 30.0)])
def test_digits_in_lanes(optimizer, inside, far):
    found = of_command("data=digits", "model=mlp", f"optimizer={optimizer}", "trainer=lanes")
    low, high = found.interval
    assert low < inside < high < far
    assert high / low < 10**3
    rows = found.table
    assert rows.notna().all(axis=None)
    assert (rows["lowest"] <= rows["highest"]).all()
    assert found.updates < 450
