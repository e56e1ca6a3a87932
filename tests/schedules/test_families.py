"""A node of `schedule` becomes a Family or an error, and every file of conf/schedule trains."""

import math
import re
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from sweeper.schedules import FACTORS, cycles, decays, family, lr_trace, lr_traces, momentum_trace
from sweeper.schedules.families import parameters_of
from sweeper.types import Choice, Dimension, InputError, Range, Value

CONF = Path(__file__).parents[2] / "conf"
FILES = [path for path in sorted((CONF / "schedule").glob("*.yaml")) if "factor:" in path.read_text()]
LR = {"low": 1e-3, "high": 1.0, "log": True}


@lru_cache
def loaded(path: Path) -> Any:
    return OmegaConf.load(path)


def resolved(path: Path, optimizer: str) -> dict[str, Any]:
    """Return a file of conf/schedule as the command line does: plain, with resolved interpolations."""
    config = OmegaConf.create({"schedule": OmegaConf.load(path), "warmup": loaded(CONF / "config.yaml").warmup})
    config.optimizer = loaded(CONF / "optimizer" / f"{optimizer}.yaml")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    nodes: dict[str, Any] = plain["schedule"]
    return nodes


def draw(rng: np.random.Generator, dimension: Dimension | Value) -> Value:
    if isinstance(dimension, Choice):
        return dimension.options[int(rng.integers(len(dimension.options)))]
    if isinstance(dimension, Range):
        if dimension.log:
            return float(np.exp(rng.uniform(np.log(dimension.low), np.log(dimension.high))))
        return float(rng.uniform(dimension.low, dimension.high))
    return dimension


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_gives_traces(path: Path, optimizer: str) -> None:
    rng = np.random.default_rng(0)
    ((name, node),) = resolved(path, optimizer).items()
    assert name == path.stem
    if name == "wall_time":
        node["budget"] = 60  # the user must set it
    built = family(name, node)
    searched = [key for key, value in built.space.items() if isinstance(value, Range | Choice)]
    assert len(searched) <= 4
    for steps in (1, 20, 333):
        rows = [{key: draw(rng, value) for key, value in built.space.items()} for _ in range(20)]
        lr_LS = lr_traces(built, rows, steps)
        assert np.isfinite(lr_LS).all()
        peak_L = np.array([[row["peak_lr"]] for row in rows])
        assert ((lr_LS >= 0) & (lr_LS <= peak_L)).all()


def test_a_hyperparameter_of_a_schedule_is_real_however_its_range_is_written() -> None:
    """Only counts of reports and drops are whole."""
    whole = set()
    for path in FILES:
        ((name, node),) = resolved(path, "sgd").items()
        built = family(name, {**node, **({"budget": 60} if name == "wall_time" else {})})
        for key, parameter in parameters_of(built).items():
            if parameter.kind != "number":
                continue
            low, high = (math.ceil(max(parameter.bounds.low, -3)), math.floor(min(parameter.bounds.high, 3)))
            ends = {"low": low + parameter.bounds.open_low, "high": high - parameter.bounds.open_high}
            if ends["low"] > ends["high"]:  # no whole number is possible
                ends = {"low": 0.25, "high": 0.5}
            searched = family(name, {**node, "budget": 60, key: ends} if name == "wall_time" else {**node, key: ends})
            found = searched.space[key]
            assert isinstance(found, Range)
            if found.is_whole:
                whole.add(f"{built.controller}.{key}")
    assert whole == {
        *["plateau.patience", "plateau.cooldown", "plateau_keras.patience", "plateau_keras.cooldown"],
        *["greedy.patience", "greedy.cooldown", "greedy.hold", "greedy.reset"],
    }


def test_every_factor_has_a_file() -> None:
    used = {node["factor"] for path in FILES for node in resolved(path, "sgd").values()}
    assert used == set(FACTORS)


def test_every_factor_stands_in_a_module_whose_test_counts_it() -> None:
    """test_decays and test_cycles have an oracle, and first and last values, for every factor of their module."""
    assert {factor.__module__ for factor in FACTORS.values()} == {decays.__name__, cycles.__name__}


def test_a_node_is_read_whole() -> None:
    built = family("c", {"factor": "cosine", "peak_lr": LR, "warmup": {"choice": [0, 0.1]}, "decay": 0.1})
    assert built.factor is FACTORS["cosine"]
    assert (built.name, built.warmup, built.momentum, built.controller) == ("c", "prefix", None, None)
    assert built.space == {
        "peak_lr": Range(1e-3, 1.0, log=True, whole=False),
        "warmup": Choice((0, 0.1)),
        "warmup_shape": "linear",
        "warmup_join": "prefix",
        "decay": 0.1,
        "end": "open",
    }


def test_the_kind_of_warmup_follows_from_the_factor_and_the_node() -> None:
    assert family("a", {"factor": "onecycle", "peak_lr": 1}).warmup == "builtin"
    assert family("b", {"factor": "cosine", "peak_lr": 1}).warmup == "none"
    assert family("c", {"factor": "cosine", "peak_lr": 1, "warmup": 0}).warmup == "prefix"
    with pytest.raises(InputError, match=r"schedule\.b\.warmup: no such hyperparameter"):
        lr_trace(family("b", {"factor": "cosine", "peak_lr": 1}), {"warmup": 0.1}, 10)


