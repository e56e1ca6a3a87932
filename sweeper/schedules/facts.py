"""Facts about a trial's schedule in tables: whether it ended high, and the number of its cycles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sweeper.schedules.clock import whole_updates
from sweeper.schedules.families import FACTORS
from sweeper.schedules.lengths import cycle_count, fitted_count, wave_count
from sweeper.schedules.numbers import parameters
from sweeper.schedules.trace import complete, decay_steps, lr_trace
from sweeper.types import Family, Floats, Value

ENDS_HIGH = 0.1  # tables mark a trial that ends further above its floor, as a fraction of its peak


def height_at_end(family: Family, params: Mapping[str, Value], steps: int, *, epoch: float | None = None) -> float:
    """Return the distance of the last LR from the trial's floor, as a fraction of its highest LR.

    The floor is the smallest LR after the peak. In a family with a target value (a hyperparameter annotated `Floor`,
    such as `decay` of cosine or `end_factor` of sgdr), it is at most that value, even if the trial does not reach it.
    So a cosine cycle that is cut off halfway ends half a peak high, and a constant LR ends at its floor.

    Of a reactive schedule this is the height of its closed form; `height_of` gives that of the LR that was used.

    Args:
        family: The family.
        params: Hyperparameters of the trial.
        steps: Updates of the run.
        epoch: Updates of an epoch, as in `lr_trace`.
    """
    lr_S = lr_trace(family, params, steps, epoch=epoch)
    peak = int(np.argmax(lr_S))
    floor = float(lr_S[peak:].min())
    numbers = complete(family, params)
    parameter_of = parameters(family.factor)
    for name, parameter in parameter_of.items():
        if parameter.bounds.floor:
            floor = min(floor, float(numbers["peak_lr"]) * float(numbers[name]))  # type: ignore[arg-type]  # checked
    if "floor" in parameter_of:
        floor = max(floor, float(numbers["peak_lr"]) * float(numbers["floor"]))  # type: ignore[arg-type]  # checked
    return (float(lr_S[-1]) - floor) / float(lr_S[peak])


def height_of(lr_S: Floats) -> float:
    """Return the distance of the last LR from the smallest one after the peak, as a fraction of the highest."""
    peak = int(np.argmax(lr_S))
    return float((lr_S[-1] - lr_S[peak:].min()) / lr_S[peak])


def cycles_run(family: Family, params: Mapping[str, Value], steps: int, *, epoch: float | None = None) -> float | None:
    """Return the number of cycles in the run (of `step`: intervals between drops), or None without `cycle`.

    With `cycle_fit: fitted` it is whole (a multiple of half a wave in cosine_waves). Otherwise it may have a fraction,
    and it is below 1 if the run ends inside the first cycle.

    Args:
        family: The family.
        params: Hyperparameters of the trial.
        steps: Updates of the run.
        epoch: Updates of an epoch, as in `lr_trace`.
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
