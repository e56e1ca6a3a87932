"""Factors against the other libraries that have them: transformers, timm and optax, beside torch.

transformers' ramps begin with an update at LR 0, ours without it: its schedule over T + 1 updates with W + 1 of warmup,
the first one dropped, is ours over T with W.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax  # type: ignore[import-untyped]  # it has no types
import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_wsd_schedule,
)

from sweeper.schedules import lr_trace
from sweeper.schedules.warmups import SHAPES

Numbers = dict[str, Any]
Generator = np.random.Generator
Build = Callable[[torch.optim.Optimizer], LRScheduler]


# --- transformers -------------------------------------------------------------------------------------
# Each draws numbers, and the schedule of T updates, W of them warmup, that has them.


def constant(rng: Generator, peak_lr: float, steps: int, warmup_steps: int) -> tuple[Numbers, Build]:
    return {}, lambda o: get_constant_schedule_with_warmup(o, warmup_steps)


def linear(rng: Generator, peak_lr: float, steps: int, warmup_steps: int) -> tuple[Numbers, Build]:
    return {"decay": 0.0}, lambda o: get_linear_schedule_with_warmup(o, warmup_steps, steps)


def polynomial(rng: Generator, peak_lr: float, steps: int, warmup_steps: int) -> tuple[Numbers, Build]:
    f, power = rng.uniform(0, 0.9), 10 ** rng.uniform(-0.5, 0.6)
    arguments = {"lr_end": f * peak_lr, "power": power}
    numbers = {"decay": f, "power": power}
    return numbers, lambda o: get_polynomial_decay_schedule_with_warmup(o, warmup_steps, steps, **arguments)


def cosine(rng: Generator, peak_lr: float, steps: int, warmup_steps: int) -> tuple[Numbers, Build]:
    f = rng.uniform(0, 1)
    return {"decay": f}, lambda o: get_cosine_with_min_lr_schedule_with_warmup(o, warmup_steps, steps, min_lr_rate=f)


def cosine_waves(rng: Generator, peak_lr: float, steps: int, warmup_steps: int) -> tuple[Numbers, Build]:
    n = rng.uniform(0.5, 4)
    numbers = {"cycle": 1 / n, "cycle_fit": "free"}
    return numbers, lambda o: get_cosine_schedule_with_warmup(o, warmup_steps, steps, num_cycles=n)


def power(rng: Generator, peak_lr: float, steps: int, warmup_steps: int) -> tuple[Numbers, Build]:
    timescale = rng.uniform(0.5, steps)
    final = (1 + (steps - warmup_steps) / timescale) ** -0.5
    return {"decay": final}, lambda o: get_inverse_sqrt_schedule(
        o,
        warmup_steps,
        timescale,  # type: ignore[arg-type]  # any number will do
    )


def wsd(rng: Generator, peak_lr: float, steps: int, warmup_steps: int) -> tuple[Numbers, Build]:
    """Its ramp begins at `min_lr_ratio`, so it is ours for a decay to zero; other decays below."""
    shape, ramp = str(rng.choice(["linear", "cosine", "1-sqrt"])), str(rng.choice(["linear", "cosine", "1-sqrt"]))
    cooldown = int(rng.integers(1, steps - warmup_steps + 1))
    numbers = {"cooldown": cooldown / (steps - 1), "cooldown_shape": shape, "end": "open", "warmup_shape": ramp}
    arguments = {"num_training_steps": steps, "warmup_type": ramp, "decay_type": shape}
    return numbers, lambda o: get_wsd_schedule(o, warmup_steps, cooldown, **arguments)  # type: ignore[arg-type]  # words


TRANSFORMERS = {f.__name__: f for f in (constant, linear, polynomial, cosine, cosine_waves, power, wsd)}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_equals_transformers(name: str, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng(list(TRANSFORMERS).index(name))
    for _ in range(20):
        steps = int(rng.integers(2, 200))
        warmup_steps = int(rng.integers(0, steps))
        peak_lr = 10 ** rng.uniform(-4, 1)
        numbers, build = TRANSFORMERS[name](rng, peak_lr, steps + 1, warmup_steps + 1)
        expected_S = torch_lr([(0, build)], peak_lr, steps + 1)[1:]
        lr_S = lr_trace(name, {"peak_lr": peak_lr, "warmup": warmup_steps / steps, **numbers}, steps)
        np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * peak_lr)


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
def test_transformers_wsd_cools_to_a_floor_as_ours(shape: str, torch_lr: Callable[..., Any]) -> None:
    def build(o: torch.optim.Optimizer) -> LRScheduler:
        return get_wsd_schedule(o, 10, 30, 100, decay_type=shape, min_lr_ratio=0.2)

    numbers = {"peak_lr": 2.0, "warmup": 0.1, "decay": 0.2, "cooldown": 0.3, "cooldown_shape": shape, "end": "open"}
    expected_S = torch_lr([(0, build)], 2.0, 100)
    np.testing.assert_allclose(lr_trace("wsd", numbers, 100)[10:], expected_S[10:], rtol=0, atol=2e-12)
    assert expected_S[0] == pytest.approx(0.4)  # its ramp begins at the floor


def test_transformers_cosine_warmup_with_min_lr_is_the_closed_cosine(torch_lr: Callable[..., Any]) -> None:
    """Its last update of warmup is at the peak, from which our cosine begins: W - 1 updates of warmup are ours."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps = int(rng.integers(3, 200))
        warmup_steps, f = int(rng.integers(1, steps - 1)), rng.uniform(0, 1)

        def build(o: torch.optim.Optimizer, steps: int = steps, w: int = warmup_steps, f: float = f) -> LRScheduler:
            return get_cosine_with_min_lr_schedule_with_warmup_lr_rate(o, w, steps, min_lr_rate=f)

        numbers = {"peak_lr": 2.0, "warmup": (warmup_steps - 1) / steps, "decay": f, "end": "closed"}
        expected_S = torch_lr([(0, build)], 2.0, steps)
        np.testing.assert_allclose(lr_trace("cosine", numbers, steps), expected_S, rtol=0, atol=2e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_transformers_hard_restarts_are_whole_cycles_of_sgdr(count: int, torch_lr: Callable[..., Any]) -> None:
    steps = 24 * count + 16

    def build(o: torch.optim.Optimizer) -> LRScheduler:
        return get_cosine_with_hard_restarts_schedule_with_warmup(o, 17, steps + 1, num_cycles=count)

    expected_S = torch_lr([(0, build)], 2.0, steps + 1)[1:]
    for fit in ("fitted", "free"):
        numbers = {"peak_lr": 2.0, "warmup": 16 / steps, "cycle": 1 / count, "cycle_fit": fit}
        np.testing.assert_allclose(lr_trace("sgdr", numbers, steps), expected_S, rtol=0, atol=2e-12)


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("warmup_steps", [1, 2, 30])
def test_ramps_are_those_of_transformers_wsd(shape: str, warmup_steps: int, torch_lr: Callable[..., Any]) -> None:
    assert shape in SHAPES

    def build(o: torch.optim.Optimizer) -> LRScheduler:
        return get_wsd_schedule(o, warmup_steps + 1, 0, 101, warmup_type=shape)

    expected_S = torch_lr([(0, build)], 2.0, 101)[1:]
    numbers = {"peak_lr": 2.0, "warmup": warmup_steps / 100, "warmup_shape": shape}
    np.testing.assert_allclose(lr_trace("constant", numbers, 100), expected_S, rtol=0, atol=2e-12)


# --- timm ---------------------------------------------------------------------------------------------


def timm_cycles(rng: Generator, peak_lr: float, steps: int) -> tuple[Numbers, Numbers]:
    first, mult, gamma = int(rng.integers(2, steps + 9)), int(rng.integers(1, 3)), rng.uniform(0.3, 1)
    f = rng.uniform(0, 0.3)
    numbers = {"cycle": first / steps, "cycle_mult": mult, "decay": gamma, "end_factor": f, "cycle_fit": "free"}
    timm = {"t_initial": first, "cycle_mul": float(mult), "cycle_decay": gamma, "cycle_limit": 999}
    return numbers, {**timm, "lr_min": f * peak_lr}


def timm_lines(rng: Generator, peak_lr: float, steps: int) -> tuple[Numbers, Numbers]:
    numbers, timm = timm_cycles(rng, peak_lr, steps)
    return numbers, {**timm, "power": 1.0}


def timm_fall(rng: Generator, peak_lr: float, steps: int) -> tuple[Numbers, Numbers]:
    f = rng.uniform(0, 1)
    return {"decay": f}, {"t_initial": steps, "lr_min": f * peak_lr}


def timm_power(rng: Generator, peak_lr: float, steps: int) -> tuple[Numbers, Numbers]:
    (numbers, timm), p = timm_fall(rng, peak_lr, steps), 10 ** rng.uniform(-0.5, 0.6)
    return {**numbers, "power": p}, {**timm, "power": p}


def timm_wsd(rng: Generator, peak_lr: float, steps: int) -> tuple[Numbers, Numbers]:
    cooldown, f = int(rng.integers(1, steps)), rng.uniform(0, 1)
    shape = str(rng.choice(["linear", "1-sqrt", "cosine", "power", "exponential"]))
    p, r = rng.uniform(0.3, 4), rng.uniform(0.01, 0.5)
    numbers = {"decay": f, "cooldown": cooldown / steps, "cooldown_shape": shape, "end": "open"}
    timm = {
        "t_initial": steps,
        "decay_t": cooldown,
        "lr_min": f * peak_lr,
        "decay_fn": shape.replace("exponential", "exp"),
    }
    return {**numbers, "cooldown_power": p, "cooldown_ratio": r}, {**timm, "decay_power": p, "decay_ratio": r}


TIMM = {
    "sgdr": ("CosineLRScheduler", timm_cycles),
    "sawtooth": ("PolyLRScheduler", timm_lines),
    "cosine": ("CosineLRScheduler", timm_fall),
    "polynomial": ("PolyLRScheduler", timm_power),
    "wsd": ("WSDLRScheduler", timm_wsd),
}


@pytest.mark.parametrize("name", TIMM)
def test_equals_timm(name: str, timm_lr: Callable[..., Any]) -> None:
    timm_class, draw = TIMM[name]
    rng = np.random.default_rng(list(TIMM).index(name))
    for _ in range(30):
        steps, peak_lr = int(rng.integers(4, 200)), 10 ** rng.uniform(-4, 1)
        numbers, timm = draw(rng, peak_lr, steps)
        expected_S = timm_lr(timm_class, peak_lr, steps, **timm)
        lr_S = lr_trace(name, {"peak_lr": peak_lr, **numbers}, steps)
        np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * peak_lr)


