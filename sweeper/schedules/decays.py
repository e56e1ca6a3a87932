"""Factors that fall once. Every public function here is a factor; its keywords are its family's numbers.

Notation: D decay_steps, u = tau/D (end: open) or tau/(D-1) (closed), f the final value as a fraction of the peak,
A(s) = f + (1-f) s, c(x) = (1 + cos(pi x)) / 2. Shapes and units as in types.Factor; fractions are of D.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import affine, half_cosine, last_update, progress, whole_updates
from sweeper.schedules.numbers import End, Floor, OpenFraction, Positive, PositiveFloor, PositiveFraction, RunFraction
from sweeper.types import Floats

Updates = NDArray[np.int64]
CooldownShape = Literal["linear", "1-sqrt", "cosine", "power", "exponential"]


def constant(tau_LS: Updates, decay_steps_L: Updates) -> Floats:
    """g = 1."""
    return np.ones(np.broadcast_shapes(tau_LS.shape, decay_steps_L.shape))


def linear(tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, end: End = "open") -> Floats:
    """A(1-u), decay = f = final / peak: budgeted training (arXiv 1905.04753), to zero in 2502.15938."""
    return affine(decay, 1.0 - progress(tau_LS, decay_steps_L, end))


def cosine(tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, end: End = "open") -> Floats:
    """A(c(u)), decay = f = final / peak: one cycle of arXiv 1608.03983."""
    return affine(decay, half_cosine(progress(tau_LS, decay_steps_L, end)))


def exponential(tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFloor = 0.01, end: End = "open") -> Floats:
    """f^u, decay = f = final / peak: the same factor f^(1/D) at every update."""
    g_LS: Floats = np.asarray(decay) ** progress(tau_LS, decay_steps_L, end)
    return g_LS


def step(tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFraction = 0.1, cycle: Positive = 1 / 3) -> Floats:
    """gamma^floor(tau/S), decay = gamma the factor of each drop, cycle = S/D the distance of the drops."""
    drops_LS = tau_LS // whole_updates(cycle, decay_steps_L)
    g_LS: Floats = np.asarray(decay) ** drops_LS.astype(np.float64)
    return g_LS


def wsd(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Floor = 0.0,
    cooldown: RunFraction = 0.2,
    cooldown_shape: CooldownShape = "linear",
    cooldown_power: Positive = 2.0,
    cooldown_ratio: OpenFraction = 0.1,
    end: End = "closed",
) -> Floats:
    """Warmup, stable, decay: 1, then A(k(v)) over the last K updates, v = clip((tau - (D-K))/K, 0, 1).

    decay = f = final / peak; cooldown = K as a fraction of the run's updates, at most D. k is 1-v (linear),
    1-sqrt(v) (1-sqrt, arXiv 2405.18392), c(v) (cosine), 1-v^p (power, p = cooldown_power) or (r^v-r)/(1-r)
    (exponential, r = cooldown_ratio). Open, v = 1 would be at tau = D, and K = 1 never decays; closed, v = 1 is
    at the last update (D-1 in the place of D). Trapezoid, knee (2003.03977) and flat-cosine are the same family;
    arXiv 2404.06395.
    """
    last_L = last_update(decay_steps_L, end)
    cooldown_L = np.minimum(whole_updates(cooldown, decay_steps_L), last_L)
    v_LS = np.clip((tau_LS - (last_L - cooldown_L)) / cooldown_L, 0.0, 1.0)
    return affine(decay, _cooled(v_LS, cooldown_shape, cooldown_power, cooldown_ratio))


def _cooled(v_LS: Floats, shape: CooldownShape, power: Positive, ratio: OpenFraction) -> Floats:
    """k(v), from 1 at v = 0 to 0 at v = 1."""
    if shape == "cosine":
        return half_cosine(v_LS)
    if shape == "exponential":
        k_LS: Floats = (ratio**v_LS - ratio) / (1.0 - ratio)
        return k_LS
    exponent = {"linear": 1.0, "1-sqrt": 0.5, "power": power}[shape]
    return 1.0 - np.asarray(v_LS**exponent)
