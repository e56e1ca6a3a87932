"""Each factor that falls once: torch's values, the ends, and what holds at every length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    StepLR,
)

from sweeper.schedules import FACTORS, decays, lr_trace
from sweeper.schedules.clock import whole_updates

Numbers = dict[str, Any]
Phase = tuple[int, Callable[[torch.optim.Optimizer], LRScheduler]]  # its first update after the warmup; its scheduler
Oracle = tuple[Numbers, list[Phase]]
Draw = Callable[[np.random.Generator, float, int, int], Oracle]  # of the generator, peak_lr, T and D

NAMES = [name for name, factor in FACTORS.items() if factor.__module__ == decays.__name__]


def last_update(decay_steps: int, end: str) -> int:
    return decay_steps if end == "open" else max(decay_steps - 1, 1)


def draw_end(rng: np.random.Generator) -> str:
    return str(rng.choice(["open", "closed"]))


def constant(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    return {}, [(0, lambda o: LambdaLR(o, lambda t: 1.0))]


def linear(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    f, end = rng.uniform(0, 1), draw_end(rng)
    return {"decay": f, "end": end}, [(0, lambda o: LinearLR(o, 1.0, f, last_update(decay_steps, end)))]


def cosine(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    f, end = rng.uniform(0, 1), draw_end(rng)
    numbers = {"decay": f, "end": end}
    return numbers, [(0, lambda o: CosineAnnealingLR(o, last_update(decay_steps, end), f * peak_lr))]


def exponential(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    f, end = 10 ** rng.uniform(-4, -0.3), draw_end(rng)
    return {"decay": f, "end": end}, [(0, lambda o: ExponentialLR(o, f ** (1 / last_update(decay_steps, end))))]


def step(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    gamma, distance = rng.uniform(0.05, 0.9), int(rng.integers(1, 2 * decay_steps + 1))
    return {"decay": gamma, "cycle": distance / decay_steps}, [(0, lambda o: StepLR(o, distance, gamma))]


def wsd(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    f, end, shape = rng.uniform(0, 1), draw_end(rng), str(rng.choice(["linear", "cosine"]))
    cooldown = int(rng.integers(1, decay_steps))
    hold = last_update(decay_steps, end) - cooldown

    def fall(o: torch.optim.Optimizer) -> LRScheduler:
        straight = shape == "linear"
        return LinearLR(o, 1.0, f, cooldown) if straight else CosineAnnealingLR(o, cooldown, f * peak_lr)

    phases: list[Phase] = [(0, lambda o: LambdaLR(o, lambda t: 1.0)), (hold, fall)]
    numbers = {"decay": f, "end": end, "cooldown": cooldown / steps, "cooldown_shape": shape}
    return numbers, phases if hold else phases[1:]


ORACLES: dict[str, Draw] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "exponential": exponential,
    "step": step,
    "wsd": wsd,
}

# (numbers, g[0], g[T-1]) without a warmup; T = 40
T = 40
ENDPOINTS: dict[str, tuple[Numbers, float, float]] = {
    "constant": ({}, 1.0, 1.0),
    "linear": ({"decay": 0.2}, 1.0, 0.2 + 0.8 / T),
    "cosine": ({"decay": 0.2}, 1.0, 0.2 + 0.8 * np.sin(np.pi / (2 * T)) ** 2),
    "exponential": ({"decay": 0.2}, 1.0, 0.2 ** ((T - 1) / T)),
    "step": ({"decay": 0.5, "cycle": 0.25}, 1.0, 0.5**3),
    "wsd": (
        {"decay": 0.2, "cooldown": 0.25, "cooldown_shape": "1-sqrt", "end": "open"},
        1.0,
        0.2 + 0.8 * (1 - np.sqrt(1 - 1 / 10)),
    ),
}


def test_every_factor_has_an_oracle_and_ends() -> None:
    assert set(NAMES) == set(ORACLES) == set(ENDPOINTS)


@pytest.mark.parametrize("warm", [False, True], ids=["bare", "warmup"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_its_oracle(name: str, warm: bool, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng([NAMES.index(name), warm])
    for _ in range(20):
        steps = int(rng.integers(4, 200))
        warmup_steps = int(rng.integers(1, steps - 2)) if warm else 0
        peak_lr = 10 ** rng.uniform(-4, 1)
        numbers, phases = ORACLES[name](rng, peak_lr, steps, steps - warmup_steps)
        expected_S = torch_lr(phases, peak_lr, steps, warmup_steps)
        lr_S = lr_trace(name, {"peak_lr": peak_lr, "warmup": warmup_steps / steps, **numbers}, steps)
        np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * peak_lr)


@pytest.mark.parametrize("name", NAMES)
def test_begins_and_ends_where_its_row_says(name: str) -> None:
    numbers, first, last = ENDPOINTS[name]
    g_S = lr_trace(name, {"peak_lr": 1.0, **numbers}, T)
    assert g_S[0] == first
    assert g_S[-1] == pytest.approx(last, rel=1e-14)


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential", "wsd"])
def test_closed_reaches_its_final_value_on_the_last_update(name: str) -> None:
    lr_S = lr_trace(name, {"peak_lr": 1.0, "warmup": 0.1, "decay": 0.25, "end": "closed"}, T)
    assert lr_S[-1] == 0.25
    assert lr_S[-2] > 0.25


@pytest.mark.parametrize(
    ("shape", "k"),
    [
        ("linear", lambda v: 1 - v),
        ("1-sqrt", lambda v: 1 - np.sqrt(v)),
        ("cosine", lambda v: np.cos(np.pi * v / 2) ** 2),
        ("power", lambda v: 1 - v**3),
        ("exponential", lambda v: (0.2**v - 0.2) / 0.8),
    ],
)
def test_a_cooldown_falls_along_its_shape(shape: str, k: Callable[[Any], Any]) -> None:
    numbers: Numbers = {
        "cooldown": 0.5,
        "cooldown_shape": shape,
        "cooldown_power": 3.0,
        "cooldown_ratio": 0.2,
        "decay": 0.1,
    }
    lr_S = lr_trace("wsd", {"peak_lr": 2.0, "end": "open", **numbers}, 20)
    v_S = np.arange(10) / 10
    np.testing.assert_array_equal(lr_S[:10], 2.0)
    np.testing.assert_allclose(lr_S[10:], 2.0 * (0.1 + 0.9 * k(v_S)), rtol=1e-14)


def test_a_cooldown_is_a_fraction_of_the_run_and_starts_after_the_warmup_at_the_earliest() -> None:
    half_S = lr_trace("wsd", {"peak_lr": 1.0, "warmup": 0.5, "cooldown": 0.3, "end": "open"}, 100)
    assert np.flatnonzero(half_S == 1.0).tolist() == list(range(50, 71))  # the fall begins at 70, with v = 0
    long_S = lr_trace("wsd", {"peak_lr": 1.0, "warmup": 0.5, "cooldown": 0.9}, 100)
    assert np.flatnonzero(long_S == 1.0).tolist() == [50]
    assert long_S[-1] == 0.0


def test_one_update_of_cooldown_falls_if_closed_and_never_if_open() -> None:
    numbers = {"peak_lr": 1.0, "cooldown": 0.01}
    assert lr_trace("wsd", {**numbers, "end": "closed"}, 100)[-2:].tolist() == [1.0, 0.0]
    assert lr_trace("wsd", {**numbers, "end": "open"}, 100).min() == 1.0


def test_the_distance_of_drops_is_rounded_to_whole_updates() -> None:
    lr_S = lr_trace("step", {"peak_lr": 1.0, "decay": 0.5, "cycle": 0.29}, 100)
    assert np.flatnonzero(np.diff(lr_S)).tolist() == [28, 57, 86]
    assert whole_updates(0.29, 100) == 29
