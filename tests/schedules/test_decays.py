"""Each factor that falls once: torch's values, the ends, and what holds at every length."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax  # type: ignore[import-untyped]  # it has no types
import pytest
import scipy.interpolate
import torch
from pytorch_scheduler import HyperbolicLRScheduler, RexScheduler
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR

from sweeper.schedules import FACTORS, decays, lr_trace
from sweeper.schedules.clock import whole_updates
from sweeper.schedules.numbers import parameters

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


def polynomial(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    p, end = 10 ** rng.uniform(-0.5, 0.6), draw_end(rng)
    return {"power": p, "end": end}, [(0, lambda o: PolynomialLR(o, last_update(decay_steps, end), p))]


def hyperbolic(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    f, upper = rng.uniform(0, 1), int(rng.integers(decay_steps, 3 * decay_steps))
    numbers = {"decay": f, "upper": upper / decay_steps}
    return numbers, [(0, lambda o: HyperbolicLRScheduler(o, decay_steps, upper, f * peak_lr))]


def rex(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    return {}, [(0, lambda o: RexScheduler(o, decay_steps))]


def inverse_time(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    kappa, end = 10 ** rng.uniform(-1, 3), draw_end(rng)
    last = last_update(decay_steps, end)
    return {"decay": 1 / (1 + kappa), "end": end}, [(0, lambda o: LambdaLR(o, lambda t: 1 / (1 + kappa * t / last)))]


def multistep(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    gamma, count = rng.uniform(0.05, 0.9), int(rng.integers(1, 4))
    milestones = sorted(int(m) for m in rng.integers(1, max(decay_steps, 2), count))
    numbers = {"decay": gamma, "milestones": tuple(min(m / decay_steps, 0.999) for m in milestones)}
    return numbers, [(0, lambda o: MultiStepLR(o, milestones, gamma))]


def swa_tail(rng: np.random.Generator, peak_lr: float, steps: int, decay_steps: int) -> Oracle:
    f, fall, anneal = rng.uniform(0, 0.9), int(rng.integers(1, decay_steps)), str(rng.choice(["cos", "linear"]))
    numbers = {"decay": f, "cooldown": fall / steps, "anneal": anneal}
    return numbers, [(0, lambda o: SWALR(o, f * peak_lr, fall, anneal))]  # type: ignore[arg-type]  # a drawn word


# Each gives numbers and torch's schedulers for them; with a warmup these follow a LinearLR.
TORCH: dict[str, Draw] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "exponential": exponential,
    "step": step,
    "wsd": wsd,
    "polynomial": polynomial,
    "hyperbolic": hyperbolic,
    "rex": rex,
    "inverse_time": inverse_time,
    "multistep": multistep,
    "swa_tail": swa_tail,
}

Direct = Callable[[np.random.Generator, float, int], tuple[Numbers, str, Numbers]]  # of the generator, peak_lr and T


def k_decay(rng: np.random.Generator, peak_lr: float, steps: int) -> tuple[Numbers, str, Numbers]:
    k, f, p = 10 ** rng.uniform(-0.5, 0.6), rng.uniform(0, 1), 10 ** rng.uniform(-0.5, 0.6)
    timm = {"t_initial": steps, "k_decay": k, "lr_min": f * peak_lr}
    if rng.integers(2):
        return {"k": k, "decay": f}, "CosineLRScheduler", timm
    return {"k": k, "decay": f, "shape": "polynomial", "power": p}, "PolyLRScheduler", {**timm, "power": p}


def tanh(rng: np.random.Generator, peak_lr: float, steps: int) -> tuple[Numbers, str, Numbers]:
    low, up, f = rng.uniform(-8, -2), rng.uniform(1, 5), rng.uniform(0, 1)
    timm = {"t_initial": steps, "lb": low, "ub": up, "lr_min": f * peak_lr}
    return {"lower": low, "upper": up, "decay": f}, "TanhLRScheduler", timm


def power(rng: np.random.Generator, peak_lr: float, steps: int) -> tuple[Numbers, str, Numbers]:
    """The stable phase of timm's power schedule: its cooldown of one update lies beyond the run."""
    timescale, a = rng.uniform(0.5, steps / 2), rng.uniform(0.25, 1)
    timm = {"t_initial": steps, "decay_t": 1, "stable_fn": "power", "stable_timescale": timescale, "stable_power": a}
    return {"decay": (1 + steps / timescale) ** -a, "exponent": a}, "WSDLRScheduler", timm


