"""Factors that rise again, or rise first. Every public function here is a factor, as in decays.py.

A cycle's length is a fraction of the updates after the warmup. `cycle_fit: fitted`, the default, takes the number
of whole cycles nearest to it and solves the first length so that the last cycle ends with the run: with freely
drawn lengths most runs stop in mid-air, at a high LR. `cycle_fit: free` keeps the literal length, as torch does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules.clock import half_cosine
from sweeper.schedules.lengths import CycleFit, cycle_position
from sweeper.schedules.numbers import AtLeastOne, End, Floor, OpenFraction, Positive, PositiveFraction
from sweeper.schedules.phases import Anneal, anneal_between, onecycle_points
from sweeper.types import Floats

Updates = NDArray[np.int64]


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
    index_LS, x_LS = cycle_position(tau_LS, decay_steps_L, cycle, cycle_mult, cycle_fit)
    g_LS: Floats = end_factor + (np.asarray(decay) ** index_LS - end_factor) * half_cosine(x_LS)
    return g_LS


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
