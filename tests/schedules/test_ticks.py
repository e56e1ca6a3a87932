"""No family becomes another schedule in a short run: the ticks that each length needs, and how they bound a space."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from sweeper.schedules import FACTORS, cycles_run, family, fit_to_run, lr_trace
from sweeper.schedules.families import parameters_of
from sweeper.schedules.numbers import parameters
from sweeper.types import Choice, Dimension, Family, Floats, InputError, Range, Value, first_of

NEEDED = {  # (ticks, ticks that follow) by factor and length; the other lengths show in a single tick
    ("clr", "cycle"): (4, 0),
    ("cosine_waves", "cycle"): (4, 0),
    ("cycle_warmup_cosine", "cycle"): (3, 0),
    ("sawtooth", "cycle"): (2, 0),
    ("sgdr", "cycle"): (2, 0),
    ("power_wsd", "cooldown"): (2, 0),
    ("swa_tail", "cooldown"): (2, 0),
    ("wsd", "cooldown"): (2, 0),
    ("noam", "warmup"): (2, 1),
    ("onecycle", "warmup"): (2, 1),
    ("multistep", "milestones"): (0, 1),
}
SAME = {"constant"}  # factors that promise a constant
PEAKS = {  # the highest LR relative to peak_lr, if it is not the peak itself up to `tanh`'s tail
    "clr": 0.8,  # a triangle of 5 ticks has its tip between two of them; with more ticks it is nearer
    "onecycle": 0.95,  # the same, with the warmup of at most 0.45 in a run of 4 ticks
    "range_test": 0.0,  # it would reach its peak after the run
}
CONF = Path(__file__).parents[2] / "conf"
NAMES = [path.stem for path in sorted((CONF / "schedule").glob("*.yaml")) if "factor:" in path.read_text()]


@cache
def _family(name: str) -> Family:
    config = OmegaConf.create({"schedule": OmegaConf.load(CONF / "schedule" / f"{name}.yaml")})
    config.warmup = OmegaConf.load(CONF / "config.yaml").warmup
    config.optimizer = OmegaConf.load(CONF / "optimizer" / "sgd.yaml")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return family(name, {**plain["schedule"][name], **({"budget": 60} if name == "wall_time" else {})})


def _shape(built: Family, steps: int, **params: Value) -> Floats:
    """Return the LR of a trial relative to peak_lr, with every other hyperparameter at its first value."""
    others = {name: first_of(dimension) for name, dimension in built.space.items()}
    if others.get("scale_mode") == "iterations":
        others["decay"] = 1.0  # its peaks fall within the first cycle too
    return lr_trace(built, {**others, **params, "peak_lr": 1.0}, steps)


def _lengths(built: Family) -> list[str]:
    return [name for name, one in parameters_of(built).items() if one.bounds.ticks or one.bounds.left]


def test_every_length_that_needs_ticks_is_known() -> None:
    declared = {
        (name, one.name): (one.bounds.ticks, one.bounds.left)
        for name, factor in FACTORS.items()
        for one in parameters(factor).values()
        if one.bounds.ticks or one.bounds.left
    }
    assert declared == NEEDED


def test_every_fraction_of_a_run_was_considered() -> None:
    """A new factor with a length fails here until its author decides how many ticks it needs."""
    one_tick = {
        *[("stlr", "warmup"), ("step", "cycle")],
        *[("power_wsd", "timescale"), ("cycle_warmup_cosine", "cycle_warmup")],
    }
    fractions = {
        (name, length)
        for name, factor in FACTORS.items()
        for length in inspect.signature(factor).parameters
        if length in ("warmup", "cycle", "cooldown", "timescale", "milestones", "cycle_warmup")
    }
    assert fractions == NEEDED.keys() | one_tick


# --- at the smallest permitted length ------------------------------------------------------------------------------


def _at_shortest(name: str) -> list[tuple[int, str, Floats]]:
    """Return the shapes at the low end of each length, in every short run in which the family fits."""
    shapes = []
    for steps in range(2, 60):
        try:
            built = fit_to_run(_family(name), steps)
        except InputError:
            continue
        lengths = [one for one in _lengths(built) if isinstance(built.space[one], Range)] or ["peak_lr"]
        for ramp in _warmups(built):
            shapes += [(steps, one, _shape(built, steps, **{one: _low(built.space[one]), **ramp})) for one in lengths]
    return shapes


def _low(dimension: Dimension | Value) -> Value:
    return dimension.low if isinstance(dimension, Range) else first_of(dimension)


def _warmups(built: Family) -> list[dict[str, Value]]:
    found = built.space.get("warmup")
    return [{"warmup": one} for one in found.options] if isinstance(found, Choice) else [{}]


@pytest.mark.parametrize("name", NAMES)
def test_at_its_shortest_a_family_reaches_its_peak_and_is_no_constant(name: str) -> None:
    shapes = _at_shortest(name)
    assert len(shapes) >= 50, "it fits into nearly every run"
    factor = next(one for one, function in FACTORS.items() if function is _family(name).factor)
    for steps, length, lr_S in shapes:
        peak = int(lr_S.argmax())
        assert lr_S[peak] >= PEAKS.get(factor, 0.99), (steps, length)
        if factor not in SAME:
            after_ramp = lr_S[peak:] if _family(name).warmup == "prefix" else lr_S
            assert np.ptp(after_ramp) > 1e-3 * lr_S[peak], (steps, length, lr_S)


@pytest.mark.parametrize(("factor", "length"), NEEDED)
def test_a_tick_less_is_another_schedule(factor: str, length: str) -> None:
    """The declared number is needed: with one tick less, what the family promises is lost."""
    steps = 24
    ticks = NEEDED[factor, length][0] - 1
    fit_ = {"cycle_fit": "free"} if "cycle_fit" in parameters(FACTORS[factor]) else {}
    ends = {"end": "open"} if length == "cooldown" and factor != "swa_tail" else {}
    value: Value = (1 - 0.4 / steps,) if length == "milestones" else ticks / steps
    one = family("x", {"factor": factor, "peak_lr": 1.0, **fit_, **ends, **({"exponent": 1e-9} if ends and
        factor == "power_wsd" else {}), length: value})  # fmt: skip
    lr_S = _shape(one, steps)
    lost = {
        "clr": lr_S.max() < 0.75,
        "cosine_waves": not np.isclose(lr_S, 0).any(),
        "cycle_warmup_cosine": not ((lr_S > 1e-9) & (lr_S < 1 - 1e-9)).any(),
        "noam": lr_S.argmax() == 0,
        "onecycle": lr_S.argmax() == 0,
        "swa_tail": not ((lr_S > lr_S.min()) & (lr_S < 1)).any(),  # a jump
    }
    assert lost.get(factor, bool(np.ptp(lr_S) < 1e-6))


# --- a sweep's space ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("steps", "epoch"), [(1000, None), (300, None), (1000, 10.0)])
def test_in_runs_of_usual_length_the_space_is_the_one_as_written(name: str, steps: int, epoch: float | None) -> None:
    assert fit_to_run(_family(name), steps, epoch) == _family(name)


@pytest.mark.parametrize("steps", [4, 8, 10, 15, 20, 30])
@pytest.mark.parametrize(("factor", "length"), [one for one in NEEDED if one[1] != "milestones"])
def test_a_searched_length_has_at_least_the_ticks_that_it_needs(factor: str, length: str, steps: int) -> None:
    ticks, left = NEEDED[factor, length]
    node = {"factor": factor, "peak_lr": 1.0, **({"cycle_fit": "free"} if length == "cycle" else {})}
    searched = fit_to_run(family("x", {**node, length: {"low": 1e-4, "high": 0.99}}), steps).space[length]
    assert isinstance(searched, Range)
    assert searched.low * steps == pytest.approx(min(ticks, 0.99 * steps))
    assert searched.high == (1 - left / steps if left else 0.99)


@pytest.mark.parametrize("cycle_mult", [1, 1.5, 2])
@pytest.mark.parametrize("steps", [4, 8, 10, 15, 20, 30])
@pytest.mark.parametrize("factor", [factor for factor, length in NEEDED if length == "cycle"])
def test_as_many_cycles_are_fitted_as_have_the_ticks_that_they_need(factor: str, steps: int, cycle_mult: float) -> None:
    ticks, _ = NEEDED[factor, "cycle"]
    mult = cycle_mult if "cycle_mult" in parameters(FACTORS[factor]) else 1
    node = {"factor": factor, "peak_lr": 1.0, **({} if mult == 1 else {"cycle_mult": mult})}
    built = fit_to_run(family("x", {**node, "cycle": {"low": 1e-4, "high": 2}}), steps)
    count = cycles_run(built, {"cycle": _low(built.space["cycle"])}, steps)
    assert count is not None

    def first(cycles: float) -> float:
        return steps * (1 / cycles if mult == 1 else (mult - 1) / (mult**cycles - 1))

    assert first(count) >= ticks * (1 - 1e-12)
    assert first(count + 1) < ticks, "one more would be too short"


def test_lengths_after_the_warmup_are_bounded_for_the_longest_one() -> None:
    built = family(
        "x", {"factor": "sgdr", "peak_lr": 1.0, "warmup": {"choice": [0, 0.2]}, "cycle": {"low": 0.05, "high": 1}}
    )
    assert fit_to_run(built, 10).space["cycle"] == Range(2 / 8, 1, whole=False)
    overlay = replace(built, space={**built.space, "warmup_join": "overlay"})
    assert fit_to_run(overlay, 10).space["cycle"] == Range(2 / 10, 1, whole=False)
    assert fit_to_run(built, 38).space == built.space, "0.05 of 30 rounds to two"
    assert fit_to_run(built, 100, epoch=10.0).space == fit_to_run(built, 10).space, "ten epochs are ten ticks"


def test_a_searched_warmup_leaves_two_ticks() -> None:
    built = family("x", {"factor": "cosine", "peak_lr": 1.0, "warmup": {"low": 0, "high": 0.99}})
    assert fit_to_run(built, 10).space["warmup"] == Range(0, 0.8, whole=False)


REFUSED = [
    ({"factor": "clr", "cycle": 0.1}, "cycle=0.1: 1 of 10 epochs, but the shape needs 4. Write at least 0.5, or train"),
    ({"factor": "sgdr", "cycle": {"choice": [0.1, 0.5]}}, "cycle=0.1: 1 of 10 epochs, but the shape needs 2. Write at"),
    ({"factor": "sgdr", "cycle": {"low": 0.1, "high": 0.5, "step": 0.1}}, "cycle=0.1: 1 of 10 epochs"),
    ({"factor": "sgdr", "cycle": {"low": 0.01, "high": 0.1}}, "cycle.high=0.1: 1 of 10 epochs, but the shape needs 2"),
    ({"factor": "wsd", "cooldown": 0.05}, "cooldown=0.05: 1 of 10 epochs, but the shape needs 2. Write at least 0.2"),
    ({"factor": "onecycle", "warmup": 0.1}, "warmup=0.1: 1 of 10 epochs, but the shape needs 2"),
    (
        {"factor": "noam", "warmup": 0.98},
        "warmup=0.98: leaves 0 of 10 epochs, but the shape needs 1. Write at most 0.9",
    ),
    (
        {"factor": "cosine", "warmup": 0.9},
        "warmup=0.9: leaves 1 of 10 epochs, but the shape needs 2. Write at most 0.8",
    ),
    ({"factor": "cosine", "warmup": {"low": 0.85, "high": 0.95}}, "warmup.low=0.85: leaves 1 of 10 epochs"),
    (
        {"factor": "multistep", "milestones": [0.5, 0.97]},
        "milestones=0.97: leaves 0 of 10 epochs, but the shape needs 1",
    ),
]


@pytest.mark.parametrize(("node", "message"), REFUSED)
def test_what_does_not_fit_into_the_run_is_refused_with_the_way_out(node: dict[str, Any], message: str) -> None:
    built = family("x", {"peak_lr": 0.1, **node})
    with pytest.raises(InputError) as raised:
        fit_to_run(built, 100, epoch=10.0)
    assert str(raised.value).startswith(f"schedule.x.{message}")
    assert str(raised.value).endswith(", or train longer, or leave this family out")
    assert fit_to_run(built, 10_000).space == built.space, "in a long run it fits"


def test_a_run_too_short_for_any_length_is_refused() -> None:
    built = family("x", {"factor": "clr", "peak_lr": 0.1, "cycle": {"low": 0.05, "high": 1}})
    with pytest.raises(InputError, match=r"cycle\.high=1: 3 of 3 updates, but the shape needs 4\. Train longer, or"):
        fit_to_run(built, 3)