def power_wsd(rng: np.random.Generator, peak_lr: float, steps: int) -> tuple[Numbers, str, Numbers]:
    cooldown, timescale = int(rng.integers(1, steps)), int(rng.integers(1, steps))
    numbers: Numbers = {
        "decay": rng.uniform(0, 0.5),
        "cooldown": cooldown / steps,
        "timescale": timescale / steps,
        "exponent": rng.uniform(0.25, 1),
        "cooldown_shape": str(rng.choice(["linear", "1-sqrt", "cosine", "power", "exponential"])),
        "cooldown_power": rng.uniform(0.3, 4),
        "cooldown_ratio": rng.uniform(0.01, 0.5),
    }
    timm = {
        "t_initial": steps,
        "decay_t": cooldown,
        "lr_min": numbers["decay"] * peak_lr,
        "stable_fn": "power",
        "stable_timescale": timescale,
        "stable_power": numbers["exponent"],
        "decay_fn": str(numbers["cooldown_shape"]).replace("exponential", "exp"),
        "decay_power": numbers["cooldown_power"],
        "decay_ratio": numbers["cooldown_ratio"],
    }
    return {**numbers, "end": "open"}, "WSDLRScheduler", timm


TIMM: dict[str, Direct] = {"k_decay": k_decay, "tanh": tanh, "power": power, "power_wsd": power_wsd}

Formula = Callable[[np.random.Generator, int], tuple[Numbers, Any]]  # of the generator and T: numbers, g [T]


def cosine_exponent(rng: np.random.Generator, steps: int) -> tuple[Numbers, Any]:
    f, q = rng.uniform(0, 1), 10 ** rng.uniform(-0.5, 0.6)
    with jax.enable_x64(True):
        schedule = optax.cosine_decay_schedule(1.0, steps, f, q)
        return {"decay": f, "exponent": q}, np.array([schedule(np.float64(t)) for t in range(steps)])


def cosine_power(rng: np.random.Generator, steps: int) -> tuple[Numbers, Any]:
    """sharpDARTS' own form, (p^(c+1) - p)/(p^2 - p), which expm1 avoids."""
    f, p = rng.uniform(0, 1), 10 ** rng.uniform(0.1, 2)
    c_S = np.array([(1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps)])
    return {"decay": f, "base": p}, f + (1 - f) * (p ** (c_S + 1) - p) / (p**2 - p)


def knots(rng: np.random.Generator, steps: int) -> tuple[Numbers, Any]:
    logs = tuple(-rng.uniform(0, 8, int(rng.integers(2, 7))))
    spline = scipy.interpolate.make_interp_spline(np.linspace(0, steps, len(logs)), logs, k=1)
    return {"log_factors": logs}, np.exp(spline(np.arange(steps)))


FORMULAS: dict[str, Formula] = {"cosine_exponent": cosine_exponent, "cosine_power": cosine_power, "knots": knots}

