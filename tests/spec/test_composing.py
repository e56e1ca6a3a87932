"""Python's sweeps and the command line have one configuration, composed by Hydra."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir, initialize_config_module, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from omegaconf import OmegaConf

from sweeper import conf
from sweeper.schedules import decays, family
from sweeper.spec import config_files, overrides
from sweeper.spec.composing import compose as composed_by_us
from sweeper.spec.parse import parse
from sweeper.spec.requests import Request, path_of, request
from sweeper.types import Choice, InputError, Range

CONF = Path(conf.__path__[0])
FAMILIES = sorted({path.stem for path in (CONF / "schedule").glob("*.yaml")} - {"core"})


def hydra(*words):
    """What the command line has for these overrides, without what a call gives as objects."""
    with initialize_config_module("sweeper.conf", version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", overrides=list(words)), resolve=True)
    return {key: value for key, value in plain.items() if key not in ("data", "model", "task")}


def composed(*asked, **others):
    nodes = composed_by_us(request(*asked, **others)).nodes
    return {key: value for key, value in nodes.items() if key not in ("data", "model", "task")}


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
    assert sorted(composed("all", {})["schedule"]) == config_files.families([CONF])


def test_every_key_of_the_files_is_composed():
    assert set(config_files.keys()) == {*hydra(), "data", "model", "task"}


GROUPS = ("optimizer", "search", "pruner", "trainer", "tracking")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


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


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (None, "sgd"), ("adamw", "adamw"), ({"adamw": {}}, "adamw"), ({"momentum": 0}, "sgd"),
        ({"_target_": torch.optim.RMSprop, "peak_lr": 1, "default_lr": 1}, "rmsprop"),
    ],
)  # fmt: skip
def test_a_choice_is_called_by_its_file_or_its_class(change, name):
    assert composed_by_us(request("core", {"optimizer": change})).choice("optimizer") == name


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
    (({"cosine": 0.1}, {}), "schedule.cosine=0.1: not a mapping of hyperparameters"),
    (({"core": {"decay": 0.1}}, {}), "schedule=core: a list of families"),
    (({"mine": {"decay": 0.1}}, {}), "schedule=mine: no such choice"),
    (("cosine", {"optimizer": "adanw"}), r"optimizer=adanw: no such choice\. Did you mean adamw\?"),
    (("cosine", {"optimizer": 3}), "optimizer=3: neither a name nor a mapping"),
    (("cosine", {"optimizer": {"_target_": "torch.optim.SGD"}}), r"optimizer\.peak_lr: missing"),
    (("cosine", {"train": {"step": 3}}), r"train\.step=3: no such key\. Did you mean steps\?"),
    (("cosine", {"train": 3}), "train=3: not a mapping of keys"),
    (("cosine", {"search": {"ntrials": 3}}), r"search\.ntrials=3: no such key\. Did you mean n_trials\?"),
    (("cosine", {"sweeper": {}}), "sweeper: no such key"),
    (("../config", {}), "schedule=../config: no such choice"),
]


@pytest.mark.parametrize(("asked", "told"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_told_with_the_same_keys(asked, told):
    with pytest.raises(InputError, match=f"^{told}"):
        parse(composed(*asked), None)  # what is wrong is found before the subject is looked at


# --- a `_target_`, experiments, the user's own files, and Hydra's state ------------------------------------

OWN_SAMPLER = {"_target_": "optuna.samplers.RandomSampler"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pruner": {"_target_": "my.Pruner", "a": 1}}, ["pruner={_target_: my.Pruner, a: 1}"]),
        ({"pruner": {"_target_": "my.Pruner"}}, ["pruner=percentile", "pruner._target_=my.Pruner"]),
        ({"pruner": {"n_startup_trials": 9}}, ["pruner={n_startup_trials: 9}"]),
        ({"tracking": {"_target_": "my.Tracker"}}, ["tracking._target_=my.Tracker"]),
        ({"trainer": {"_target_": "my.Trainer", "workers": 2}}, ["trainer._target_=my.Trainer", "trainer.workers=2"]),
        ({"search": {"sampler": OWN_SAMPLER}}, ["search.sampler._target_=optuna.samplers.RandomSampler"]),
        ({"search": {"sampler": OWN_SAMPLER}}, ["search.sampler={_target_: optuna.samplers.RandomSampler}"]),
        ({"search": {"sampler": {"n_startup_trials": 3}}}, ["search.sampler={n_startup_trials: 3}"]),
        ({"search": {"sampler": {"n_startup_trials": 3}}}, ["search.sampler.n_startup_trials=3"]),
        ({"optimizer": {"_target_": "my.SGD", "peak_lr": 1, "default_lr": 1}},
         ["optimizer._target_=my.SGD", "optimizer.peak_lr=1", "optimizer.default_lr=1"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_target_replaces_the_options_of_the_default(changes, words):
    theirs = hydra(*overrides.to_hydra(words, config_files.groups()))
    same(composed("core", changes), theirs)
    for key, change in changes.items():
        if "_target_" in change:
            assert theirs[key] == change
        elif "_target_" in change.get("sampler", {}):
            assert theirs[key]["sampler"] == change["sampler"]


@pytest.mark.parametrize("name", config_files.choices("experiment"))
def test_an_experiment_is_the_command_lines(name):
    theirs = hydra("schedule=[cosine]", f"experiment={name}", "train.clip=2")
    # What a file sets for a family that is not chosen is ignored.
    theirs["schedule"] = {family: node for family, node in theirs["schedule"].items() if "factor" in node}
    same(composed("cosine", {"train": {"clip": 2}}, experiment=name), theirs)


@pytest.fixture
def folder(tmp_path):
    """A config folder of the user's, with a comma, a space and a quote in its name."""
    own = tmp_path / "our own, user's"
    for group, name, text in [
        ("schedule", "mine", "mine: {factor: cosine, peak_lr: 2, decay: 0.5}"),
        ("optimizer", "slow", "_target_: torch.optim.SGD\npeak_lr: 0.01\ndefault_lr: 0.001"),
        ("experiment", "first", "# @package _global_\ndefaults: [override /optimizer: slow]\ntrain: {steps: 77}"),
    ]:
        (own / group).mkdir(parents=True)
        (own / group / f"{name}.yaml").write_text(text)
    return own


