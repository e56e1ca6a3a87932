"""Each factor that rises: torch's values, the ends, and cycles that end with the run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler, OneCycleLR

from sweeper.schedules import FACTORS, cycles, lr_trace
from sweeper.schedules.numbers import parameters

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


ORACLES: dict[str, Draw] = {"sgdr": sgdr, "onecycle": onecycle}

# (numbers, g[0], g[T-1]) without a warmup; T = 40
T = 40
ENDPOINTS: dict[str, tuple[Numbers, float, float]] = {
    "sgdr": ({"cycle": 0.25, "end_factor": 0.1}, 1.0, 0.1 + 0.9 * np.sin(np.pi / (2 * 10)) ** 2),
    "onecycle": ({"div_factor": 20.0, "decay": 1e-3}, 1 / 20, 1e-3),
}


def test_every_factor_has_an_oracle_and_ends() -> None:
    assert set(NAMES) == set(ORACLES) == set(ENDPOINTS)


@pytest.mark.parametrize("warm", [False, True], ids=["bare", "warmup"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_its_oracle(name: str, warm: bool, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng([NAMES.index(name), warm])
    builtin = "warmup" in parameters(FACTORS[name])
    for _ in range(20):
        steps = int(rng.integers(4, 200))
        warmup_steps = int(rng.integers(1, steps - 2)) if warm and not builtin else 0
        peak_lr = 10 ** rng.uniform(-4, 1)
        numbers, phases = ORACLES[name](rng, peak_lr, steps, steps - warmup_steps)
        expected_S = torch_lr(phases, peak_lr, steps, warmup_steps)
        prefix = {} if builtin else {"warmup": warmup_steps / steps}
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