# (numbers, g[0], g[T-1]) without a warmup; T = 40
T = 40
C_END = np.sin(np.pi / (2 * T)) ** 2  # c at the last update
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
    "polynomial": ({"decay": 0.2, "power": 1.5}, 1.0, 0.2 + 0.8 * T**-1.5),
    "cosine_exponent": ({"decay": 0.2, "exponent": 1.5}, 1.0, 0.2 + 0.8 * C_END**1.5),
    "cosine_power": ({"decay": 0.2, "base": 10.0}, 1.0, 0.2 + 0.8 * (10**C_END - 1) / 9),
    "k_decay": ({"decay": 0.2, "k": 2.0}, 1.0, 0.2 + 0.8 * np.sin(np.pi * (1 - (1 - 1 / T) ** 2) / 2) ** 2),
    "rex": ({}, 1.0, 2 / (T + 1)),
    "tanh": ({"decay": 0.2}, 0.2 + 0.8 * (1 + np.tanh(6)) / 2, 0.2 + 0.4 * (1 - np.tanh(3 - 9 / T))),
    "hyperbolic": ({}, 1.0, 1 + np.sqrt(1 / (2 * T) * (2 - (2 - 1 / T) / 2)) - np.sqrt(0.75)),
    "inverse_time": ({"decay": 0.2}, 1.0, 1 / (1 + 4 * (T - 1) / T)),
    "power": ({"decay": 0.2, "exponent": 0.5}, 1.0, (1 + 24 * (T - 1) / T) ** -0.5),
    "multistep": ({"decay": 0.5, "milestones": (0.5, 0.75)}, 1.0, 0.25),
    "knots": ({"log_factors": (0.0, -2.0), "end": "closed"}, 1.0, np.exp(-2)),
    "power_wsd": ({"decay": 0.05, "exponent": 1.0, "timescale": 0.25}, 1.0, 0.05),
    "swa_tail": ({"decay": 0.2, "cooldown": 0.5}, 1.0, 0.2),
}


def test_every_factor_has_an_oracle_and_ends() -> None:
    assert sorted(NAMES) == sorted([*TORCH, *TIMM, *FORMULAS]) == sorted(ENDPOINTS)


@pytest.mark.parametrize("warm", [False, True], ids=["bare", "warmup"])
@pytest.mark.parametrize("name", TORCH)
def test_equals_torch(name: str, warm: bool, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng([NAMES.index(name), warm])
    for _ in range(20):
        steps = int(rng.integers(4, 200))
        warmup_steps = int(rng.integers(1, steps - 2)) if warm else 0
        peak_lr = 10 ** rng.uniform(-4, 1)
        numbers, phases = TORCH[name](rng, peak_lr, steps, steps - warmup_steps)
        if name == "swa_tail":  # SWALR starts from whatever LR it finds, in a SequentialLR the ramp's last one
            ramp_S = torch_lr(constant(rng, 1.0, 1, 1)[1], peak_lr, steps, warmup_steps)[:warmup_steps]
            expected_S = np.concatenate([ramp_S, torch_lr(phases, peak_lr, steps - warmup_steps)])
        else:
            expected_S = torch_lr(phases, peak_lr, steps, warmup_steps)
        lr_S = lr_trace(name, {"peak_lr": peak_lr, "warmup": warmup_steps / steps, **numbers}, steps)
        np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * peak_lr)


@pytest.mark.parametrize("warm", [False, True], ids=["bare", "warmup"])
@pytest.mark.parametrize("name", TIMM)
def test_equals_timm(name: str, warm: bool, timm_lr: Callable[..., Any]) -> None:
    """timm's ramp starts where it is told to: at 1/(W+1)."""
    rng = np.random.default_rng([NAMES.index(name), warm])
    for _ in range(40):
        steps = int(rng.integers(4, 200))
        warmup_steps = int(rng.integers(1, steps)) if warm else 0
        peak_lr = 10 ** rng.uniform(-4, 1)
        numbers, timm_class, arguments = TIMM[name](rng, peak_lr, steps)
        ramp = {"warmup_t": warmup_steps, "warmup_lr_init": peak_lr / (warmup_steps + 1)}
        if timm_class != "WSDLRScheduler":
            ramp["warmup_prefix"] = True
        expected_S = timm_lr(timm_class, peak_lr, steps + warmup_steps, **arguments, **ramp)
        run = steps + warmup_steps
        for share in ("cooldown", "timescale"):  # fractions of the run
            if share in numbers:
                numbers[share] *= steps / run
        lr_S = lr_trace(name, {"peak_lr": peak_lr, "warmup": warmup_steps / run, **numbers}, run)
        np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * peak_lr)