def test_a_searched_word_is_a_choice() -> None:
    shapes = {"choice": ["linear", "1-sqrt"]}
    built = family("w", {"factor": "wsd", "peak_lr": 1.0, "cooldown": 0.5, "cooldown_shape": shapes})
    rows: list[dict[str, Value]] = [{"cooldown_shape": shape} for shape in ("linear", "1-sqrt", "linear")]
    lr_LS = lr_traces(built, rows, 10)
    np.testing.assert_array_equal(lr_LS[0], lr_LS[2])
    assert lr_LS[0, 7] > lr_LS[1, 7]
    np.testing.assert_array_equal(lr_LS[1], lr_trace(built, rows[1], 10))


REFUSED = [
    ({}, "schedule.x: has no factor. Choose the family too, 'schedule=[...,x]'"),
    ({"factor": "cosin"}, "schedule.x.factor=cosin: no such name. Did you mean cosine?"),
    ({"factor": "no.such.module.f"}, "schedule.x.factor=no.such.module.f: not found"),
    ({"factor": "math.no_such"}, "schedule.x.factor=math.no_such: not found"),
    ({"factor": "math.pi"}, "schedule.x.factor=math.pi: not a function"),
    ({"factor": "os.getcwd"}, "not the signature of a factor"),
    ({"factor": None}, "schedule.x.factor: no such name"),
    ({"peak_lr": None}, "schedule.x.peak_lr: not a number"),
    ({"peak_lr": "${optimizer.peak_lr}"}, "schedule.x.peak_lr=${optimizer.peak_lr}: text instead of a number"),
    ({"peak_lr": 0}, "schedule.x.peak_lr=0: out of bounds. Write a number above 0"),
    ({"peak_lr": {"low": 0, "high": 1}}, "schedule.x.peak_lr=0: out of bounds"),
    ({"peak_lr": {"low": 0, "high": 1, "log": True}}, "schedule.x.peak_lr.low=0: has no logarithm"),
    (
        {"warmup": {"choice": [0, 1]}},
        "schedule.x.warmup=1: out of bounds. Write a number at least 0 and below",
    ),
    ({"warmup": {"low": -0.1, "high": 0.2}}, "schedule.x.warmup=-0.1: out of bounds"),
    ({"warmup": {"low": 0, "high": 1.5}}, "schedule.x.warmup=1.5: out of bounds"),
    (
        {"warmup_shape": "cosin", "warmup": 0},
        "schedule.x.warmup_shape=cosin: not one of its options. Did you mean cosine?",
    ),
    ({"decai": 0.1}, "schedule.x.decai: no such hyperparameter. Did you mean decay?"),
    ({"decay": "low"}, "schedule.x.decay=low: text instead of a number"),
    ({"decay": [0.1]}, "schedule.x.decay=[0.1]: not a number"),
    ({"decay": {"choice": [0.1, "all"]}}, "schedule.x.decay=all: text instead of a number"),
    ({"decay": 1.5}, "Write a number at least 0 and at most 1"),
    ({"factor": "exponential", "decay": 0}, "schedule.x.decay=0: out of bounds. Write a number above 0"),
    ({"factor": "exponential", "decay": {"low": 0, "high": 0.5}}, "schedule.x.decay=0: out of bounds"),
    ({"factor": "wsd", "cooldown": 0}, "schedule.x.cooldown=0: out of bounds"),
    ({"factor": "wsd", "cooldown_shape": "sqrt"}, "schedule.x.cooldown_shape=sqrt: not one of its options. Did you"),
    ({"factor": "wsd", "cooldown_shape": {"low": 0, "high": 1}}, "a range, but it needs a fixed value"),
    ({"factor": "onecycle", "anneal": "cosine"}, "schedule.x.anneal=cosine: not one of its options. Did you mean cos?"),
    ({"factor": "onecycle", "warmup": 0}, "schedule.x.warmup=0: out of bounds"),
    ({"factor": "onecycle", "momentum": "cycle"}, "schedule.x.momentum=cycle: no such name. Did you mean cycled?"),
    ({"momentum": "cycled"}, "schedule.x.momentum=cycled: cosine does not cycle momentum"),
    ({"factor": "onecycle", "max_momentum": 0.9}, "schedule.x.max_momentum: no such hyperparameter"),
    ({"end": "shut"}, "schedule.x.end=shut: not one of its options. Choose one of open, closed"),
    ({"end": True}, "schedule.x.end=true: not one of its options"),
    ({"factor": "sgdr", "cycle_fit": "fit"}, "schedule.x.cycle_fit=fit: not one of its options. Did you mean fitted?"),
    ({"factor": "multistep", "milestones": 0.5}, "schedule.x.milestones=0.5: not a list of numbers. Write a list of"),
    ({"factor": "multistep", "milestones": [0.5, 1]}, "schedule.x.milestones=1: out of bounds"),
    ({"factor": "multistep", "milestones": []}, "schedule.x.milestones=[]: not a list of numbers"),
    (
        {"factor": "multistep", "milestones": {"low": 0.1, "high": 0.5}},
        "schedule.x.milestones: a range, but it needs a fixed value",
    ),
    ({"factor": "knots", "log_factors": [0, 1]}, "schedule.x.log_factors=1: out of bounds. Write a list of numbers"),
    ({"factor": "rex", "d": 1}, "Write a number at least 0 and below 1"),
    ({"factor": "tanh", "lower": 1}, "Write a number at most 0"),
    ({"factor": "noam", "warmup": 0}, "schedule.x.warmup=0: out of bounds"),
    ({"factor": "stlr", "warmup": {"choice": [0, 0.1]}}, "schedule.x.warmup=0: out of bounds"),
    ({"factor": "inverse_time", "decay": 0}, "schedule.x.decay=0: out of bounds"),
    ({"factor": "sgdr", "cycle": 0}, "schedule.x.cycle=0: out of bounds"),
    ({"factor": "sgdr", "cycle_mult": 0.5}, "Write a number at least 1"),
]


