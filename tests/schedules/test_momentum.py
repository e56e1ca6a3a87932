"""Cycled momentum against torch's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from sweeper.schedules import family, momentum_trace
from sweeper.schedules.families import MOMENTA
from sweeper.schedules.numbers import parameters

TESTED = {"onecycle", "clr"}


def test_every_momentum_is_tested_and_takes_its_factors_numbers() -> None:
    assert set(MOMENTA) == TESTED
    for name, momentum in MOMENTA.items():
        built = family(name, {"factor": name, "peak_lr": 1.0, "momentum": "cycled"})
        assert set(parameters(momentum)) - set(parameters(built.factor)) == {"base_momentum", "max_momentum"}


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_clr(mode: Any, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        up, down, steps = (int(n) for n in rng.integers(2, 60, 3))
        low, high, decay = rng.uniform(0.5, 0.8), rng.uniform(0.85, 0.99), rng.uniform(0.1, 1)
        node = {
            "factor": "clr",
            "peak_lr": 1.0,
            "cycle": (up + down) / steps,
            "up_share": up / (up + down),
            "scale_mode": "iterations" if mode == "exp_range" else "cycle",
            "decay": {"triangular": 1.0, "triangular2": 0.5, "exp_range": decay}[mode],
            "cycle_fit": "free",
        }
        cycled = {"momentum": "cycled", "base_momentum": low, "max_momentum": high}
        momentum_S = momentum_trace(family("clr", {**node, **cycled}), {}, steps)
        assert momentum_S is not None
        arguments = {"mode": mode, "gamma": decay ** (1 / steps), "base_momentum": low, "max_momentum": high}

        def build(o: Any, up: int = up, down: int = down, arguments: Any = arguments) -> CyclicLR:
            return CyclicLR(o, 0.1, 1.0, up, down, **arguments)

        expected_S = torch_lr([(0, build)], 1.0, steps, group="momentum")
        np.testing.assert_allclose(momentum_S, expected_S, rtol=0, atol=1e-12)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_onecycle(three_phase: bool, anneal: Any, torch_lr: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        steps, pct = int(rng.integers(6, 150)), rng.uniform(0.3, 0.48)
        low, high = rng.uniform(0.5, 0.8), rng.uniform(0.85, 0.99)
        node = {"factor": "onecycle", "peak_lr": 1.0, "warmup": pct, "anneal": anneal, "three_phase": three_phase}
        cycled = {"momentum": "cycled", "base_momentum": low, "max_momentum": high}
        momentum_S = momentum_trace(family("onecycle", {**node, **cycled}), {}, steps)
        assert momentum_S is not None

        def build(o: Any, steps: int = steps, pct: float = pct, low: float = low, high: float = high) -> OneCycleLR:
            return OneCycleLR(
                o,
                1.0,
                total_steps=steps,
                pct_start=pct,
                anneal_strategy=anneal,
                three_phase=three_phase,
                base_momentum=low,
                max_momentum=high,
            )

        expected_S = torch_lr([(0, build)], 1.0, steps, group="momentum")
        np.testing.assert_allclose(momentum_S, expected_S, rtol=0, atol=1e-12)
