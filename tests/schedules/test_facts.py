"""What tables say of a schedule."""

import math
from typing import Any

import pytest

from sweeper.schedules import ENDS_HIGH, FACTORS, cycles_run, family, height_at_end


def facts(factor: str, steps: int = 1000, **numbers: Any) -> tuple[float, float | None]:
    built = family("f", {"factor": factor, "peak_lr": 2.0, "warmup": 0.2, **numbers})
    return height_at_end(built, {}, steps), cycles_run(built, {}, steps)


@pytest.mark.parametrize("factor", sorted(set(FACTORS) - {"range_test"}))  # which rises to the end
def test_a_family_at_its_defaults_ends_low(factor: str) -> None:
    height, _ = facts(factor)
    assert 0 <= height < ENDS_HIGH


def test_a_cycle_cut_short_ends_high() -> None:
    height, cycles = facts("sgdr", cycle=2.0, cycle_fit="free", end_factor=0.1)
    assert height == pytest.approx(0.45, abs=1e-2)
    assert cycles == 0.5


def test_a_run_that_stops_after_a_restart_ends_high() -> None:
    height, cycles = facts("sgdr", cycle=0.3, cycle_fit="free")
    assert height > 0.7
    assert cycles == pytest.approx(800 / 240)
    assert facts("sgdr", cycle=0.3)[0] < 1e-3


def test_an_open_cooldown_of_one_update_never_falls_and_ends_high() -> None:
    assert facts("wsd", cooldown=0.001, end="open")[0] == 1.0
    assert facts("wsd", cooldown=0.001, end="closed")[0] == 0.0


def test_a_short_open_decay_ends_high() -> None:
    assert facts("linear", steps=4, warmup=0, decay=0)[0] == 0.25


def test_a_high_floor_is_no_high_end() -> None:
    assert facts("cosine", decay=0.9)[0] < 1e-3


@pytest.mark.parametrize(
    ("factor", "numbers", "cycles"),
    [
        ("cosine", {}, None),
        ("step", {"cycle": 0.4}, 2.5),
        ("step", {"cycle": 4.0}, 0.25),
        ("sgdr", {"cycle": 0.3}, 3.0),
        ("clr", {"cycle": 0.3}, 3.0),
        ("cosine_waves", {"cycle": 0.3}, 3.5),
        ("cosine_waves", {"cycle": 0.4, "cycle_fit": "free"}, 2.5),
        ("sgdr", {"cycle": 0.125, "cycle_mult": 2, "cycle_fit": "free"}, math.log2(1 + 8)),
        ("sgdr", {"cycle": 0.125, "cycle_mult": 2}, 3.0),
    ],
)
def test_cycles_of_a_run(factor: str, numbers: dict[str, Any], cycles: float | None) -> None:
    assert facts(factor, **numbers)[1] == (None if cycles is None else pytest.approx(cycles, rel=1e-14))


def test_by_epochs_a_run_has_fewer_lrs_and_ends_higher() -> None:
    """96 updates are four epochs of 24 or five of 20, each with one LR: three quarters, four fifths of the way down."""
    built = family("f", {"factor": "linear", "peak_lr": 2.0})
    assert height_at_end(built, {}, 96) == pytest.approx(1 / 96)
    assert height_at_end(built, {}, 96, epoch=24) == 0.25
    assert height_at_end(built, {}, 96, epoch=20) == pytest.approx(0.2)
    drops = family("f", {"factor": "step", "peak_lr": 2.0, "cycle": 0.1})
    assert cycles_run(drops, {}, 96) == pytest.approx(9.6)
    assert cycles_run(drops, {}, 96, epoch=24) == 4.0  # a distance of one epoch at least


def test_a_floor_that_is_held_is_no_high_end() -> None:
    assert facts("exponential", decay=1e-3, floor=0.3)[0] == 0.0
    assert facts("exponential", decay=0.5)[0] < ENDS_HIGH
