"""Factors that fall once. Every public function here is a factor, and its keywords are its hyperparameters.

Notation: tau counts updates since the warmup, D is decay_steps, u = tau/D (end: open) or tau/(D-1) (closed), f is the
final value as a fraction of the peak, A(s) = f + (1-f) s, c(x) = (1 + cos(pi x)) / 2. Shapes and units are those of
`sweeper.types.Factor`.

scripts/catalogue.py makes the guide's page on schedules from these docstrings. Their form: a summary; the fields
Formula, Source, Equals (library classes that a test compares it with), Differs and Founding notes (their mistakes), of
which Formula and Equals are required; then every hyperparameter but `end`, as `name: meaning`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import affine, half_cosine, last_update, progress, stable_power, whole_updates
from sweeper.schedules.numbers import (
    AtLeastOne,
    AtLeastZero,
    AtMostZero,
    BelowOne,
    Cooldown,
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
    """The peak LR throughout: the baseline of every comparison.

    Formula: 1
    Equals: torch LambdaLR; transformers get_constant_schedule_with_warmup
    """
    return np.ones(np.broadcast_shapes(tau_LS.shape, decay_steps_L.shape))


def linear(tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, end: End = "open") -> Floats:
    """A straight line from the peak to the final value.

    Formula: A(1-u)
    Source: budgeted training, arXiv 1905.04753; to zero, arXiv 2502.15938
    Equals: torch LinearLR(1.0, f, D); optax linear_schedule; to zero transformers get_linear_schedule_with_warmup
    Founding notes: they subtract the same amount at every epoch without an end, so the LR becomes negative. Here the
        line ends with the run.
    decay: f = final / peak
    """
    return affine(decay, 1.0 - progress(tau_LS, decay_steps_L, end))


def cosine(tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, end: End = "open") -> Floats:
    """Half a cosine wave, from the peak to the final value.

    Formula: A(c(u))
    Source: arXiv 1608.03983, one cycle
    Equals: torch CosineAnnealingLR(D, f peak_lr); timm CosineLRScheduler; optax cosine_decay_schedule; transformers
        get_cosine_schedule_with_warmup and get_cosine_with_min_lr_schedule_with_warmup, and closed
        get_cosine_with_min_lr_schedule_with_warmup_lr_rate
    Differs: torch's rises again after T_max; here the run ends there
    Founding notes: one of them says that cosine annealing repeatedly resets the LR to its highest value. That is
        `sgdr`. This formula, continued, rises smoothly, as `cosine_waves` does.
    decay: f = final / peak
    """
    return affine(decay, half_cosine(progress(tau_LS, decay_steps_L, end)))


def polynomial(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, power: Positive = 2.0, end: End = "open"
) -> Floats:
    """A power of the remaining fraction of the run.

    Formula: A((1-u)^p)
    Equals: to zero torch PolynomialLR(D, p); timm PolyLRScheduler; optax polynomial_schedule; transformers
        get_polynomial_decay_schedule_with_warmup
    decay: f = final / peak
    power: p; 1 is `linear`; above 1 it falls early, below 1 it falls late
    """
    return affine(decay, stable_power(1.0 - progress(tau_LS, decay_steps_L, end), power))


def cosine_exponent(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, exponent: Positive = 2.0, end: End = "open"
) -> Floats:
    """A power of half a cosine wave.

    Formula: A(c(u)^q)
    Equals: optax cosine_decay_schedule(exponent=q)
    Founding notes: their cosine power annealing raises 1 + cos to the power instead of half of it, so it starts
        2^(p-1) times as high above its minimum as it should: with p = 2 at twice the peak. Here all of c(u) is raised.
        The name belongs to another formula, `cosine_power`.
    decay: f = final / peak
    exponent: q; 1 is `cosine`
    """
    return affine(decay, stable_power(half_cosine(progress(tau_LS, decay_steps_L, end)), exponent))


def cosine_power(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, base: AtLeastOne = 10.0, end: End = "open"
) -> Floats:
    """Cosine power annealing: half a cosine wave as an exponent.

    It uses expm1, because p^c - 1 loses precision near p = 1.

    Formula: A((p^c(u) - 1)/(p - 1)), at p = 1 A(c(u))
    Source: sharpDARTS, arXiv 1903.09900
    Equals: sharpDARTS' cosine_power_annealing, up to its grid: epochs 1 to T at u = t/T, rescaled to 0 to 1
    Founding notes: their formula of this name is another one, and starts above its peak: see `cosine_exponent`.
    decay: f = final / peak
    base: p; 1 is `cosine`; large values are nearly `exponential`
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
    """A cosine or a polynomial of warped time, which stays high longer.

    Formula: A(c(u^k)), or A((1-u^k)^p)
    Source: arXiv 2004.05909
    Equals: timm CosineLRScheduler(k_decay=k) and PolyLRScheduler(k_decay=k)
    decay: f = final / peak
    k: exponent of time; 1 is `cosine` (or `polynomial`); above 1 it falls late
    shape: cosine or polynomial
    power: p of the polynomial
    """
    bent_LS = stable_power(progress(tau_LS, decay_steps_L, end), k)
    return affine(decay, half_cosine(bent_LS) if shape == "cosine" else stable_power(1.0 - bent_LS, power))


