"""A new sweep begins with an earlier one's configuration: what is asked for replaces what was there, and no more."""

import pytest

from sweeper.spec.composing import compose
from sweeper.spec.inherited import inherit, typed_keys
from sweeper.spec.requests import request
from sweeper.types import InputError

RANGE = {"low": 0.01, "high": 5.0, "log": True}
EARLIER = {
    "data": {"_target_": "sweeper.tasks.digits.Digits", "valid": 0.3},
    "model": {"_target_": "sweeper.tasks.models.MLP", "width": 16},
    "task": {"_target_": "sweeper.tasks.problems.Supervised"},
    "optimizer": {"_target_": "torch.optim.SGD", "momentum": 0.5},
    "train": {"steps": 300, "epochs": None, "batch_size": 8},
    "schedule": {
        "cosine": {"factor": "cosine", "peak_lr": RANGE, "warmup": 0.05, "decay": 0.1},
        "default_lr": {"factor": "constant", "peak_lr": 0.07, "warmup": 0},
    },
}


def inherited(changes, values=None, families=("cosine", "default_lr"), **options):
    asked = request(list(families), changes, values=values)
    return inherit(EARLIER, compose(asked), asked.keys(**{"with_families": False, **options}))


def test_nothing_asked_for_is_the_earlier_one():
    nodes = inherited({"name": "new"}).nodes
    assert {key: nodes[key] for key in EARLIER} == EARLIER
    assert nodes["name"] == "new"


@pytest.mark.parametrize(
    ("changes", "values", "expected"),
    [
        ({"data": {"valid": 0.1}}, {}, {"data": {**EARLIER["data"], "valid": 0.1}}),
        ({"model": {"width": 32}}, {}, {"model": {**EARLIER["model"], "width": 32}}),
        ({"train": {"clip": 1.0}}, {}, {"train": {**EARLIER["train"], "clip": 1.0}}),
        ({}, {("train", "steps"): 50}, {"train": {"steps": 50, "epochs": None, "batch_size": 8}}),
        ({}, {("train", "epochs"): 2}, {"train": {"steps": None, "epochs": 2, "batch_size": 8}}),
        ({"optimizer": {"momentum": 0.9}}, {}, {"optimizer": {**EARLIER["optimizer"], "momentum": 0.9}}),
    ],
)
def test_a_key_replaces_that_key(changes, values, expected):
    nodes = inherited(changes, values).nodes
    assert {key: nodes[key] for key in EARLIER} == {**EARLIER, **expected}


def test_a_choice_replaces_its_section_and_the_ranges_that_follow_it():
    nodes = inherited({"optimizer": "adamw"}).nodes
    assert nodes["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert nodes["schedule"]["cosine"] == {
        "factor": "cosine", "peak_lr": {"low": 1e-5, "high": 3e-2, "log": True}, "warmup": 0.05, "decay": 0.1,
    }  # fmt: skip
    assert nodes["schedule"]["default_lr"]["peak_lr"] == 1e-3
    assert nodes["data"] == EARLIER["data"]


def test_a_shared_range_reaches_the_families_that_follow_it():
    nodes = inherited({"optimizer": {"peak_lr": {"low": 0.1, "high": 2.0, "log": True}}, "warmup": 0.2}).nodes
    assert nodes["schedule"]["cosine"] == {
        "factor": "cosine", "peak_lr": {"low": 0.1, "high": 2.0, "log": True}, "warmup": 0.2, "decay": 0.1,
    }  # fmt: skip
    assert nodes["schedule"]["default_lr"] == EARLIER["schedule"]["default_lr"]


def test_families_that_are_asked_for_are_those():
    nodes = inherited({}, families=["wsd"], with_families=True).nodes
    assert list(nodes["schedule"]) == ["wsd"]


def test_names_of_a_sweep_come_from_what_is_trained():
    assert inherited({"optimizer": "adamw"}).label == "digits-mlp-adamw"


def test_an_experiment_is_refused():
    asked = request(["cosine"], {}, experiment="quadratic")
    with pytest.raises(InputError, match="experiment: it would replace"):
        inherit(EARLIER, compose(asked), asked.keys())


def test_keys_as_they_are_typed():
    assert typed_keys(["data=digits", "++train.steps=9", "~pruner", "schedule.cosine.decay=0.1"]) == [
        "data", "train.steps", "pruner", "schedule.cosine.decay",
    ]  # fmt: skip
