"""Which hyperparameters lie at an end of their ranges, and whether what to type then can be typed."""

import shlex

import pytest

from sweeper.results.edges import spaces
from sweeper.schedules import family
from sweeper.spec.composing import compose
from sweeper.spec.families import parse_families
from sweeper.spec.requests import Request

PEAK = {"low": 1e-3, "high": 1.0, "log": True}
WARMUP = {"choice": [0, 0.02, 0.05, 0.1, 0.2]}
COSINE = {"factor": "cosine", "peak_lr": PEAK, "warmup": WARMUP, "decay": {"low": 1e-3, "high": 0.3, "log": True}}
LINEAR = {"factor": "linear", "peak_lr": PEAK, "warmup": WARMUP, "decay": 0.0}
INSIDE = {"peak_lr": 0.1, "warmup": 0.05, "decay": 0.01}


def edges(params, nodes=None, others=None, steps=1000):
    nodes = {"cosine": COSINE, "linear": LINEAR} if nodes is None else nodes
    families = {name: family(name, node) for name, node in nodes.items()}
    return spaces(families, steps, None, others or {})["cosine"].edges({**INSIDE, **params})


CASES = {  # hyperparameters at an end: (name, end, what to type)
    "inside": ({}, []),
    "almost at the end": ({"peak_lr": 0.69}, []),
    "peak LR, high": ({"peak_lr": 0.95}, [("peak_lr", "high", "optimizer.peak_lr.high=3")]),
    "peak LR, low": ({"peak_lr": 0.00102}, [("peak_lr", "low", "optimizer.peak_lr.low=0.0003")]),
    "decay, high": ({"decay": 0.29}, [("decay", "high", "schedule.cosine.decay.high=0.9")]),
    "decay, low": ({"decay": 0.00101}, [("decay", "low", "schedule.cosine.decay.low=0.0003")]),
    "warmup, high": ({"warmup": 0.2}, [("warmup", "high", "'warmup={choice: [0, 0.02, 0.05, 0.1, 0.2, 0.3]}'")]),
    "warmup, the least there is": ({"warmup": 0}, []),
    "two": (
        {"decay": 0.29, "peak_lr": 1.0},
        [("peak_lr", "high", "optimizer.peak_lr.high=3"), ("decay", "high", "schedule.cosine.decay.high=0.9")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_edges_and_what_to_type(case):
    params, expected = CASES[case]
    assert [(edge.name, edge.end, edge.remedy) for edge in edges(params)] == expected


KINDS = {  # of a range of decay, from 0 to 1: the value, and what to type
    "linear": ({"low": 0.2, "high": 0.6}, 0.59, "schedule.cosine.decay.high=0.8"),
    "linear, down to what is possible": ({"low": 0.1, "high": 0.6}, 0.11, "schedule.cosine.decay.low=0"),
    "linear, up to what is possible": ({"low": 0.1, "high": 0.9}, 0.89, "schedule.cosine.decay.high=1"),
    "all that is possible": ({"low": 0.0, "high": 1.0}, 1.0, None),
    "with a step": ({"low": 0.2, "high": 0.5, "step": 0.1}, 0.5, "schedule.cosine.decay.high=0.7"),
    "with a step, one before the end": ({"low": 0.2, "high": 0.5, "step": 0.1}, 0.4, None),
    "a choice": ({"choice": [0.1, 0.5, 0.3]}, 0.5, "'schedule.cosine.decay={choice: [0.1, 0.3, 0.5, 0.7]}'"),
    "a choice, down": ({"choice": [0.1, 0.5, 0.3]}, 0.1, "'schedule.cosine.decay={choice: [0.05, 0.1, 0.3, 0.5]}'"),
    "a choice of two": ({"choice": [0.1, 0.5]}, 0.5, None),
    "fixed": (0.3, 0.3, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_ranges(kind):
    searched, value, remedy = KINDS[kind]
    found = edges({"decay": value}, {"cosine": {**COSINE, "decay": searched}})
    assert [edge.remedy for edge in found] == ([] if remedy is None else [remedy])


def test_a_range_of_one_family_alone_is_replaced():
    """`schedule.cosine.peak_lr.high=3` is refused where the family has the range of all."""
    nodes = {"cosine": COSINE, "linear": {**LINEAR, "peak_lr": {"low": 1e-3, "high": 10, "log": True}}}
    (edge,) = edges({"peak_lr": 1.0}, nodes)
    assert edge.remedy == "'schedule.cosine.peak_lr={low: 0.001, high: 3, log: true}'"


def test_a_length_that_the_run_bounds_cannot_be_wider():
    wsd = {"factor": "wsd", "peak_lr": PEAK, "cooldown": {"low": 1e-3, "high": 0.5, "log": True}}
    (edge,) = edges({"cooldown": 0.001}, {"cosine": wsd}, steps=100_000)
    assert edge.remedy == "schedule.cosine.cooldown.low=0.0003"
    assert edges({"cooldown": 0.02}, {"cosine": wsd}, steps=100) == [], "two updates are the least"


def test_hyperparameters_of_optimizer_and_model_make_another_sweep():
    nodes = {
        "optimizer": {
            "_target_": "torch.optim.SGD",
            "momentum": {"low": 0.5, "high": 0.95},
            "groups": {"a": {"lr": 2}},
        },
        "model": {"layers": [{"x": 1}], "dropout": {"low": 0.0, "high": 0.5}},
    }
    params = {"optimizer.momentum": 0.94, "model.dropout": 0.2}
    assert [(e.name, e.end, e.limit, e.remedy) for e in edges(params, others=nodes)] == [
        ("optimizer.momentum", "high", 0.95, "")
    ]


def test_what_to_type_is_understood_and_widens_the_range():
    remedies = [edge[2] for _, found in CASES.values() for edge in found]
    own = "'schedule.linear.peak_lr={low: 0.001, high: 5, log: true}'"  # the form of a family that has its own range
    words = shlex.split(" ".join([*remedies, own]))
    nodes = compose(Request(("schedule=[cosine,linear]", *words))).nodes["schedule"]
    cosine, linear = parse_families(nodes)
    assert (cosine.space["peak_lr"].low, cosine.space["peak_lr"].high, linear.space["peak_lr"].high) == (3e-4, 3, 5)
    assert (cosine.space["decay"].low, cosine.space["decay"].high) == (3e-4, 0.9)
    assert cosine.space["warmup"].options == linear.space["warmup"].options == (0, 0.02, 0.05, 0.1, 0.2, 0.3)
