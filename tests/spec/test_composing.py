"""The configuration of Python's sweeps is that of the command line, read without Hydra."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from sweeper import conf
from sweeper.schedules import decays, family
from sweeper.spec import overrides
from sweeper.spec.composing import choice_name, composed, defaults, groups, keys, path_of
from sweeper.types import Choice, InputError, Range

CONF = Path(conf.__path__[0])
FAMILIES = sorted({path.stem for path in (CONF / "schedule").glob("*.yaml")} - {"core"})


def hydra(*words):
    """What the command line has for these overrides, without what a call gives as objects."""
    with initialize_config_module("sweeper.conf", version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", overrides=list(words)), resolve=True)
    return {key: value for key, value in plain.items() if key not in ("data", "model", "task")}


def flat(tree, path=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def same(own, theirs):
    assert dict(flat(own)) == dict(flat(theirs))


def test_the_defaults_are_hydras():
    same(composed("core", {}), hydra())


def test_every_family_is_hydras():
    same(composed(FAMILIES, {}), hydra(f"schedule=[{','.join(FAMILIES)}]"))


def test_all_is_what_the_command_line_means():
    assert sorted(composed("all", {})["schedule"]) == overrides.families([CONF])


def test_the_groups_are_the_folders_and_every_default_is_in_one():
    assert groups() == sorted(
        ["data", "experiment", "model", "optimizer", "pruner", "schedule", "search", "tracking", "trainer"]
    )
    assert defaults() == {
        "optimizer": "sgd", "search": "tpe", "pruner": "median", "trainer": "auto", "tracking": "mlflow"
    }  # fmt: skip
    assert set(keys()) == {*hydra(), "data", "model", "task"}
    assert len(keys()) == len(set(keys()))


CHOICES = [(group, path.stem) for group in defaults() for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_is_hydras(group, name):
    theirs = hydra("schedule=[cosine,default_lr]", f"{group}={name}")
    same(composed(["cosine", "default_lr"], {group: name}), theirs)
    same(composed(["cosine", "default_lr"], {group: {name: {}}}), theirs)


SAME_CHANGES = [
    ({"train": {"steps": 50}}, ["train.steps=50"]),
    ({"train": {"steps": None, "epochs": 3}}, ["train.steps=null", "train.epochs=3"]),
    ({"objective": {"metric": "valid/accuracy", "direction": "maximize"}},
     ["objective.metric=valid/accuracy", "objective.direction=maximize"]),
    ({"search": {"n_trials": 3, "seed": 5}}, ["search.n_trials=3", "search.seed=5"]),
    ({"search": {"random": {"n_trials": 3}}}, ["search=random", "search.n_trials=3"]),
    ({"optimizer": {"momentum": 0.5}}, ["optimizer.momentum=0.5"]),
    ({"optimizer": {"adamw": {"weight_decay": 0.1}}}, ["optimizer=adamw", "optimizer.weight_decay=0.1"]),
    ({"optimizer": {"peak_lr": {"low": 1, "high": 2}}},
     ["++optimizer.peak_lr=null", "++optimizer.peak_lr={low: 1, high: 2}"]),
    ({"warmup": 0.1}, ["warmup=0.1"]),
    ({"warmup": {"low": 0, "high": 0.1}}, ["warmup=null", "warmup={low: 0, high: 0.1}"]),
    ({"search": {"start": {"cosine": [{"peak_lr": 0.1}]}}}, ["++search.start={cosine: [{peak_lr: 0.1}]}"]),
    ({"tracking": {"flush_seconds": 0}}, ["tracking.flush_seconds=0"]),
    ({"device": "cpu", "name": "first", "fresh": True}, ["device=cpu", "name=first", "fresh=true"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), SAME_CHANGES, ids=lambda value: str(value)[:40])
def test_a_change_means_what_it_means_on_the_command_line(changes, words):
    same(composed(["cosine"], changes), hydra("schedule=cosine", *words))


def test_a_whole_node_stands_for_itself():
    own = {"_target_": torch.optim.RMSprop, "alpha": 0.9, "peak_lr": Range(1e-4, 1e-2, log=True)}
    config = composed("cosine", {"optimizer": own})
    assert config["optimizer"] == {
        "_target_": "torch.optim.rmsprop.RMSprop",
        "alpha": 0.9,
        "peak_lr": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    assert config["schedule"]["cosine"]["peak_lr"] == {"low": 1e-4, "high": 1e-2, "log": True}
    assert choice_name("optimizer", own) == "rmsprop"
    assert [choice_name("optimizer", change) for change in (None, "adamw", {"adamw": {}}, {"momentum": 0})] == [
        "sgd",
        "adamw",
        "adamw",
        "sgd",
    ]


# --- families -----------------------------------------------------------------------------------------


def halved(tau_LS, decay_steps_L, *, decay=0.5):
    return decay ** (tau_LS >= decay_steps_L / 2)


def own_rise(tau_LS, decay_steps_L, *, warmup=0.1):
    return (tau_LS + 1) / decay_steps_L + 0 * warmup


PEAK = {"low": 1.0e-3, "high": 3, "log": True}


def test_numbers_of_a_family_are_replaced():
    config = composed({"cosine": {"decay": 0.1}, "wsd": {}, "linear": None}, {})
    assert sorted(config["schedule"]) == ["cosine", "linear", "wsd"]
    assert config["schedule"]["cosine"]["decay"] == 0.1
    assert config["schedule"]["wsd"] == composed("wsd", {})["schedule"]["wsd"]


@pytest.mark.parametrize(
    "asked",
    [halved, [halved], {"halved": halved}, {"halved": {"factor": halved}}],
    ids=["alone", "list", "mapping", "node"],
)
def test_a_factor_of_ones_own_has_the_common_numbers(asked):
    config = composed(asked, {"warmup": 0.05})
    assert config["schedule"] == {
        "halved": {"factor": f"{__name__}.halved", "peak_lr": PEAK, "warmup": 0.05},
    }


def test_a_factor_with_a_warmup_of_its_own_keeps_it():
    assert composed(own_rise, {})["schedule"]["own_rise"] == {"factor": f"{__name__}.own_rise", "peak_lr": PEAK}


def test_a_variant_of_a_known_factor():
    config = composed({"deep": {"factor": "cosine", "decay": {"choice": (0.1, 0.2)}}}, {})
    assert config["schedule"]["deep"]["decay"] == {"choice": [0.1, 0.2]}


def test_a_family_object_is_its_node():
    made = family("deep", {"factor": "cosine", "peak_lr": PEAK, "warmup": 0.1, "decay": {"choice": [0.1, 0.2]}})
    node = composed(["wsd", made], {})["schedule"]["deep"]
    again = family("deep", {**node, "factor": node["factor"]})
    assert again == made
    assert again.factor is decays.cosine
    assert again.space["decay"] == Choice((0.1, 0.2))


def test_what_cannot_be_found_again_is_refused():
    with pytest.raises(InputError, match="cannot be found again by its name"):
        path_of("schedule.mine.factor", lambda tau_LS, decay_steps_L: 1.0)


WRONG = [
    (("cosin", {}), r"schedule=cosin: no such choice\. Did you mean cosine\?"),
    ((["cosine", 3], {}), "schedule=3: neither a name, nor a Family, nor a factor"),
    (({"cosine": 0.1}, {}), "schedule.cosine=0.1: not a mapping of numbers"),
    (({"core": {"decay": 0.1}}, {}), "schedule=core: a list of families"),
    (({"mine": {"decay": 0.1}}, {}), "schedule=mine: no such choice"),
    (("cosine", {"optimizer": "adanw"}), r"optimizer=adanw: no such choice\. Did you mean adamw\?"),
    (("cosine", {"optimizer": 3}), "optimizer=3: neither a name nor a mapping"),
    (("cosine", {"optimizer": {"_target_": "torch.optim.SGD"}}), r"optimizer\.peak_lr: missing"),
    (("cosine", {"train": {"step": 3}}), r"train\.step: no such key\. Did you mean steps\?"),
    (("cosine", {"train": 3}), "train=3: not a mapping of keys"),
    (("cosine", {"search": {"ntrials": 3}}), r"search\.ntrials: no such key\. Did you mean n_trials\?"),
    (("cosine", {"tracking": {"url": "x"}}), r"tracking\.url: no such key\. Did you mean uri\?"),
    (("cosine", {"sweeper": {}}), "sweeper: no such key"),
    (("../config", {}), "schedule=../config: no such choice"),
]


@pytest.mark.parametrize(("asked", "told"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_told_with_the_same_keys(asked, told):
    with pytest.raises(InputError, match=f"^{told}"):
        composed(*asked)
