"""What a sweep is trained with: named, chosen and stored before its first round, kept ever after."""

import json
from dataclasses import replace
from functools import partial

import pytest
import yaml
from torch import nn

from sweeper.run import loop, trainers
from sweeper.run.trainers import AUTO, make
from sweeper.spec.parse import parse
from sweeper.spec.sweep import Subject, parse_trainer
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised
from sweeper.types import InputError

LANES = {"_target_": "sweeper.training.lanes.probe.ProbedTrainer", "width": 4, "compiled": False, "workers": 1}
ONE = {"_target_": "sweeper.training.sequential.SequentialTrainer", "threads": "auto", "workers": 1}
SWEEP = [
    "name=small", "data=digits", "model=mlp", "model.width=8", "train.steps=8", "search.reports=4", "search.n_trials=2",
    "schedule=cosine", "tracking=none",
]  # fmt: skip


class Attentive(nn.Module):
    """Looks at the value of a tensor in its forward pass, so it cannot be stacked."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(64, outputs)

    def forward(self, x):
        x = self.layer(x.flatten(1))
        return x if x.sum().item() > 0 else -x


@pytest.fixture
def plan():
    return plan_of(partial(MLP, width=8, depth=1))


def plan_of(model):
    from sweeper.spec.composing import compose
    from sweeper.spec.requests import request

    config = compose(request("cosine", {"train": {"steps": 8}, "search": {"reports": 4, "n_trials": 2}})).nodes
    return parse(config, Subject(Supervised(Digits(), model), "digits-mlp-sgd", {"data": "digits"}))


def choose(spec, asked, device, begun):
    return trainers.choose(replace(spec, trainer=parse_trainer(asked), device=device), begun)


def test_a_new_sweep_is_trained_as_asked(plan):
    chosen = choose(plan, ONE, "cpu", None)
    assert (chosen.trainer, chosen.why) == (parse_trainer(ONE), "")
    assert chosen.node == {"_target_": ONE["_target_"], "threads": "auto", "device": "cpu"}


def test_lanes_say_whether_this_model_can_be_stacked(plan):
    stacked = choose(plan, LANES, "cpu", None)
    assert stacked.why == "in lanes: stacked trials give the same numbers as one at a time"
    assert stacked.node["why"] == stacked.why
    alone = choose(plan_of(Attentive), LANES, "cpu", None)
    assert alone.why.startswith("one trial at a time: the model's forward pass needs the value of a tensor")
    assert choose(plan, LANES, "cpu", stacked).why == stacked.why


@pytest.mark.parametrize("asked", [LANES, {"_target_": AUTO, "workers": 1}])
def test_a_sweep_goes_on_with_what_it_was_stored_trainer(plan, asked):
    kept = {"_target_": LANES["_target_"], "width": 4, "compiled": False, "device": "cpu", "why": "4 trials at once"}
    chosen = choose(plan, {**asked, "workers": 3}, "cpu", trainers.parse_chosen(kept))
    assert chosen.trainer == parse_trainer({**LANES, "workers": 3})
    assert (chosen.node, chosen.why) == (kept, "4 trials at once")


def test_there_are_at_most_as_many_processes_as_open_jobs(plan):
    assert len(trainers.process_devices(plan, 16)) == 2
    assert len(trainers.process_devices(plan, 1)) == 1


@pytest.mark.parametrize(("asked", "workers"), [("auto", 1), (2, 2)])
def test_a_short_sweep_has_one_process_unless_more_are_asked_for(plan, asked, workers):
    chosen = choose(plan, {"_target_": AUTO, "workers": asked}, "cpu", None)
    assert chosen.why == "one trial at a time: the sweep is short"
    assert chosen.trainer.workers == workers


OTHERWISE = {
    "another trainer": (ONE, "_target_: sweeper.training.lanes.probe.ProbedTrainer there"),
    "another width": ({**LANES, "width": 8}, "width: 4 there, 8 here"),
    "compiled": ({**LANES, "compiled": True}, "compiled: False there, True here"),
}


@pytest.mark.parametrize("asked", OTHERWISE)
def test_another_trainer_is_refused_and_the_difference_shown(plan, asked):
    node, said = OTHERWISE[asked]
    kept = choose(plan, LANES, "cpu", None)
    with pytest.raises(InputError, match="fresh=true") as raised:
        choose(plan, node, "cpu", kept)
    assert raised.value.key == "trainer"
    assert said in str(raised.value)


def test_another_kind_of_device_is_refused(plan):
    kept = replace(choose(plan, LANES, "cpu", None), device="cuda")
    for asked in (LANES, {"_target_": AUTO}):
        with pytest.raises(InputError, match="device: the sweep was started with another one"):
            choose(plan, asked, "cpu", kept)


@pytest.mark.parametrize(
    ("node", "key"),
    [({"_target_": "sweeper.training.Nobody"}, "trainer._target_"), ({**ONE, "widht": 3}, "trainer.widht")],
)
def test_a_trainer_that_there_is_not_is_refused(plan, node, key):
    with pytest.raises(InputError) as raised:
        make(plan, choose(plan, node, "cpu", None).trainer)
    assert raised.value.key == key


def test_the_choice_is_stored_before_the_first_round_and_said_everywhere(sweeper, tmp_path, monkeypatch):
    stored = {}

    def first_round(*rooms, **options):
        (config,) = tmp_path.glob("sweeps/*/config.yaml")
        stored.update(yaml.safe_load(config.read_text())["trainer"])
        return trained(*rooms, **options)

    trained = loop.run
    monkeypatch.setattr(loop, "run", first_round)
    code, _, err = sweeper(*SWEEP)
    assert code == 0, err
    assert stored == {"_target_": ONE["_target_"], "device": "cpu", "why": "one trial at a time: the sweep is short"}
    said = "one trial at a time: the sweep is short."
    assert f"Training {said}" in err
    assert f"Trained {said}" in sweeper("status", "--columns", "all")[1]
    assert json.loads(sweeper("status", "--json")[1])["trainer"] == stored
    code, _, err = sweeper(*SWEEP, "search.n_trials=3")
    assert code == 0, err
    assert f"Training {said}" in err
    code, _, err = sweeper(*SWEEP, "search.n_trials=3", "trainer=lanes")
    assert code == 2
    assert "the sweep was started with another one" in err
