"""Each factor that rises: torch's values, the ends, and cycles that end with the run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_optimizer.lr_scheduler import CosineAnnealingWarmupRestarts
from pytorch_scheduler import SlantedTriangularScheduler
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
)
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup

from sweeper.schedules import FACTORS, cycles, lr_trace

Numbers = dict[str, Any]
Phase = tuple[int, Callable[[torch.optim.Optimizer], LRScheduler]]  # its first update after the warmup; its scheduler
Oracle = tuple[Numbers, list[Phase]]
Draw = Callable[[np.random.Generator, float, int, int], Oracle]  # of the generator, peak_lr, T and D

NAMES = [name for name, factor in FACTORS.items() if factor.__module__ == cycles.__name__]


def sgdr(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    first, mult, f = int(rng.integers(1, decay_steps + 9)), int(rng.integers(1, 4)), rng.uniform(0, 1)
    numbers = {"cycle": first / decay_steps, "cycle_mult": mult, "end_factor": f, "cycle_fit": "free"}
    return numbers, [(0, lambda o: CosineAnnealingWarmRestarts(o, first, mult, f * peak_lr))]


def onecycle(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    three_phase, anneal = bool(rng.integers(2)), str(rng.choice(["cos", "linear"]))
    pct = rng.uniform(1.5 / steps, 0.5 if three_phase else 0.95)
    div, final_div = 10 ** rng.uniform(0.3, 2), 10 ** rng.uniform(1, 4)
    numbers = {"warmup": pct, "decay": 1 / (div * final_div), "div_factor": div, "anneal": anneal}

    def build(o: torch.optim.Optimizer) -> LRScheduler:
        return OneCycleLR(
            o,
            peak_lr,
            total_steps=steps,
            pct_start=pct,
            anneal_strategy=anneal,  # type: ignore[arg-type]  # a drawn word
            div_factor=div,
            final_div_factor=final_div,
            three_phase=three_phase,
            cycle_momentum=False,
        )

    return {**numbers, "three_phase": three_phase}, [(0, build)]


def sawtooth(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    """Straight lines one after the other, each from its own peak."""
    first, mult, gamma = int(rng.integers(2, decay_steps + 9)), int(rng.integers(1, 4)), rng.uniform(0.3, 1)
    f = rng.uniform(0, 0.3)
    numbers = {"cycle": first / decay_steps, "cycle_mult": mult, "decay": gamma, "end_factor": f, "cycle_fit": "free"}

    def line(peak: float, length: int) -> Callable[[torch.optim.Optimizer], LRScheduler]:
        return lambda o: LinearLR(o, peak, f, length)

    phases: list[Phase] = []
    start, length = 0, first
    while start < decay_steps:
        phases.append((start, line(gamma ** len(phases), length)))
        start, length = start + length, length * mult
    return numbers, phases


def clr(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    up, down = (int(n) for n in rng.integers(1, decay_steps, 2))
    b, mode = rng.uniform(0, 0.5), str(rng.choice(["triangular", "triangular2", "exp_range"]))
    whole_run = 10 ** rng.uniform(-1.3, 0)
    numbers = {
        "cycle": (up + down) / decay_steps,
        "up_share": up / (up + down),
        "base_factor": b,
        "scale_mode": "iterations" if mode == "exp_range" else "cycle",
        "decay": {"triangular": 1.0, "triangular2": 0.5, "exp_range": whole_run}[mode],
        "cycle_fit": "free",
    }

    def build(o: torch.optim.Optimizer) -> LRScheduler:
        return CyclicLR(
            o,
            b * peak_lr,
            peak_lr,
            up,
            down,
            mode=mode,  # type: ignore[arg-type]  # a drawn word
            gamma=whole_run ** (1 / decay_steps),
            cycle_momentum=False,
        )

    return numbers, [(0, build)]


def cosine_waves(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    """torch's cosine rises again after T_max, and falls again."""
    half, f = int(rng.integers(1, 2 * decay_steps)), rng.uniform(0, 1)
    numbers = {"cycle": 2 * half / decay_steps, "end_factor": f, "cycle_fit": "free"}
    return numbers, [(0, lambda o: CosineAnnealingLR(o, half, f * peak_lr))]


