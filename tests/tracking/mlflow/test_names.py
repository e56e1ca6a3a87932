"""Names and colours tell runs apart where there is little room."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sweeper import conf
from sweeper.tracking.mlflow.names import run_color, run_name

ROOM = 18  # characters that MLflow's list of runs shows
FAMILIES = sorted(path.stem for path in Path(conf.__path__[0], "schedule").glob("*.yaml") if path.stem != "core")


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"peak_lr": 0.0341, "warmup": 0.1666}, "cosine:38 lr=.034 wu=17%"),
        ({"peak_lr": 3.44e-5, "warmup": 0.0}, "cosine:38 lr=3.4e-5"),
        ({"peak_lr": 1.0}, "cosine:38 lr=1"),
        ({"peak_lr": 12.0, "warmup": 0.005}, "cosine:38 lr=12 wu=0.5%"),
        ({"peak_lr": "auto"}, "cosine:38 lr=auto"),
        ({}, "cosine:38"),
    ],
)
def test_run_names_begin_with_what_differs(params, name):
    assert run_name("cosine", 38, params) == name


def test_other_searched_numbers_follow():
    params = {"decay": 0.1, "peak_lr": 0.2, "cycle": 0.25, "end_factor": 0.0}
    hparams = {"optimizer.weight_decay": 1e-4, "optimizer.momentum": 0.9, "model.dropout": 0.15}
    searched = ("cycle", "model.dropout", "optimizer.weight_decay", "peak_lr")
    assert run_name("sgdr", 7, params, hparams, searched) == "sgdr:7 lr=.2 wd=.0001 dropout=.15 cycle=25%"


def test_family_and_number_of_every_family_can_be_read_in_the_list():
    names = [run_name(family, number, {"peak_lr": 0.0341}) for family in FAMILIES for number in (3, 38)]
    long = [name for name in names if len(name.split()[0]) > ROOM]
    assert {name.split(":")[0] for name in long} <= {"cosine_exponent", "cycle_warmup_cosine"}
    assert len({name[:23] for name in names}) == len(names)


def test_every_family_has_a_colour_of_its_own():
    colours = {family: run_color(family) for family in FAMILIES}
    assert len(set(colours.values())) == len(FAMILIES)
    assert all(len(one) == 7 and int(one[1:], 16) >= 0 for one in colours.values())


def test_the_families_of_the_default_sweep_look_different():
    shown = ["cosine", "exponential", "linear", "onecycle", "sgdr", "step", "wsd", "constant", "default_lr"]
    for one, other in itertools.combinations(shown, 2):
        parts = [(int(run_color(one)[k : k + 2], 16) - int(run_color(other)[k : k + 2], 16)) ** 2 for k in (1, 3, 5)]
        assert sum(parts) > 60**2, (one, other)


def test_a_family_of_ones_own_always_has_the_same_colour():
    assert run_color("my_schedule") == run_color("my_schedule")
