"""What the user types, made ready for Hydra, and its errors in our words."""

from pathlib import Path

import pytest

from sweeper.spec import overrides
from sweeper.types import InputError

GROUPS = ("schedule", "model", "search")


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        (["schedule=[a,b]", "--cfg", "job", "-m"], ["--cfg", "job", "-m", "schedule=[a,b]"]),
        (["train.steps=5"], ["train.epochs=null", "train.steps=5"]),
        (["train.epochs=5"], ["train.steps=null", "train.epochs=5"]),
        (["+train.epochs=5"], ["train.steps=null", "+train.epochs=5"]),
        (["train.steps=5", "train.epochs=2"], ["train.steps=5", "train.epochs=2"]),
        (["train.steps=null", "train.epochs=2"], ["train.steps=null", "train.epochs=2"]),
        (["train.steps=null"], ["train.steps=null"]),
        (["name=20261128"], ["name='20261128'"]),
        (["name=1e3"], ["name='1e3'"]),
        (["name=it's"], [r"name='it\'s'"]),
        (["name='quoted'"], ["name='quoted'"]),
        (["name=null"], ["name=null"]),
        (["name=a,b"], ["name='a,b'"]),
        (["name=a,b", "-m"], ["-m", "name=a,b"]),
        (["data.path=a=b.csv"], ["++data.path='a=b.csv'"]),
        (["model=5"], ["model='5'"]),
        (["schedule=[cosine,5]"], ["schedule=[cosine,'5']"]),
        (["train={steps: 5}"], ["++train={steps: 5}"]),
        (["schedule.wsd={decay: 0.1}"], ["++schedule.wsd={decay: 0.1}"]),
        (["schedule.wsd={factor: wsd}"], ["schedule.wsd=null", "schedule.wsd={factor: wsd}"]),
        (["task=[1]"], ["++task=null", "++task=[1]"]),
        (["warmup={choice: [0]}"], ["warmup=null", "warmup={choice: [0]}"]),
        (["schedule.wsd.decay=0.1"], ["++schedule.wsd.decay=0.1"]),
        (["schedule.wsd.decay.high=1"], ["schedule.wsd.decay.high=1"]),
        (
            ["schedule.wsd.decay={low: 1, high: 2}"],
            ["++schedule.wsd.decay=null", "++schedule.wsd.decay={low: 1, high: 2}"],
        ),
        (["hydra.verbose=true", "~tracking"], ["hydra.verbose=true", "~tracking"]),
        (["optimizer.momentum=0.5"], ["++optimizer.momentum=0.5"]),
        (["optimizer.groups.head.lr=5"], ["++optimizer.groups.head.lr=5"]),
        (["pruner={percentile: 5}"], ["++pruner={percentile: 5}"]),
        (
            ["pruner=median", "pruner._target_=my.Pruner", "pruner.a=1"],
            ["~pruner", "++pruner._target_=my.Pruner", "++pruner.a=1"],
        ),
        (["pruner={_target_: my.Pruner, a: 1}"], ["~pruner", "++pruner={_target_: my.Pruner, a: 1}"]),
        (["task._target_=my.Task"], ["~task", "++task._target_=my.Task"]),
        (
            ["search=random", "search.sampler._target_=my.Sampler"],
            ["~search.sampler", "search=random", "++search.sampler._target_=my.Sampler"],
        ),
        (["optimizer.groups.head={lr: 5}"], ["++optimizer.groups.head=null", "++optimizer.groups.head={lr: 5}"]),
    ],
)
def test_overrides_replace(typed, given):
    assert overrides.to_hydra(typed, GROUPS) == given


def test_config_folders():
    assert overrides.config_folders([]) == []
    assert overrides.config_folders(["-cd", "a", "--config-dir", "b", "x=1", "--config-dir=c"]) == [
        Path("a"),
        Path("b"),
        Path("c"),
    ]


def test_errors_name_the_way_out():
    assert "Did you mean steps?" in str(overrides.unknown_key("train.stepz", ["steps", "epochs"]))
    assert "Choose one of a, b" in str(overrides.unknown_key("x", ["a", "b", "hydra"]))
    assert "Choose it: 'schedule=[cosine,wsd]'" in str(overrides.unknown_key("schedule.wsd", ["cosine"]))
    assert "optimizer.peak_lr.high=..." in str(overrides.unknown_key("schedule.wsd.peak_lr.high", []))
    message = "In 'config': Could not find 'schedule/cosin'\n\nAvailable options in 'schedule':\n\tall\n\tcosine\nX"
    assert str(overrides.unknown_choice(message)) == "schedule=cosin: no such choice. Did you mean cosine?"
    assert overrides.unknown_choice("something else") is None


def test_a_family_without_a_factor_is_not_chosen(capsys):
    nodes = {"a": {"factor": "cosine"}, "b": {"decay": 1}}
    assert overrides.chosen_families(nodes, ["schedule.a.decay=1"]) == {"a": {"factor": "cosine"}}
    assert "schedule.b is set, but this family is not chosen: ignored" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"schedule\.b: this family is not chosen\. Choose it: 'schedule=\[a,b\]'"):
        overrides.chosen_families(nodes, ["+schedule.b.decay=1"])
    with pytest.raises(InputError, match=r"schedule\.c=3: not a mapping of hyperparameters\. Write schedule\.c\."):
        overrides.chosen_families({**nodes, "c": 3}, [])


WRONG_CHOICES = [
    ("schedule=cosine,linear", "several families, but not in brackets. Write 'schedule=[cosine,linear]'"),
    ("schedule=[cosine,cosine]", "cosine is named twice. Name it once: 'schedule=[cosine]'"),
    (
        "schedule={cosine: {decay: 0.1}}",
        "a mapping, but it is the name of a family or a list of names. Write schedule=",
    ),
    ("+schedule={mine: {factor: cosine}}", "a mapping, but it is the name of a family"),
    ("schedule=[[cosine]]", "not a list of names"),
    ("schedule=[cosine", "not a list of names"),
    ("schedule=../x", "not the name of a family"),
    ("schedule=", "not a choice. Name a file of conf/schedule, or leave schedule= out"),
    ("model=[mlp,cnn]", "a list, but it is one choice. Compare them with a multirun: -m model=mlp,cnn"),
    ("model=[mlp]", "a list, but it is one choice. Write model=mlp"),
    ("model=mlp,cnn", "several choices. Compare them with a multirun: -m model=mlp,cnn"),
    ("model=null", "not a choice"),
    ("model=../../secret", "not the name of a config file. Name a file of conf/model"),
    ("model=/etc/passwd", "not the name of a config file"),
]


@pytest.mark.parametrize(("word", "told"), WRONG_CHOICES)
def test_what_hydra_would_take_for_something_else_is_refused(word, told, check_form):
    with pytest.raises(InputError) as raised:
        overrides.to_hydra([word], GROUPS)
    assert told in str(raised.value)
    check_form(str(raised.value))


@pytest.mark.parametrize(
    ("file", "data"), [("iris.csv", "tabular"), ("my/t.parquet", "tabular"), ("t.csv.gz", "tabular"), ("a.txt", "text")]
)
def test_a_file_is_no_choice_of_data(file, data):
    with pytest.raises(InputError, match=rf"^data={file}: a file, not a choice\. Write data={data} data\.path={file}$"):
        overrides.to_hydra([f"data={file}"], (*GROUPS, "data"))
