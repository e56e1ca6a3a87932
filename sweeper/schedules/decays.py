"""Factors that fall once. Every public function here is a factor; its keywords are its family's numbers.

Notation: D decay_steps, u = tau/D (end: open) or tau/(D-1) (closed), f the final value as a fraction of the peak,
A(s) = f + (1-f) s, c(x) = (1 + cos(pi x)) / 2. Shapes and units as in types.Factor; fractions are of D.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import affine, half_cosine, last_update, progress, raised, whole_updates
from sweeper.schedules.numbers import (
    AtLeastOne,
    AtLeastZero,
    AtMostZero,
    BelowOne,
    End,
    Floor,
    Fraction,
    LogFactors,
    Milestones,
    OpenFraction,
    Positive,
    PositiveFloor,
    PositiveFraction,
    RunFraction,
)
from sweeper.schedules.phases import Anneal
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


def polynomial(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, power: Positive = 2.0, end: End = "open"
) -> Floats:
    """A((1-u)^p), decay = f = final / peak, power = p."""
    return affine(decay, raised(1.0 - progress(tau_LS, decay_steps_L, end), power))


def cosine_exponent(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, exponent: Positive = 2.0, end: End = "open"
) -> Floats:
    """A(c(u)^q), decay = f = final / peak, exponent = q: optax's cosine_decay_schedule."""
    return affine(decay, raised(half_cosine(progress(tau_LS, decay_steps_L, end)), exponent))


def cosine_power(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, base: AtLeastOne = 10.0, end: End = "open"
) -> Floats:
    """A((p^c - 1)/(p - 1)), c = c(u), decay = f = final / peak, base = p; p = 1 is the cosine. sharpDARTS' code.

    Written with expm1, because p^c - 1 loses its digits near p = 1.
    """
    c_LS = half_cosine(progress(tau_LS, decay_steps_L, end))
    log_L = np.log(np.asarray(base, dtype=np.float64))
    safe_L = np.where(log_L > 0, log_L, 1.0)
    return affine(decay, np.where(log_L > 0, np.expm1(c_LS * safe_L) / np.expm1(safe_L), c_LS))


def k_decay(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Floor = 0.0,
    k: Positive = 2.0,
    shape: Literal["cosine", "polynomial"] = "cosine",
    power: Positive = 1.0,
    end: End = "open",
) -> Floats:
    """A(c(u^k)) (cosine) or A((1-u^k)^p) (polynomial), decay = f = final / peak, power = p (arXiv 2004.05909).

    k > 1 stays high longer and falls later.
    """
    bent_LS = raised(progress(tau_LS, decay_steps_L, end), k)
    return affine(decay, half_cosine(bent_LS) if shape == "cosine" else raised(1.0 - bent_LS, power))


def rex(tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, d: BelowOne = 0.5, end: End = "open") -> Floats:
    """A((1-u)/(1-d u)), decay = f = final / peak: REX (arXiv 2107.04197) at d = 1/2, linear at d = 0."""
    u_LS = progress(tau_LS, decay_steps_L, end)
    return affine(decay, (1.0 - u_LS) / (1.0 - d * u_LS))


def tanh(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Fraction = 0.0,
    lower: AtMostZero = -6.0,
    upper: AtLeastZero = 3.0,
    end: End = "open",
) -> Floats:
    """A((1 - tanh(lower (1-u) + upper u))/2), decay = f: hyperbolic tangent decay (arXiv 1806.01593).

    It begins just below the peak and ends above f, by tanh's tails: (1 - tanh 3)/2 = 0.0025 of the way.
    """
    u_LS = progress(tau_LS, decay_steps_L, end)
    return affine(decay, (1.0 - np.tanh(lower * (1.0 - u_LS) + upper * u_LS)) / 2.0)


def hyperbolic(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Fraction = 0.0,
    upper: AtLeastOne = 2.0,
    end: End = "open",
) -> Floats:
    """1 + (1-f)(h(u) - h(0)), h(u) = sqrt((1-u)/U (2 - (1+u)/U)), decay = f, upper = U as a multiple of D.

    HyperbolicLR (arXiv 2407.15200): the first updates hardly depend on the run's length. It ends at
    1 - (1-f) h(0), which is f only at U = 1, where it is linear.
    """
    u_LS = progress(tau_LS, decay_steps_L, end)
    h_LS = np.sqrt((1.0 - u_LS) / upper * (2.0 - (1.0 + u_LS) / upper))
    h0_L = np.sqrt(1.0 / upper * (2.0 - 1.0 / upper))
    g_LS: Floats = 1.0 + (1.0 - decay) * (h_LS - h0_L)
    return g_LS


def inverse_time(tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFloor = 0.01, end: End = "open") -> Floats:
    """1/(1 + kappa u), decay = final / peak = 1/(1+kappa): Keras' InverseTimeDecay."""
    g_LS: Floats = decay / (decay + (1.0 - decay) * progress(tau_LS, decay_steps_L, end))
    return g_LS