@pytest.mark.parametrize(("node", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_trained_is_refused_with_the_way_out(node: dict[str, Any], message: str) -> None:
    whole = {"factor": "cosine", "peak_lr": 0.1, **node} if node else node
    with pytest.raises(InputError, match=re.escape(message)):
        family("x", whole)


def test_peak_lr_is_required() -> None:
    with pytest.raises(InputError, match=r"schedule\.x\.peak_lr: missing"):
        family("x", {"factor": "cosine"})


OWN = """
import numpy as np

def halves(tau, decay_steps, *, drops: int = 2, shape: str = "flat", at=(0.5,), sharp=False):
    assert tau.dtype == np.int64 and decay_steps.shape == (len(tau), 1)
    assert drops.shape == decay_steps.shape and shape == "flat" and sharp in (False, True)
    return 0.5 ** np.floor(drops * tau / decay_steps) * (1 - 0.1 * sum(tau >= a * decay_steps for a in at))

def needs(tau, decay_steps, *, depth):
    return 1 - depth * tau / decay_steps

def momentum(tau, decay_steps, *, low=0.5):
    return low + 0 * tau
"""


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_schedules")
    exec(OWN, module.__dict__)
    monkeypatch.setitem(sys.modules, "own_schedules", module)


@pytest.mark.usefixtures("own_module")
def test_a_factor_of_ones_own() -> None:
    node = {"factor": "own_schedules.halves", "peak_lr": 1.0, "warmup": 0.2, "at": [0.25, 0.75]}
    built = family("mine", node)
    assert built.space["at"] == (0.25, 0.75)
    lr_S = lr_trace(built, {}, 10)
    np.testing.assert_allclose(lr_S, [1 / 3, 2 / 3, 1, 1, 0.9, 0.9, 0.45, 0.45, 0.4, 0.4])
    with pytest.raises(InputError, match=r"schedule\.mine\.at=0\.5: not a list of numbers"):
        family("mine", {**node, "at": 0.5})


@pytest.mark.usefixtures("own_module")
def test_a_number_of_ones_own_is_real_unless_it_is_annotated_as_whole() -> None:
    node = {"factor": "own_schedules.halves", "peak_lr": 1.0, "drops": {"low": 1, "high": 4}}
    assert family("mine", node).space["drops"] == Range(1, 4, whole=True)
    with pytest.raises(InputError, match=r"schedule\.mine\.drops\.high=4\.5: must be a whole number"):
        family("mine", {**node, "drops": {"low": 1, "high": 4.5}})
    with pytest.raises(InputError, match=r"schedule\.mine\.drops=1\.5: out of bounds\. Write a whole number"):
        family("mine", {**node, "drops": 1.5})
    needs = {"factor": "own_schedules.needs", "peak_lr": 1.0, "depth": {"low": 0, "high": 1}}
    assert family("mine", needs).space["depth"] == Range(0, 1, whole=False)


@pytest.mark.usefixtures("own_module")
def test_a_number_without_default_must_be_given() -> None:
    with pytest.raises(InputError, match=r"schedule\.mine\.depth: missing"):
        family("mine", {"factor": "own_schedules.needs", "peak_lr": 1.0})
    built = family("mine", {"factor": "own_schedules.needs", "peak_lr": 1.0, "depth": {"low": 0, "high": 2}})
    assert lr_trace(built, {"depth": 1.0}, 2).tolist() == [1.0, 0.5]
    with pytest.raises(InputError, match=r"schedule\.mine: its factor gave negative values"):
        lr_trace(built, {"depth": 2.0}, 10)


@pytest.mark.usefixtures("own_module")
def test_a_momentum_of_ones_own() -> None:
    node = {"factor": "cosine", "peak_lr": 1.0, "momentum": "own_schedules.momentum", "low": 0.25}
    momentum_S = momentum_trace(family("mine", node), {}, 4)
    assert momentum_S is not None
    assert momentum_S.tolist() == [0.25] * 4