def rex(tau_LS: Updates, decay_steps_L: Updates, *, decay: Floor = 0.0, d: BelowOne = 0.5, end: End = "open") -> Floats:
    """REX, a reflected exponential: nearly linear, then steep at the end.

    Formula: A((1-u)/(1-d u))
    Source: arXiv 2107.04197
    Equals: at d = 1/2, to zero, pytorch_scheduler RexScheduler
    Differs: some other ports use d = 0.9
    decay: f = final / peak
    d: how late it falls; 0 is `linear`, 1/2 is the paper's value
    """
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
    """Hyperbolic tangent decay: a high plateau, a slope, then a low plateau.

    Formula: A((1 - tanh(lower (1-u) + upper u))/2)
    Source: arXiv 1806.01593
    Equals: timm TanhLRScheduler(lb=lower, ub=upper)
    Differs: because tanh has tails, it starts just below the peak and ends just above f: with upper = 3 by 0.0025 of
        the distance
    decay: f = final / peak, up to that tail
    lower: where on the tanh curve it starts
    upper: where on the tanh curve it ends
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
    """HyperbolicLR: the first updates hardly depend on the length of the run.

    Formula: 1 + (1-f)(h(u) - h(0)), h(u) = sqrt((1-u)/U (2 - (1+u)/U))
    Source: arXiv 2407.15200
    Equals: pytorch_scheduler HyperbolicLRScheduler(D, U D, f peak_lr)
    Differs: it ends at 1 - (1-f) h(0), which is f only at U = 1
    decay: f = final / peak at U = 1
    upper: U, an upper bound of the run's length, as a multiple of D; 1 is `linear`
    """
    u_LS = progress(tau_LS, decay_steps_L, end)
    h_LS = np.sqrt((1.0 - u_LS) / upper * (2.0 - (1.0 + u_LS) / upper))
    h0_L = np.sqrt(1.0 / upper * (2.0 - 1.0 / upper))
    g_LS: Floats = 1.0 + (1.0 - decay) * (h_LS - h0_L)
    return g_LS


def inverse_time(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFloor = 0.01,
    floor: Fraction = 0.0,
    end: End = "open",
) -> Floats:
    """The peak divided by one plus a multiple of time.

    Formula: max(1/(1 + kappa u), floor), kappa = 1/f - 1
    Equals: torch LambdaLR
    Differs: Keras' InverseTimeDecay is the same formula, set by a rate instead of the final value
    Founding notes: one of them divides by the square root of the epoch under this name. That is `power`, and it is
        infinite at epoch 0.
    decay: f = final / peak
    floor: the LR never falls below this fraction of its peak
    """
    return np.maximum(decay / (decay + (1.0 - decay) * progress(tau_LS, decay_steps_L, end)), floor)


def power(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFloor = 0.1, exponent: Positive = 0.5, end: End = "open"
) -> Floats:
    """A power of time. With exponent 1/2 it is the inverse square root.

    The final value determines the timescale ts. The formula is evaluated in logarithms, because it overflows for small
    exponents.

    Formula: (1 + tau/ts)^-a, D/ts = f^(-1/a) - 1, so that 1 + tau/ts = (1-u) + u f^(-1/a)
    Source: the inverse square root of arXiv 2106.04560
    Equals: at a = 1/2 transformers get_inverse_sqrt_schedule(timescale=ts); timm WSDLRScheduler(stable_fn="power")
        before its cooldown
    Differs: without a warmup, transformers silently uses a timescale of 10,000
    Founding notes: they divide by sqrt(step), which is infinite at step 0 and ignores the warmup.
    decay: f = final / peak
    exponent: a
    """
    u_LS, log_L = progress(tau_LS, decay_steps_L, end), -np.log(np.asarray(decay)) / exponent
    with np.errstate(divide="ignore"):  # -inf is the right limit of log 0 at u = 0 and u = 1
        log_LS = np.maximum(np.logaddexp(np.log1p(-u_LS), log_L + np.log(u_LS)), 0.0)  # rounding may give less than 0
    g_LS: Floats = np.exp(-exponent * log_LS)
    return g_LS


def exponential(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFloor = 0.01,
    floor: Fraction = 0.0,
    end: End = "open",
) -> Floats:
    """Exponential decay: the LR is multiplied by the same factor at every update.

    Formula: max(f^u, floor)
    Equals: torch ExponentialLR(f^(1/D)); optax exponential_decay(1, D, f, end_value=floor)
    Founding notes: they give r^epoch and e^(-k epoch) as two formulas. Both are this one: f = r^D = e^(-k D).
    decay: f = final / peak
    floor: the LR never falls below this fraction of its peak
    """
    return np.maximum(stable_power(decay, progress(tau_LS, decay_steps_L, end)), floor)


def step(tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFraction = 0.1, cycle: Positive = 1 / 3) -> Floats:
    """Drops at equal intervals, a staircase.

    Formula: gamma^floor(tau/S)
    Equals: torch StepLR(S, gamma)
    Founding notes: one of them reports that the loss falls "quite faster" with drops by 0.8 every second of ten epochs
        than with a constant LR. We trained its example 400 times with and without drops. With drops the training
        loss of the tenth epoch was higher every time, on average 1.053 instead of 1.034: in a short run from a low LR
        they only slow training. The experiment staircase_vs_constant repeats it ([claims.md](claims.md#the-staircase)).
    decay: gamma, the factor of each drop
    cycle: S/D, the interval between drops as a fraction of the updates after the warmup, never fitted
    """
    drops_LS = tau_LS // whole_updates(cycle, decay_steps_L)
    return stable_power(decay, drops_LS)


def multistep(
    tau_LS: Updates, decay_steps_L: Updates, *, decay: PositiveFraction = 0.1, milestones: Milestones = (0.5, 0.75)
) -> Floats:
    """Drops at given points of the run.

    Formula: gamma^n, n the number of milestones at or before tau
    Equals: torch MultiStepLR
    Differs: the same list drops one update earlier in timm and one later in Keras; torch ignores a milestone that is
        not a whole number, and here it is rounded
    decay: gamma, the factor of each drop
    milestones: points of the drops, as fractions of the updates after the warmup
    """
    drops_LS = sum(tau_LS >= whole_updates(milestone, decay_steps_L) for milestone in milestones)
    return stable_power(decay, drops_LS)


def knots(
    tau_LS: Updates, decay_steps_L: Updates, *, log_factors: LogFactors = (0.0, -0.7, -2.3, -4.6), end: End = "open"
) -> Floats:
    """Any curve: linear interpolation of the logarithm of the LR.

    Formula: exp of the linear interpolation between the knots, which are evenly spaced in u from 0 to 1
    Equals: SciPy's make_interp_spline(k=1) through the logarithms
    log_factors: ln(LR / peak_lr) at each knot, none above 0
    """
    at_K = np.linspace(0.0, 1.0, len(log_factors))
    g_LS: Floats = np.exp(np.interp(progress(tau_LS, decay_steps_L, end), at_K, log_factors))
    return g_LS


def wsd(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Floor = 0.0,
    cooldown: Cooldown = 0.2,
    cooldown_shape: CooldownShape = "linear",
    cooldown_power: Positive = 2.0,
    cooldown_ratio: OpenFraction = 0.1,
    end: End = "closed",
) -> Floats:
    """Warmup, stable, decay: the peak, then a cooldown over the last K updates. Also called trapezoid or knee.

    Formula: A(k(v)), v = clip((tau - (D-K))/K, 0, 1), closed with D-1 instead of D; k(v) is 1-v (linear),
        1-sqrt(v) (1-sqrt), c(v) (cosine), 1-v^p (power) or (r^v - r)/(1-r) (exponential)
    Source: arXiv 2404.06395; 1-sqrt, arXiv 2405.18392; knee, arXiv 2003.03977
    Equals: torch SequentialLR of LambdaLR and LinearLR(1.0, f, K) or CosineAnnealingLR(K, f peak_lr); timm
        WSDLRScheduler; transformers get_wsd_schedule
    Differs: the ramp of transformers starts at f; with an open end, a cooldown of one update never falls, in every
        library
    decay: f = final / peak
    cooldown: K as a fraction of the run's updates, at most all updates after the warmup
    cooldown_shape: k
    cooldown_power: p of `power`
    cooldown_ratio: r of `exponential`
    """
    v_LS = _cooldown_progress(tau_LS, decay_steps_L, cooldown, end)
    return affine(decay, _cooldown_curve(v_LS, cooldown_shape, cooldown_power, cooldown_ratio))


def power_wsd(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Floor = 0.0,
    cooldown: Cooldown = 0.2,
    cooldown_shape: CooldownShape = "linear",
    cooldown_power: Positive = 2.0,
    cooldown_ratio: OpenFraction = 0.1,
    exponent: Positive = 0.5,
    timescale: RunFraction = 0.1,
    end: End = "closed",
) -> Floats:
    """A power of time, then a cooldown.

    Formula: f + (max(s, f) - f) k(v), s = (1 + tau/ts)^-a, k and v as in `wsd`
    Source: arXiv 2106.04560, 2408.13359
    Equals: timm WSDLRScheduler(stable_fn="power")
    decay: f = final / peak
    cooldown: K as a fraction of the run's updates, at most all updates after the warmup
    cooldown_shape: k
    cooldown_power: p of `power`
    cooldown_ratio: r of `exponential`
    exponent: a; 1/2 is the inverse square root
    timescale: ts as a fraction of the run's updates, at most all updates after the warmup
    """
    stable_LS = stable_power(1.0 + tau_LS / (timescale * decay_steps_L), -np.asarray(exponent))
    v_LS = _cooldown_progress(tau_LS, decay_steps_L, cooldown, end)
    k_LS = _cooldown_curve(v_LS, cooldown_shape, cooldown_power, cooldown_ratio)
    g_LS: Floats = decay + (np.maximum(stable_LS, decay) - decay) * k_LS
    return g_LS


def swa_tail(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: Floor = 0.1,
    cooldown: Cooldown = 0.2,
    anneal: Anneal = "cos",
) -> Floats:
    """A fall to a lower LR, which is then held, as in stochastic weight averaging.

    Formula: A(c(x)) or A(1-x), x = min(tau/K, 1)
    Source: arXiv 1803.05407
    Equals: torch SWALR
    decay: f = final / peak
    cooldown: K, the length of the fall, as a fraction of the run's updates, at most all updates after the warmup
    anneal: the shape of the fall
    """
    x_LS = np.minimum(tau_LS / np.minimum(whole_updates(cooldown, decay_steps_L), decay_steps_L), 1.0)
    return affine(decay, half_cosine(x_LS) if anneal == "cos" else 1.0 - x_LS)


def _cooldown_progress(tau_LS: Updates, decay_steps_L: Updates, cooldown: RunFraction, end: End) -> Floats:
    """Return v, which is 0 before the last K updates and rises to 1 at the end."""
    last_L = last_update(decay_steps_L, end)
    cooldown_L = np.minimum(whole_updates(cooldown, decay_steps_L), last_L)
    v_LS: Floats = np.clip((tau_LS - (last_L - cooldown_L)) / cooldown_L, 0.0, 1.0)
    return v_LS


def _cooldown_curve(v_LS: Floats, shape: CooldownShape, power: Positive, ratio: OpenFraction) -> Floats:
    """Return k(v), from 1 at v = 0 to 0 at v = 1."""
    if shape == "cosine":
        return half_cosine(v_LS)
    if shape == "exponential":
        k_LS: Floats = (stable_power(ratio, v_LS) - ratio) / (1.0 - ratio)
        return k_LS
    exponent = {"linear": 1.0, "1-sqrt": 0.5, "power": power}[shape]
    return 1.0 - stable_power(v_LS, exponent)