def cycle_warmup_cosine(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    length, gamma, f = int(rng.integers(3, decay_steps + 9)), rng.uniform(0.5, 1), rng.uniform(0, 0.2)
    rise = int(rng.integers(0, length))
    numbers = {"cycle": length / decay_steps, "cycle_warmup": rise / length, "decay": gamma, "end_factor": f}
    restarts = (length, 1.0, peak_lr, f * peak_lr, rise, gamma)
    return {**numbers, "cycle_fit": "free"}, [(0, lambda o: CosineAnnealingWarmupRestarts(o, *restarts))]


def noam(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    rise = int(rng.integers(1, steps))
    return {"warmup": rise / steps}, [
        (0, lambda o: LambdaLR(o, lambda t: rise**0.5 * min((t + 1) ** -0.5, (t + 1) * rise**-1.5)))
    ]


def stlr(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    cut, ratio = int(rng.integers(1, steps)), 10 ** rng.uniform(0.6, 2)
    share = (cut + 0.25) / steps  # rounds to cut, and its floor is cut
    return {"warmup": share, "decay": 1 / ratio}, [(0, lambda o: SlantedTriangularScheduler(o, steps, share, ratio))]


def range_test(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    lowest = 10 ** rng.uniform(-8, -1)

    def build(o: torch.optim.Optimizer) -> LRScheduler:
        o.param_groups[0]["lr"] = lowest * peak_lr
        return ExponentialLR(o, lowest ** (-1 / steps))

    return {"start_factor": lowest}, [(0, build)]


ORACLES: dict[str, Draw] = {
    "sgdr": sgdr,
    "onecycle": onecycle,
    "sawtooth": sawtooth,
    "clr": clr,
    "cosine_waves": cosine_waves,
    "cycle_warmup_cosine": cycle_warmup_cosine,
    "noam": noam,
    "stlr": stlr,
    "range_test": range_test,
}

# These rise by themselves and are not put behind a prefix warmup.
ALONE = {"onecycle", "clr", "cycle_warmup_cosine", "noam", "stlr", "range_test"}

# (numbers, g[0], g[T-1]) without a warmup; T = 40
T = 40
ENDPOINTS: dict[str, tuple[Numbers, float, float]] = {
    "sgdr": ({"cycle": 0.25, "end_factor": 0.1}, 1.0, 0.1 + 0.9 * np.sin(np.pi / (2 * 10)) ** 2),
    "onecycle": ({"div_factor": 20.0, "decay": 1e-3}, 1 / 20, 1e-3),
    "sawtooth": ({"cycle": 0.25, "end_factor": 0.1, "decay": 0.5}, 1.0, 0.1 + 0.025 / 10),
    "cycle_warmup_cosine": (
        {"cycle": 0.25, "end_factor": 0.1, "cycle_warmup": 0.2},
        0.1,
        0.1 + 0.9 * np.sin(np.pi / (2 * 8)) ** 2,
    ),
    "clr": ({"cycle": 0.25, "base_factor": 0.1}, 0.1, 0.1 + 0.9 / 5),
    "cosine_waves": ({"cycle": 0.4, "end_factor": 0.1}, 1.0, 0.1 + 0.9 * np.sin(np.pi * 2.5 / T) ** 2),
    "noam": ({"warmup": 0.25}, 0.1, 0.5),
    "stlr": ({"warmup": 0.25, "decay": 0.04}, 0.04, (1 + 24 / 30) / 25),
    "range_test": ({"start_factor": 1e-4}, 1e-4, 1e-4 ** (1 / T)),
}


def test_every_factor_has_an_oracle_and_ends() -> None:
    assert set(NAMES) == set(ORACLES) == set(ENDPOINTS)


@pytest.mark.parametrize(
    ("name", "warm"), [(name, warm) for name in NAMES for warm in (False, True) if not warm or name not in ALONE]
)
def test_equals_its_oracle(name: str, warm: bool, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng([NAMES.index(name), warm])
    for _ in range(20):
        steps = int(rng.integers(4, 200))
        warmup_steps = int(rng.integers(1, steps - 2)) if warm else 0
        peak_lr = 10 ** rng.uniform(-4, 1)
        numbers, phases = ORACLES[name](rng, peak_lr, steps, steps - warmup_steps)
        expected_S = torch_lr(phases, peak_lr, steps, warmup_steps)
        prefix = {} if name in ALONE else {"warmup": warmup_steps / steps}
        lr_S = lr_trace(name, {"peak_lr": peak_lr, **prefix, **numbers}, steps)
        np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * peak_lr)


@pytest.mark.parametrize("name", NAMES)
def test_begins_and_ends_where_its_row_says(name: str) -> None:
    numbers, first, last = ENDPOINTS[name]
    g_S = lr_trace(name, {"peak_lr": 1.0, **numbers}, T)
    assert g_S[0] == pytest.approx(first, rel=1e-14)
    assert g_S[-1] == pytest.approx(last, rel=1e-13)


@pytest.mark.parametrize("cycle", [0.05, 0.2857, 0.4, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("mult", [1, 1.5, 2, 3])
@pytest.mark.parametrize("steps", [7, 100, 1001])
def test_fitted_cycles_end_with_the_run(steps: int, mult: float, cycle: float) -> None:
    """One more update would be a restart: the trace of a run is a trough at its end, a peak at its beginning."""
    numbers = {"peak_lr": 1.0, "cycle": cycle, "cycle_mult": mult}
    lr_S = lr_trace("sgdr", numbers, steps)
    peaks = np.flatnonzero(lr_S == 1.0)
    lengths = np.diff([*peaks, steps])
    last = lengths[-1]
    assert lr_S[-1] == pytest.approx(np.sin(np.pi / (2 * last)) ** 2)
    assert (np.abs(lengths[1:] - mult * lengths[:-1]) <= (1 + mult)).all()  # an edge is rounded by half an update


@pytest.mark.parametrize(("cycle", "count"), [(0.05, 20), (0.0526, 19), (0.3, 3), (0.4, 3), (0.41, 2), (0.8, 1)])
@pytest.mark.parametrize("steps", [60, 1000, 9999])
def test_the_number_of_fitted_cycles_is_the_nearest_one_at_every_length(steps: int, cycle: float, count: int) -> None:
    lr_S = lr_trace("sgdr", {"peak_lr": 1.0, "cycle": cycle}, steps)
    assert np.count_nonzero(lr_S == 1.0) == count


@pytest.mark.parametrize("name", ["sgdr", "sawtooth", "clr", "cosine_waves", "cycle_warmup_cosine"])
@pytest.mark.parametrize("cycle", [0.05, 0.3, 0.77, 2.0])
def test_every_cyclic_family_ends_at_the_bottom_of_a_cycle(name: str, cycle: float) -> None:
    numbers = {"peak_lr": 1.0, "cycle": cycle}
    assert lr_trace(name, numbers, 2000)[-1] < 0.15
    assert lr_trace(name, {**numbers, "cycle_fit": "free"}, 2000)[:500].max() > 0.3


def test_waves_are_fitted_to_half_waves() -> None:
    lr_S = lr_trace("cosine_waves", {"peak_lr": 1.0, "cycle": 0.3}, 700)  # 1/0.3 = 3.33 -> 3.5 waves of 200
    np.testing.assert_allclose(lr_S[::100], [1, 0, 1, 0, 1, 0, 1], atol=1e-14)


def test_a_cycle_rises_for_its_share() -> None:
    lr_S = lr_trace("clr", {"peak_lr": 1.0, "cycle": 0.5, "up_share": 0.2, "base_factor": 0.0}, 20)
    np.testing.assert_allclose(lr_S[:10], [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125], atol=1e-15)
    np.testing.assert_allclose(lr_S[10:], lr_S[:10])


def test_later_cycles_start_lower() -> None:
    lr_S = lr_trace("sgdr", {"peak_lr": 2.0, "cycle": 0.25, "decay": 0.5}, 40)
    np.testing.assert_array_equal(lr_S[::10], [2.0, 1.0, 0.5, 0.25])


def test_growing_cycles_restart_at_whole_powers() -> None:
    """torch's and timm's logarithm puts update 121 of T_mult = 3 at the end of a cycle, not at its start."""
    lr_S = lr_trace("sgdr", {"peak_lr": 1.0, "cycle": 1 / 400, "cycle_mult": 3, "cycle_fit": "free"}, 400)
    assert np.flatnonzero(lr_S == 1.0).tolist() == [0, 1, 4, 13, 40, 121, 364]


def test_a_cycle_longer_than_the_run_is_cut_short_only_if_free() -> None:
    numbers = {"peak_lr": 1.0, "cycle": 2.0}
    assert lr_trace("sgdr", {**numbers, "cycle_fit": "free"}, 100)[-1] > 0.5
    assert lr_trace("sgdr", {**numbers, "cycle_fit": "fitted"}, 100)[-1] < 0.01


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize(("steps", "warmup"), [(4, 0.25), (2, 0.5), (3, 1 / 3), (3, 0.1)])
def test_a_rise_of_at_most_one_update_is_none(steps: int, warmup: float, three_phase: bool) -> None:
    """torch divides by zero at warmup * steps == 1."""
    lr_S = lr_trace("onecycle", {"peak_lr": 1.0, "warmup": warmup, "three_phase": three_phase}, steps)
    assert lr_S[0] == 1.0
    assert (np.diff(lr_S) < 0).all()
    assert lr_S[-1] == 4e-6


def test_an_open_onecycle_would_end_one_update_later() -> None:
    """fastai's clock: x = t/T."""
    lr_S = lr_trace("onecycle", {"peak_lr": 1.0, "warmup": 0.5, "decay": 0.0, "anneal": "linear", "end": "open"}, 10)
    np.testing.assert_allclose(lr_S[5:], 1 - np.arange(5) / 5, rtol=1e-14)
    np.testing.assert_allclose(lr_S[:6], 0.04 + 0.96 * np.arange(6) / 5, rtol=1e-14)


def transformers_waves(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    """torch's recursion drifts past T_max, by 5e-11 in this run: here in closed form."""
    n, f = rng.uniform(0.5, 4), rng.uniform(0, 1)
    numbers = {"cycle": 1 / n, "end_factor": f, "cycle_fit": "free"}

    def build(o: torch.optim.Optimizer) -> LRScheduler:
        return get_cosine_with_min_lr_schedule_with_warmup(o, 0, steps, num_cycles=n, min_lr_rate=f)

    return numbers, [(0, build)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_equals_its_oracle_to_the_end_of_ten_thousand_updates(name: str, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng([NAMES.index(name), 2])
    numbers, phases = (ORACLES | {"cosine_waves": transformers_waves})[name](rng, 0.3, 10_000, 10_000)
    lr_S = lr_trace(name, {"peak_lr": 0.3, **numbers}, 10_000)
    np.testing.assert_allclose(lr_S, torch_lr(phases, 0.3, 10_000), rtol=0, atol=1e-12 * 0.3)