def power(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFloor = 0.1, exponent: Positive = 0.5, end: End = "open"
) -> Floats:
    """(1 + tau/ts)^-a, exponent = a (1/2: inverse square root), decay = final / peak = (1 + D/ts)^-a.

    The timescale follows: D/ts = decay^(-1/a) - 1. In logarithms, since that overflows for a small exponent:
    1 + tau/ts = (1-u) + u decay^(-1/a).
    """
    u_LS, log_L = progress(tau_LS, decay_steps_L, end), -np.log(np.asarray(decay)) / exponent
    with np.errstate(divide="ignore"):  # log 0 at u = 0 and u = 1 is the right limit
        log_LS = np.maximum(np.logaddexp(np.log1p(-u_LS), log_L + np.log(u_LS)), 0.0)  # its last bit may be below 0
    g_LS: Floats = np.exp(-exponent * log_LS)
    return g_LS


def exponential(tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFloor = 0.01, end: End = "open") -> Floats:
    """f^u, decay = f = final / peak: the same factor f^(1/D) at every update."""
    return raised(decay, progress(tau_LS, decay_steps_L, end))


def step(tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFraction = 0.1, cycle: Positive = 1 / 3) -> Floats:
    """gamma^floor(tau/S), decay = gamma the factor of each drop, cycle = S/D the distance of the drops."""
    drops_LS = tau_LS // whole_updates(cycle, decay_steps_L)
    return raised(decay, drops_LS)


def multistep(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFraction = 0.1, milestones: Milestones = (0.5, 0.75)
) -> Floats:
    """gamma^n, n the number of milestones at or before tau, decay = gamma; milestones as fractions of D."""
    drops_LS = sum(tau_LS >= whole_updates(milestone, decay_steps_L) for milestone in milestones)
    return raised(decay, drops_LS)


def knots(
    tau_LS: Updates, decay_steps_L: Updates, *, log_factors: LogFactors = (0.0, -0.7, -2.3, -4.6), end: End = "open"
) -> Floats:
    """exp of the straight lines between log_factors, the natural logarithms of g at equal distances of u in [0, 1]."""
    at_K = np.linspace(0.0, 1.0, len(log_factors))
    g_LS: Floats = np.exp(np.interp(progress(tau_LS, decay_steps_L, end), at_K, log_factors))
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
    v_LS = _cooldown_progress(tau_LS, decay_steps_L, cooldown, end)
    return affine(decay, _cooled(v_LS, cooldown_shape, cooldown_power, cooldown_ratio))


def power_wsd(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Floor = 0.0,
    cooldown: RunFraction = 0.2,
    cooldown_shape: CooldownShape = "linear",
    cooldown_power: Positive = 2.0,
    cooldown_ratio: OpenFraction = 0.1,
    exponent: Positive = 0.5,
    timescale: RunFraction = 0.1,
    end: End = "closed",
) -> Floats:
    """wsd over a power law: f + (max(s, f) - f) k(v), s = (1 + tau/ts)^-a (arXiv 2106.04560, 2408.13359).

    exponent = a; timescale = ts as a fraction of the run's updates, at most D. The rest, and k(v), as in wsd.
    """
    stable_LS = raised(1.0 + tau_LS / (timescale * decay_steps_L), -np.asarray(exponent))
    v_LS = _cooldown_progress(tau_LS, decay_steps_L, cooldown, end)
    k_LS = _cooled(v_LS, cooldown_shape, cooldown_power, cooldown_ratio)
    g_LS: Floats = decay + (np.maximum(stable_LS, decay) - decay) * k_LS
    return g_LS


def swa_tail(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Floor = 0.1,
    cooldown: RunFraction = 0.2,
    anneal: Anneal = "cos",
) -> Floats:
    """A(c(x)) (cos) or A(1-x) (linear), x = min(tau/K, 1): down to f over K updates, then held there.

    The LR under stochastic weight averaging (arXiv 1803.05407), torch's SWALR. decay = f = final / peak;
    cooldown = K as a fraction of the run's updates, at most D.
    """
    x_LS = np.minimum(tau_LS / np.minimum(whole_updates(cooldown, decay_steps_L), decay_steps_L), 1.0)
    return affine(decay, half_cosine(x_LS) if anneal == "cos" else 1.0 - x_LS)


def _cooldown_progress(tau_LS: Updates, decay_steps_L: Updates, cooldown: RunFraction, end: End) -> Floats:
    """v: 0 before the last K updates, 1 at the end."""
    last_L = last_update(decay_steps_L, end)
    cooldown_L = np.minimum(whole_updates(cooldown, decay_steps_L), last_L)
    v_LS: Floats = np.clip((tau_LS - (last_L - cooldown_L)) / cooldown_L, 0.0, 1.0)
    return v_LS


def _cooled(v_LS: Floats, shape: CooldownShape, power: Positive, ratio: OpenFraction) -> Floats:
    """k(v), from 1 at v = 0 to 0 at v = 1."""
    if shape == "cosine":
        return half_cosine(v_LS)
    if shape == "exponential":
        k_LS: Floats = (raised(ratio, v_LS) - ratio) / (1.0 - ratio)
        return k_LS
    exponent = {"linear": 1.0, "1-sqrt": 0.5, "power": power}[shape]
    return 1.0 - raised(v_LS, exponent)