@pytest.mark.parametrize("name", FORMULAS)
def test_equals_another_way_to_write_it(name: str) -> None:
    rng = np.random.default_rng(NAMES.index(name))
    for _ in range(20):
        steps = int(rng.integers(4, 100))
        numbers, expected_S = FORMULAS[name](rng, steps)
        np.testing.assert_allclose(lr_trace(name, {"peak_lr": 1.0, **numbers}, steps), expected_S, rtol=0, atol=1e-12)


def test_polynomial_decay_to_a_fraction_equals_optax() -> None:
    with jax.enable_x64(True):
        schedule = optax.polynomial_schedule(2.0, 0.5, 1.7, 30)
        expected_S = np.array([schedule(np.float64(t)) for t in range(30)])
    lr_S = lr_trace("polynomial", {"peak_lr": 2.0, "decay": 0.25, "power": 1.7}, 30)
    np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12)


def test_special_cases_are_other_families() -> None:
    def trace(name: str, **numbers: Any) -> Any:
        return lr_trace(name, {"peak_lr": 1.0, "decay": 0.1, **numbers}, 50)

    for same in (trace("polynomial", power=1), trace("rex", d=0), trace("hyperbolic", upper=1)):
        np.testing.assert_allclose(same, trace("linear"), rtol=1e-14)
    for same in (trace("cosine_exponent", exponent=1), trace("cosine_power", base=1), trace("k_decay", k=1)):
        np.testing.assert_allclose(same, trace("cosine"), rtol=1e-14)
    np.testing.assert_allclose(trace("cosine_power", base=1 + 1e-9), trace("cosine"), rtol=1e-8)
    np.testing.assert_allclose(trace("power", exponent=1), trace("inverse_time"), rtol=1e-13)
    np.testing.assert_allclose(trace("power", exponent=1e-4), 0.1 ** (np.arange(50) > 0), rtol=1e-2, atol=5e-2)


@pytest.mark.parametrize("name", NAMES)
def test_begins_and_ends_where_its_row_says(name: str) -> None:
    numbers, first, last = ENDPOINTS[name]
    g_S = lr_trace(name, {"peak_lr": 1.0, **numbers}, T)
    assert g_S[0] == pytest.approx(first, rel=1e-15)
    assert g_S[-1] == pytest.approx(last, rel=1e-13)


CLOSED = [name for name in NAMES if {"decay", "end"} <= set(parameters(FACTORS[name]))]


@pytest.mark.parametrize("name", [name for name in CLOSED if name not in ("tanh", "hyperbolic")])
def test_closed_reaches_its_final_value_on_the_last_update(name: str) -> None:
    lr_S = lr_trace(name, {"peak_lr": 1.0, "warmup": 0.1, "decay": 0.25, "end": "closed"}, T)
    assert lr_S[-1] == pytest.approx(0.25, rel=1e-15)
    assert lr_S[-2] > 0.25 + 1e-6


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


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH)
def test_equals_torch_to_the_end_of_ten_thousand_updates(name: str, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng([NAMES.index(name), 2])
    numbers, phases = TORCH[name](rng, 0.3, 10_000, 10_000)
    lr_S = lr_trace(name, {"peak_lr": 0.3, **numbers}, 10_000)
    np.testing.assert_allclose(lr_S, torch_lr(phases, 0.3, 10_000), rtol=0, atol=1e-12 * 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_equals_timm_to_the_end_of_ten_thousand_updates(name: str, timm_lr: Callable[..., Any]) -> None:
    numbers, timm_class, arguments = TIMM[name](np.random.default_rng([NAMES.index(name), 2]), 0.3, 10_000)
    lr_S = lr_trace(name, {"peak_lr": 0.3, **numbers}, 10_000)
    np.testing.assert_allclose(lr_S, timm_lr(timm_class, 0.3, 10_000, **arguments), rtol=0, atol=1e-12 * 0.3)
