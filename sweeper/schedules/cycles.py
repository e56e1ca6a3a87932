"""Factors that rise again, or rise first. Every public function here is a factor, as in decays.py.

A cycle's length is a fraction of the updates after the warmup. `cycle_fit: fitted`, the default, takes the number
of whole cycles nearest to it and solves the first length so that the last cycle ends with the run: with freely
drawn lengths most runs stop in mid-air, at a high LR. `cycle_fit: free` keeps the literal length, as torch does.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import affine, half_cosine, progress, raised, whole_updates
from sweeper.schedules.lengths import CycleFit, cycle_position, wave_count
from sweeper.schedules.numbers import AtLeastOne, BelowOne, End, Floor, OpenFraction, Positive, PositiveFraction
from sweeper.schedules.phases import Anneal, anneal_between, onecycle_points
from sweeper.types import Floats

Updates = NDArray[np.int64]
ScaleMode = Literal["cycle", "iterations"]


def sgdr(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Positive = 0.25,
    cycle_mult: AtLeastOne = 1.0,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """Cosine with warm restarts (arXiv 1608.03983): f + (gamma^i - f) c(j/C_i) in update j of cycle i.

    decay = gamma, the factor from peak to peak; cycle = C_0/D, the first cycle; cycle_mult = m, C_i = C_0 m^i;
    end_factor = f. A trough is just above f: f itself would be the update after the cycle's last.
    """
    index_LS, x_LS, _ = cycle_position(tau_LS, decay_steps_L, cycle, cycle_mult, cycle_fit)
    return _restarted(index_LS, half_cosine(x_LS), decay, end_factor)


def sawtooth(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Positive = 0.25,
    cycle_mult: AtLeastOne = 1.0,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """f + (gamma^i - f)(1 - j/C_i) in update j of cycle i: sgdr with straight lines, its numbers as there."""
    index_LS, x_LS, _ = cycle_position(tau_LS, decay_steps_L, cycle, cycle_mult, cycle_fit)
    return _restarted(index_LS, 1.0 - x_LS, decay, end_factor)


def cycle_warmup_cosine(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Positive = 0.25,
    cycle_mult: AtLeastOne = 1.0,
    cycle_warmup: BelowOne = 0.1,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """sgdr with a ramp in every cycle: f + (gamma^i - f) j/w for its first w updates, then the half cosine.

    cycle_warmup = w/C_i, rounded, at most C_i - 1 updates; a cycle begins at f (pytorch_optimizer's
    CosineAnnealingWarmupRestarts). It is the family's warmup. The other numbers as in sgdr.
    """
    index_LS, x_LS, length_LS = cycle_position(tau_LS, decay_steps_L, cycle, cycle_mult, cycle_fit)
    rise_LS = np.minimum(whole_updates(cycle_warmup, length_LS), length_LS - 1) / length_LS
    up_LS = x_LS / np.where(rise_LS > 0, rise_LS, 1.0)
    shape_LS = np.where(x_LS < rise_LS, up_LS, half_cosine((x_LS - rise_LS) / (1.0 - rise_LS)))
    return _restarted(index_LS, shape_LS, decay, end_factor)


def clr(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    decay: PositiveFraction = 1.0,
    cycle: Positive = 0.25,
    base_factor: Floor = 0.1,
    up_share: OpenFraction = 0.5,
    scale_mode: ScaleMode = "cycle",
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """Cyclical LR (arXiv 1506.01186): b + (1-b) h s, h a triangle from 0 to 1 and back in each cycle.

    base_factor = b; cycle = a full up and down as a fraction of D; up_share = how much of it rises. The peaks
    shrink by s = decay^i in cycle i (scale_mode: cycle; decay 1 is "triangular", 1/2 "triangular2") or by
    s = decay^(tau/D) (iterations; "exp_range", decay being gamma^D, over the whole run).
    """
    index_LS, x_LS, _ = cycle_position(tau_LS, decay_steps_L, cycle, 1.0, cycle_fit)
    height_LS = np.where(x_LS <= up_share, x_LS / up_share, (1.0 - x_LS) / (1.0 - up_share))
    worn_LS = index_LS if scale_mode == "cycle" else tau_LS / decay_steps_L
    g_LS: Floats = base_factor + (1.0 - base_factor) * height_LS * raised(decay, worn_LS)
    return g_LS


def cosine_waves(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    cycle: Positive = 0.5,
    end_factor: Floor = 0.0,
    cycle_fit: CycleFit = "fitted",
) -> Floats:
    """A((1 + cos(2 pi n u))/2), n = 1/cycle waves, end_factor = f: down and smoothly up again, no restarts.

    Fitted, n is the nearest half number k + 1/2, so that the run ends at the bottom of a wave. transformers'
    get_cosine_schedule_with_warmup(num_cycles=n).
    """
    n_L = wave_count(cycle, cycle_fit)
    return affine(end_factor, half_cosine(2.0 * n_L * progress(tau_LS, decay_steps_L, "open")))


def noam(tau_LS: Updates, decay_steps_L: Updates, *, warmup: OpenFraction = 0.1) -> Floats:
    """min(n/W, sqrt(W/n)), n = tau + 1 (arXiv 1706.03762): up in a line, down by the inverse square root.

    warmup = W as a fraction of the run, at least one update. peak_lr is the LR at n = W: the original's
    d_model^-1/2 W^-1/2 times its factor.
    """
    n_LS, peak_L = tau_LS + 1, whole_updates(warmup, decay_steps_L)
    g_LS: Floats = np.minimum(n_LS / peak_L, np.sqrt(peak_L / n_LS))
    return g_LS


def stlr(tau_LS: Updates, decay_steps_L: Updates, *, warmup: OpenFraction = 0.1, decay: Floor = 1 / 32) -> Floats:
    """Slanted triangles (ULMFiT, arXiv 1801.06146): A(p), p = t/cut, then 1 - (t-cut)/(T-cut).

    warmup = cut_frac, rounded to updates, from 1 to T-1 of them; decay = 1/ratio, where it starts and (at t = T)
    ends. The paper's denominator, cut (1/cut_frac - 1), is T - cut up to the rounding of cut.
    """
    cut_L = np.minimum(whole_updates(warmup, decay_steps_L), np.maximum(decay_steps_L - 1, 1))
    down_LS = 1.0 - (tau_LS - cut_L) / np.maximum(decay_steps_L - cut_L, 1)
    return affine(decay, np.where(tau_LS < cut_L, tau_LS / cut_L, down_LS))


def range_test(
    tau_LS: Updates, decay_steps_L: Updates, *, start_factor: PositiveFraction = 1e-8, end: End = "open"
) -> Floats:
    """start_factor^(1-u): the same factor up at every update, the LR range test (arXiv 1506.01186, fastai's sweep)."""
    return raised(start_factor, 1.0 - progress(tau_LS, decay_steps_L, end))


def onecycle(
    tau_LS: Updates,
    decay_steps_L: Updates,
    *,
    warmup: OpenFraction = 0.3,
    decay: Floor = 4e-6,
    div_factor: AtLeastOne = 25.0,
    anneal: Anneal = "cos",
    three_phase: bool = False,
    end: End = "closed",
) -> Floats:
    """1cycle (arXiv 1708.07120) as in torch's OneCycleLR: up from 1/div_factor, then down to `decay`.

    warmup = pct_start, the fraction of the run that rises; decay = final / peak = 1/(div_factor final_div_factor),
    its default being torch's; three_phase: down to 1/div_factor as fast as it rose, then to the end, as in the
    paper. The peak's place is not rounded. Open, the end would be reached at t = T, as in fastai.
    """
    points = onecycle_points(decay_steps_L, warmup, three_phase, end)
    start = 1.0 / np.asarray(div_factor)
    values = [start, 1.0, start, decay] if three_phase else [start, 1.0, decay]
    return anneal_between(tau_LS, points, values, anneal)


def _restarted(index_LS: Floats, shape_LS: Floats, decay: PositiveFraction, end_factor: Floor) -> Floats:
    """f + (gamma^i - f) s, with s from 1 to 0 in each cycle i."""
    g_LS: Floats = end_factor + (raised(decay, index_LS) - end_factor) * shape_LS
    return g_LS
