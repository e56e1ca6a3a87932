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
        (["train.steps=5"], ["train.steps=5"]),
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
    nodes = {"a": {"factor": "cosine"}, "b": {"decay": 1}, "c": 3}
    assert overrides.chosen_families(nodes, ["schedule.a.decay=1"]) == {"a": {"factor": "cosine"}}
    assert "schedule.b is set, but this family is not chosen: ignored" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"schedule\.b: this family is not chosen\. Choose it: 'schedule=\[a,b\]'"):
        overrides.chosen_families(nodes, ["+schedule.b.decay=1"])