# --- optax --------------------------------------------------------------------------------------------


def optax_cosine(rng: Generator, steps: int) -> tuple[Numbers, Any]:
    f = rng.uniform(0, 1)
    return {"decay": f}, optax.cosine_decay_schedule(1.0, steps, f)


def optax_polynomial(rng: Generator, steps: int) -> tuple[Numbers, Any]:
    f, p = rng.uniform(0, 1), 10 ** rng.uniform(-0.5, 0.6)
    return {"decay": f, "power": p}, optax.polynomial_schedule(1.0, f, p, steps)


def optax_linear(rng: Generator, steps: int) -> tuple[Numbers, Any]:
    f = rng.uniform(0, 1)
    return {"decay": f}, optax.linear_schedule(1.0, f, steps)


def optax_exponential(rng: Generator, steps: int) -> tuple[Numbers, Any]:
    f, floor = 10 ** rng.uniform(-4, -0.3), float(rng.choice([0.0, rng.uniform(0, 1)]))
    return {"decay": f, "floor": floor}, optax.exponential_decay(1.0, steps, f, end_value=floor or None)


def optax_onecycle(rng: Generator, steps: int) -> tuple[Numbers, Any]:
    """It rounds the peak's place down, and its run ends at t = T."""
    rise, div, final_div = int(rng.integers(1, steps)), 10 ** rng.uniform(0.3, 2), 10 ** rng.uniform(1, 4)
    share = (rise + 1e-9) / steps
    numbers = {"warmup": rise / steps, "div_factor": div, "decay": 1 / (div * final_div), "end": "open"}
    return numbers, optax.cosine_onecycle_schedule(steps, 1.0, share, div, final_div)


