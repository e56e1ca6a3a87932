"""Factors that rise again, or rise first. Every public function here is a factor, as in decays.py.

A cycle's length is a fraction of the updates after the warmup. With `cycle_fit: fitted`, the default, the run has the
nearest number of whole cycles, and the length of the first one is solved for so that the last one ends with the run.
With sampled lengths, most runs would otherwise end inside a cycle, at a high LR. `cycle_fit: free` uses the length
literally, as torch does.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import affine, half_cosine, progress, stable_power, whole_updates
from sweeper.schedules.lengths import CycleFit, cycle_position, wave_count
from sweeper.schedules.numbers import (
    AtLeastOne,
    BelowOne,
    Cycle2,
    Cycle3,
    Cycle4,
    End,
    Floor,
    OpenFraction,
    PositiveFraction,
    Rise,
)
from sweeper.schedules.phases import Anneal, anneal_between, onecycle_points
from sweeper.types import Floats

Updates = NDArray[np.int64]
ScaleMode = Literal["cycle", "iterations"]


def sgdr(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Cycle2 = 0.25,
    cycle_mult: AtLeastOne = 1.0,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """Cosine with warm restarts: half a cosine wave in each cycle, then the peak again.

    The lowest LR is just above f, because f would be reached one update after the end of the cycle.

    Formula: f + (gamma^i - f) c(j/C_i) in update j of cycle i, C_i = C_0 m^i
    Source: arXiv 1608.03983
    Equals: free, torch CosineAnnealingWarmRestarts(C_0, m, f peak_lr) (gamma = 1) and timm
        CosineLRScheduler(cycle_mul=m, cycle_decay=gamma); in whole cycles transformers
        get_cosine_with_hard_restarts_schedule_with_warmup
    Differs: torch's step(epoch) and timm find the cycle by a logarithm, which is wrong at the fifth restart for m = 3;
        Keras' m_mul scales the part above the floor
    Founding notes: they describe it without a formula, and attribute the restarts to cosine annealing too.
    decay: gamma, the factor from peak to peak of successive cycles
    cycle: C_0/D, the first cycle as a fraction of the updates after the warmup
    cycle_mult: m, each cycle's length to the one before
    end_factor: f, where cycles end, as a fraction of the first peak
    cycle_fit: `fitted` to whole cycles that end with the run, or `free`
    """
    index_LS, x_LS, _ = cycle_position(tau_LS, decay_steps_L, cycle, cycle_mult, cycle_fit)
    return _restart(index_LS, half_cosine(x_LS), decay, end_factor)


def sawtooth(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Cycle2 = 0.25,
    cycle_mult: AtLeastOne = 1.0,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """Straight lines with warm restarts.

    Formula: f + (gamma^i - f)(1 - j/C_i) in update j of cycle i, C_i = C_0 m^i
    Equals: free, torch LinearLR for each cycle in a SequentialLR; timm PolyLRScheduler(power=1, cycle_mul=m,
        cycle_decay=gamma)
    Differs: Keras' PolynomialDecay(cycle=True) is something else: it stretches one line
    decay: gamma, the factor from peak to peak of successive cycles
    cycle: C_0/D, the first cycle as a fraction of the updates after the warmup
    cycle_mult: m, each cycle's length to the one before
    end_factor: f, where cycles end, as a fraction of the first peak
    cycle_fit: `fitted` to whole cycles that end with the run, or `free`
    """
    index_LS, x_LS, _ = cycle_position(tau_LS, decay_steps_L, cycle, cycle_mult, cycle_fit)
    return _restart(index_LS, 1.0 - x_LS, decay, end_factor)


def cycle_warmup_cosine(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Cycle3 = 0.25,
    cycle_mult: AtLeastOne = 1.0,
    cycle_warmup: BelowOne = 0.1,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """Cosine cycles, each with its own warmup.

    Formula: f + (gamma^i - f) j/w in the first w updates j of cycle i, then half a cosine wave over the others
    Equals: free, pytorch_optimizer CosineAnnealingWarmupRestarts (m = 1)
    decay: gamma, the factor from peak to peak of successive cycles
    cycle: C_0/D, the first cycle as a fraction of the run
    cycle_mult: m, each cycle's length to the one before
    cycle_warmup: w/C_i, rounded, at most C_i - 1 updates; it replaces a warmup of the run
    end_factor: f, where cycles start and end, as a fraction of the first peak
    cycle_fit: `fitted` to whole cycles that end with the run, or `free`
    """
    index_LS, x_LS, length_LS = cycle_position(tau_LS, decay_steps_L, cycle, cycle_mult, cycle_fit)
    rise_LS = np.minimum(whole_updates(cycle_warmup, length_LS), length_LS - 1) / length_LS
    up_LS = x_LS / np.where(rise_LS > 0, rise_LS, 1.0)
    shape_LS = np.where(x_LS < rise_LS, up_LS, half_cosine((x_LS - rise_LS) / (1.0 - rise_LS)))
    return _restart(index_LS, shape_LS, decay, end_factor)


def clr(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Cycle4 = 0.25,
    base_factor: Floor = 0.1,
    up_share: OpenFraction = 0.5,
    scale_mode: ScaleMode = "cycle",
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """Cyclical LR: triangles between a base LR and the peak.

    Formula: b + (1-b) h s, h from 0 to 1 and back in each cycle; s = decay^i in cycle i, or (iterations)
        decay^(tau/D)
    Source: arXiv 1506.01186
    Equals: free, torch CyclicLR: triangular (decay 1), triangular2 (decay 1/2), and by iterations exp_range, whose
        gamma is decay^(1/D)
    decay: factor of the peaks from cycle to cycle; by iterations, over the whole run
    cycle: one rise and fall, as a fraction of the run
    base_factor: b = lowest / peak
    up_share: the fraction of a cycle that rises
    scale_mode: whether `decay` applies per cycle or per update (iterations)
    cycle_fit: `fitted` to whole cycles that end with the run, or `free`
    """
    index_LS, x_LS, _ = cycle_position(tau_LS, decay_steps_L, cycle, 1.0, cycle_fit)
    height_LS = np.where(x_LS <= up_share, x_LS / up_share, (1.0 - x_LS) / (1.0 - up_share))
    worn_LS = index_LS if scale_mode == "cycle" else tau_LS / decay_steps_L
    g_LS: Floats = base_factor + (1.0 - base_factor) * height_LS * stable_power(decay, worn_LS)
    return g_LS


def cosine_waves(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    cycle: Cycle4 = 0.5,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """Whole cosine waves: a fall and a smooth rise, without restarts.

    Formula: A(c(2 n u)), n = 1/cycle waves
    Equals: free, torch CosineAnnealingLR past its T_max; transformers get_cosine_schedule_with_warmup(num_cycles=n)
    cycle: 1/n, one wave as a fraction of the updates after the warmup
    end_factor: f, the lowest LR as a fraction of the peak
    cycle_fit: `fitted` to the nearest n = k + 1/2, so that the run ends at the bottom of a wave, or `free`
    """
    n_L = wave_count(cycle, cycle_fit)
    return affine(end_factor, half_cosine(2.0 * n_L * progress(tau_LS, decay_steps_L, "open")))


def noam(tau_LS: Updates, decay_steps_L: Updates, *, warmup: Rise = 0.1) -> Floats:
    """A linear rise, then a fall by the inverse square root.

    peak_lr is the LR at n = W. In the original it is factor * (d_model W)^-1/2.

    Formula: min(n/W, sqrt(W/n)), n = tau + 1
    Source: arXiv 1706.03762
    Equals: torch LambdaLR
    warmup: W, the length of the rise, as a fraction of the run's updates, at least one update
    """
    n_LS, peak_L = tau_LS + 1, whole_updates(warmup, decay_steps_L)
    g_LS: Floats = np.minimum(n_LS / peak_L, np.sqrt(peak_L / n_LS))
    return g_LS


def stlr(tau_LS: Updates, decay_steps_L: Updates, *, warmup: OpenFraction = 0.1, decay: Floor = 1 / 32) -> Floats:
    """A slanted triangle: a short linear rise and a long linear fall.

    Formula: A(p), p = tau/cut, then 1 - (tau-cut)/(D-cut)
    Source: ULMFiT, arXiv 1801.06146
    Equals: pytorch_scheduler SlantedTriangularScheduler
    Differs: the paper divides by cut (1/cut_frac - 1), which is D - cut up to the rounding of cut
    Founding notes: their init + (max-init)(1 - t/T) starts at the top and only falls, so it is not a triangle.
    warmup: cut_frac, the length of the rise, as a fraction of the run's updates; rounded, at least one, and not all
    decay: 1/ratio, where it starts and (at tau = D) ends, as a fraction of the peak
    """
    cut_L = np.minimum(whole_updates(warmup, decay_steps_L), np.maximum(decay_steps_L - 1, 1))
    down_LS = 1.0 - (tau_LS - cut_L) / np.maximum(decay_steps_L - cut_L, 1)
    return affine(decay, np.where(tau_LS < cut_L, tau_LS / cut_L, down_LS))


def range_test(
    tau_LS: Updates, decay_steps_L: Updates, *, start_factor: PositiveFraction = 1e-8, end: End = "open"
) -> Floats:
    """The LR range test: the LR grows by the same factor at every update. Not a schedule for training.

    Formula: start_factor^(1-u)
    Source: arXiv 1506.01186
    Equals: torch ExponentialLR(start_factor^(-1/D)) from start_factor peak_lr
    Founding notes: they choose the LR at the minimum of the validation loss. In practice the test uses the smoothed
        training loss and stops when it explodes. The chosen LR is well below the minimum (a tenth of it, or where the
        loss falls fastest), because at the minimum training is about to diverge. `python -m sweeper range` does this.
    start_factor: start / peak
    """
    return stable_power(start_factor, 1.0 - progress(tau_LS, decay_steps_L, end))


def onecycle(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    warmup: Rise = 0.3,
    decay: Floor = 4e-6,
    div_factor: AtLeastOne = 25.0,
    anneal: Anneal = "cos",
    three_phase: bool = False,
    end: End = "closed",
) -> Floats:
    """1cycle: a rise to the peak, then a fall to far below the start.

    The position of the peak is not rounded. With an open end, the final LR would be reached at t = T, as in fastai.

    Formula: from 1/div_factor to 1 at t = p T - 1, then to f at T-1; three_phase: back to 1/div_factor at 2 p T - 2
        first
    Source: arXiv 1708.07120; two phases are fastai's version, three_phase is the paper's
    Equals: torch OneCycleLR; open, with p T whole, optax cosine_onecycle_schedule
    Differs: torch divides by zero if p T = 1, and rises again after the end; here there is no rise if p T <= 1;
        fastai's final LR is a fraction of the peak, torch's of the start
    Founding notes: their max (1 - t/T)^power is `polynomial`, which never rises.
    warmup: p (pct_start), the length of the rise, as a fraction of the run's updates
    decay: f = final / peak = 1/(div_factor final_div_factor)
    div_factor: peak / start
    anneal: the shape of rise and fall
    three_phase: whether it falls as fast as it rose, and then further until the end
    """
    points = onecycle_points(decay_steps_L, warmup, three_phase, end)
    start = 1.0 / np.asarray(div_factor)
    values = [start, 1.0, start, decay] if three_phase else [start, 1.0, decay]
    return anneal_between(tau_LS, points, values, anneal)


def _restart(index_LS: Floats, shape_LS: Floats, decay: PositiveFraction, end_factor: Floor) -> Floats:
    """Return f + (gamma^i - f) s, with s from 1 to 0 in each cycle i."""
    g_LS: Floats = end_factor + (stable_power(decay, index_LS) - end_factor) * shape_LS
    return g_LS
