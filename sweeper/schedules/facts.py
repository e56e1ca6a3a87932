"""What a table says of a trial's schedule: whether it ended high, and how many cycles it ran."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sweeper.schedules.clock import whole_updates
from sweeper.schedules.families import FACTORS
from sweeper.schedules.lengths import cycle_count, fitted_count, wave_count
from sweeper.schedules.numbers import parameters
from sweeper.schedules.trace import complete, decay_steps, lr_trace
from sweeper.types import Family, Floats, Value

ENDS_HIGH = 0.1  # a trial that ends further above its floor, as a fraction of its peak, is marked in every table


def height_at_end(family: Family, params: Mapping[str, Value], steps: int, *, epoch: float | None = None) -> float:
    """How far the last LR lies above the trial's floor, as a fraction of its highest LR; > ENDS_HIGH is marked.

    The floor is the smallest LR from the peak on; in a family that says which g it means to reach (the number
    annotated Floor: `decay` of cosine, `end_factor` of sgdr) it is at most that one, reached or not. So a cosine
    cycle cut short in the middle ends half a peak high, while a constant LR ends at its floor. epoch: as in lr_trace.
    Of a reactive schedule it is that of its closed form, and `height_of` that of the LR it came to.
    """
    lr_S = lr_trace(family, params, steps, epoch=epoch)
    peak = int(np.argmax(lr_S))
    floor = float(lr_S[peak:].min())
    numbers = complete(family, params)
    own = parameters(family.factor)
    for name, parameter in own.items():
        if parameter.bounds.floor:
            floor = min(floor, float(numbers["peak_lr"]) * float(numbers[name]))  # type: ignore[arg-type]  # checked
    if "floor" in own:
        floor = max(floor, float(numbers["peak_lr"]) * float(numbers["floor"]))  # type: ignore[arg-type]  # checked
    return (float(lr_S[-1]) - floor) / float(lr_S[peak])


def height_of(lr_S: Floats) -> float:
    """How far the last LR lies above the smallest from the peak on, as a fraction of the highest."""
    peak = int(np.argmax(lr_S))
    return float((lr_S[-1] - lr_S[peak:].min()) / lr_S[peak])


def cycles_run(family: Family, params: Mapping[str, Value], steps: int, *, epoch: float | None = None) -> float | None:
    """How many cycles (of `step`: distances between drops) the run holds; None for a family without `cycle`.

    Whole where they are fitted (cosine_waves: to half a wave); else D/C of the literal length, or with growing
    cycles the real number of them that fills the run; below 1 where the first one is cut short.
    """
    numbers = complete(family, params)
    if "cycle" not in numbers:
        return None
    length = decay_steps(family, params, steps, epoch=epoch)
    cycle, cycle_mult = float(numbers["cycle"]), float(numbers.get("cycle_mult", 1.0))  # type: ignore[arg-type]  # checked
    if family.factor is FACTORS["cosine_waves"]:
        return float(wave_count(cycle, "fitted" if numbers["cycle_fit"] == "fitted" else "free"))
    if numbers.get("cycle_fit") == "fitted":
        return float(fitted_count(np.array([[length]]), cycle, cycle_mult)[0, 0])
    whole = int(whole_updates(cycle, length))
    return float(cycle_count(whole / length, cycle_mult))