OPTAX = {
    "cosine": optax_cosine,
    "polynomial": optax_polynomial,
    "linear": optax_linear,
    "exponential": optax_exponential,
    "onecycle": optax_onecycle,
}


@pytest.mark.parametrize("name", OPTAX)
def test_equals_optax(name: str) -> None:
    rng = np.random.default_rng(list(OPTAX).index(name))
    for _ in range(6):
        steps = int(rng.integers(4, 60))
        with jax.enable_x64(True):
            numbers, schedule = OPTAX[name](rng, steps)
            expected_S = np.array([schedule(np.float64(t)) for t in range(steps)])
        assert expected_S.dtype == np.float64
        lr_S = lr_trace(name, {"peak_lr": 1.0, **numbers}, steps)
        np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12)


# --- published code -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "base"), [(2, 10.0), (30, 1.5), (77, 10.0), (100, 100.0)])
def test_cosine_power_is_sharpdarts_code_on_its_own_grid(steps: int, base: float) -> None:
    """cosine_power_annealing: epochs 1 to T at u = t/T, p^(c + 1) laid between its ends: ours from the second on."""
    c_S = (1 + np.cos(np.pi * np.arange(1, steps + 1) / steps)) / 2
    power_S = base ** (c_S + 1)
    shape_S = (power_S - power_S.min()) / (power_S.max() - power_S.min())
    g_S = lr_trace("cosine_power", {"peak_lr": 1.0, "base": base, "end": "closed"}, steps + 1)
    np.testing.assert_allclose(g_S[1:] / g_S[1], shape_S, rtol=0, atol=1e-12)