def test_the_users_own_files(folder):
    config = composed_by_us(request(["mine", "cosine"], {}, experiment="first", config_dir=folder))
    assert config.choice("optimizer") == "slow"
    assert config.nodes["train"]["steps"] == 77
    assert config.nodes["schedule"]["mine"] == {"factor": "cosine", "peak_lr": 2, "decay": 0.5}
    assert config.nodes["schedule"]["cosine"]["peak_lr"] == 0.01
    assert "mine" in composed("all", {}, config_dir=folder)["schedule"]
    assert composed({"mine": {"decay": 0.1}}, {}, config_dir=folder)["schedule"]["mine"]["decay"] == 0.1
    with pytest.raises(InputError, match=r"^experiment=frist: no such choice\. Did you mean first\?"):
        request("core", {}, experiment="frist", config_dir=folder)
    with pytest.raises(InputError, match=r"^config_dir=nowhere: no such folder"):
        request("core", {}, config_dir="nowhere")


def test_the_callers_own_hydra_application_stays(tmp_path):
    (tmp_path / "config.yaml").write_text("theirs: 1")
    with initialize_config_dir(str(tmp_path), job_name="their_job", version_base="1.2"):
        theirs = GlobalHydra.instance().hydra
        assert composed("cosine", {})["train"]["steps"] == 1000
        assert GlobalHydra.instance().hydra is theirs
        assert compose("config") == {"theirs": 1}
        assert (str(version.getbase()), JobRuntime.instance().get("name")) == ("1.2", "their_job")
        with pytest.raises(InputError):
            composed_by_us(Request(("schedule=[nothing]",)))
        assert GlobalHydra.instance().hydra is theirs
