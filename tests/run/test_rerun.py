"""A stored trial trained again: equal bit for bit, or what is not as it was is named."""

import json

import numpy as np
import pytest
import torch

import sweeper
from sweeper.run import rerun, restoring
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.models import MLP
from sweeper.types import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
Y = X[:, 0] > 0
TASK = Supervised(Arrays(X, Y), MLP)
DROPOUT = {"dropout": {"low": 0.0, "high": 0.5}}
SEARCH = {"reports": 4, "concurrent_trials": 2, "seeds": 2}
LANES = {"lanes": {"width": 2, "workers": 1}}
ONE = {"sequential": {"workers": 1}}


def trained(root, trainer, optimizer="sgd"):
    return sweeper.sweep(
        TASK,
        {"cosine": {"peak_lr": {"low": 1e-3, "high": 1e4, "log": True}}},
        root=root,
        steps=40,
        n_trials=8,
        model=DROPOUT,
        optimizer=optimizer,
        trainer=trainer,
        tracking="none",
        search=SEARCH,
        pruner={"median": {"n_startup_trials": 1, "n_warmup_steps": 1}},
        keep={"best": 2},
    )


@pytest.fixture(scope="module", params=[ONE, LANES], ids=["sequential", "lanes"])
def sweep(request, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("rerun") / "sweeps", request.param)


def test_every_trial_is_the_same_bit_for_bit(sweep):
    states = set()
    for _, row in sweep.trials.iterrows():
        found = sweep.rerun(row, TASK, model=DROPOUT)
        assert found.differences == ()
        assert found.machine == ()
        assert found.updates == row["steps"]
        assert found.values >= 2 * 2 * row["steps"]  # of each member: the LR and the loss, besides norms and metrics
        states.add(row["state"])
    assert states == {"complete", "pruned", "diverged"}


def test_its_weights_are_those_that_were_kept(sweep, tmp_path):
    sweep.rerun(sweep.best, TASK, model=DROPOUT, weights=tmp_path / "w")
    for member in (0, 1):
        written = torch.load(tmp_path / f"w.{member}.pt", weights_only=True)
        stored = sweep.weights(sweep.best, member=member)
        assert written.keys() == stored.keys()
        assert all(torch.equal(written[name], stored[name]) for name in stored)


def test_weights_that_were_not_kept_name_the_way_to_them(sweep):
    row = sweep.trials[sweep.trials["state"] != "complete"].iloc[0]
    with pytest.raises(
        InputError, match=rf"trial=cosine:{row['trial']}: its weights were not kept\. Train it again: .*rerun"
    ):
        sweep.weights(row)


def test_numbers_that_part_are_named(sweep, tmp_path):
    """The trained trace with one bit of one update changed."""
    from sweeper.api import Sweep
    from sweeper.spec.question import Home

    class Changed(Sweep):
        def trace(self, trial, number=None, member=0):
            frame = super().trace(trial, number, member)
            if member == 1:
                frame.loc[6, "train/loss"] = np.nextafter(frame.loc[6, "train/loss"], np.inf)
            return frame

    found = Changed(Home(sweep.home.path)).rerun(sweep.best, TASK, model=DROPOUT)
    (line,) = found.differences
    assert line.startswith("train/loss of member 1 differs from step 6 on: ")
    said = rerun.report_lines(found)
    assert "the values differ" in said[0]
    assert said[-1] == "What changed: nothing that is known of the machine."


def test_another_machine_is_named(sweep):
    config = sweep.home.read()
    changed = json.loads(json.dumps(config))
    changed["machines"][0]["torch"] = "1.0"
    sweep.home.write(changed)
    try:
        found = sweeper.load(sweep.home.path).rerun(sweep.best, TASK, model=DROPOUT)
    finally:
        sweep.home.write(config)
    (difference,) = found.machine
    assert difference.startswith("torch: 1.0 there, ")


@pytest.mark.parametrize(("task", "model", "told"), [
    (Supervised(Arrays(X + 1, Y), MLP), DROPOUT, r"not those of the sweep .*fingerprint: [\w-]+ there, [\w-]+ here"),
    (Supervised(Arrays(X, Y), lambda inputs, outputs, dropout: MLP(inputs, outputs, width=8)), DROPOUT, "model"),
    (TASK, {}, r"schedule\.cosine: the definition or the code of this family"),
], ids=["data", "model", "space"])  # fmt: skip
def test_what_is_not_as_it_was_is_told(sweep, task, model, told):
    with pytest.raises(InputError, match=told):
        sweep.rerun(sweep.best, task, model=model)


def test_a_sweep_from_python_has_no_task_for_the_command_line(sweep):
    with pytest.raises(InputError, match="started in Python, and its task is not stored"):
        restoring.subject_nodes(sweep, 'rerun("cosine:17", task)')
