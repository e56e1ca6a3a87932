"""The LR of every update of a run: the one place where fractions of a run become updates.

    lr_trace("cosine", {"peak_lr": 0.1, "warmup": 0.1, "decay": 0.01}, steps=1000)

Every number arrives as a fraction and stays one: a factor knows one clock, the updates after the warmup, and all
fractions it sees are fractions of decay_steps. Those that a person counts in the run's updates (annotated
`RunFraction`, as `cooldown`) are rounded here and handed over in that unit. Words (shapes, fits) are plain text,
shared by all rows of one call to a factor; rows with other words are called apart.

With `epoch`, the updates of an epoch, the schedule runs on the clock of epochs instead: it is computed for as many
of them as the run begins, fractions are rounded to whole epochs, and each epoch's LR is held through its updates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.schedules import warmups
from sweeper.schedules.clock import epochs, whole_updates
from sweeper.schedules.families import default_family, key_of, parameters_of, unknown_parameter
from sweeper.schedules.numbers import Parameter, check, finite_number, parameters
from sweeper.types import Choice, Factor, Family, Floats, InputError, Range, Value

Params = Mapping[str, Value]


def lr_trace(family: Family | str, params: Params, steps: int, *, epoch: float | None = None) -> Floats:
    """The LR used by each update, float64 [steps]: peak_lr * g; of a reactive schedule before anything is seen.

    family: a Family, or the name of a factor, with its default numbers and a prefix warmup of 0. params: peak_lr
    and any other numbers; `warmup`, `cycle`, `cooldown` as fractions (the factors' docstrings say of what).
    Fractions are rounded to whole updates: 0 if x <= 0, else max(1, floor(x steps + 1/2)); a warmup takes at most
    steps - 1. epoch: updates of an epoch (examples / batch size, whole or not) through which each LR is held; None:
    every update has its own. Raises InputError for an unknown, missing or impossible number, and for steps < 1.
    """
    lr_S: Floats = lr_traces(family, [params], steps, epoch=epoch)[0]
    return lr_S


def lr_traces(family: Family | str, params: Sequence[Params], steps: int, *, epoch: float | None = None) -> Floats:
    """The LR traces of many trials, float64 [L, steps]; row i equals lr_trace(family, params[i], steps) bit for bit."""
    family = default_family(family) if isinstance(family, str) else family
    count, held_S = _clock(steps, epoch)
    lr_LS = np.empty((len(params), count))
    for rows_L, trials in _group_by_words(family, params):
        lr_LS[rows_L] = _lr(family, trials, count)
    return lr_LS if held_S is None else lr_LS[:, held_S]


def momentum_trace(family: Family | str, params: Params, steps: int, *, epoch: float | None = None) -> Floats | None:
    """The momentum of each update, float64 [steps]; None where the family keeps the optimizer's constant one.

    Through a prefix warmup it stays at its first value. epoch: as in lr_trace.
    """
    family = default_family(family) if isinstance(family, str) else family
    if family.momentum is None:
        return None
    ((_, trials),) = _group_by_words(family, [params])
    count, held_S = _clock(steps, epoch)
    momentum_S: Floats = _call(family, family.momentum, trials, _clocks(family, trials, count))[0]
    return momentum_S if held_S is None else momentum_S[held_S]


def complete(family: Family, params: Params) -> dict[str, Value]:
    """All numbers of one trial: `params`, then what the family fixes, then the factor's defaults; checked."""
    known = parameters_of(family)
    for number in params:
        if number not in known:
            raise unknown_parameter(family, number)
    return {name: _value(family, parameter, params) for name, parameter in known.items()}


def decay_steps(family: Family, params: Params, steps: int, *, epoch: float | None = None) -> int:
    """What the factor runs over: the updates (with `epoch`: the epochs) after a prefix warmup."""
    ((_, trials),) = _group_by_words(family, [params])
    return int(_clocks(family, trials, _clock(steps, epoch)[0]).decay_steps_L[0, 0])


@dataclass(frozen=True)
class _Trials:
    """The numbers of L trials, float64 [L, 1] each, and the words and lists that they share."""

    numbers: Mapping[str, Floats]
    shared: Mapping[str, Value]


@dataclass(frozen=True)
class _Clocks:
    """What time is to the factor of L trials of so many `steps`.

    tau_LS: its clock, int64 [L, S], 0 through a prefix warmup. decay_steps_L: its length, int64 [L, 1].
    warmup_steps_L: updates of a prefix warmup, int64 [L, 1].
    """

    steps: int
    tau_LS: NDArray[np.int64]
    decay_steps_L: NDArray[np.int64]
    warmup_steps_L: NDArray[np.int64]


def _value(family: Family, parameter: Parameter, params: Params) -> Value:
    key = key_of(family, parameter.name)
    value = params.get(parameter.name, family.space.get(parameter.name, parameter.default))
    if isinstance(value, Range | Choice):
        raise InputError(key, None, "searched, and without a value", f"Give {parameter.name} in the trial's params")
    if parameter.required and value is None:
        raise InputError(key, None, "missing", f"Give {parameter.name} in params")
    value = tuple(value) if isinstance(value, list) else value
    check(key, parameter, value)
    return value


def _clock(steps: int, epoch: float | None) -> tuple[int, NDArray[np.int64] | None]:
    """How many LRs a run has, and, where they are held through epochs, which of them each update [S] uses."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError("steps", steps, "no number of updates", "A run has a whole number of updates, at least 1")
    if epoch is None:
        return int(steps), None
    if finite_number("epoch", epoch) <= 0:
        raise InputError("epoch", epoch, "not a number of updates", "Write examples / batch size, above 0, or None")
    held_S = epochs(int(steps), epoch)
    return int(held_S[-1]) + 1, held_S


def _group_by_words(family: Family, params: Sequence[Params]) -> Iterator[tuple[list[int], _Trials]]:
    """The trials grouped by their words and lists, with their places in `params`."""
    known = parameters_of(family)
    counted = [name for name, parameter in known.items() if parameter.kind == "number"]
    groups: dict[tuple[Value, ...], list[int]] = {}
    rows = [complete(family, row) for row in params]
    for i, row in enumerate(rows):
        groups.setdefault(tuple(row[name] for name in known if name not in counted), []).append(i)
    for places in groups.values():
        numbers = {name: np.array([[float(rows[i][name])] for i in places]) for name in counted}  # type: ignore[arg-type]  # checked
        shared = {name: rows[places[0]][name] for name in known if name not in counted}
        yield places, _Trials(numbers, shared)


def _clocks(family: Family, trials: _Trials, steps: int) -> _Clocks:
    peak_L = trials.numbers["peak_lr"]
    warmup_L = trials.numbers["warmup"] if family.warmup == "prefix" else np.zeros_like(peak_L)
    warmup_steps_L = np.minimum(whole_updates(warmup_L, steps), steps - 1)
    before_L = warmup_steps_L if trials.shared.get("warmup_join") == "prefix" else np.zeros_like(warmup_steps_L)
    return _Clocks(steps, np.maximum(np.arange(steps) - before_L, 0), steps - before_L, warmup_steps_L)


def _lr(family: Family, trials: _Trials, steps: int) -> Floats:
    clocks = _clocks(family, trials, steps)
    g_LS = _call(family, family.factor, trials, clocks)
    if family.warmup == "prefix":
        t_LS = np.broadcast_to(np.arange(steps), clocks.tau_LS.shape)
        ramp_LS = warmups.SHAPES[str(trials.shared["warmup_shape"])](t_LS, clocks.warmup_steps_L)
        under_LS = g_LS if trials.shared["warmup_join"] == "product" else 1.0
        g_LS = np.where(t_LS < clocks.warmup_steps_L, ramp_LS * under_LS, g_LS)
    lr_LS: Floats = trials.numbers["peak_lr"] * g_LS
    return lr_LS


def _call(family: Family, factor: Factor, trials: _Trials, clocks: _Clocks) -> Floats:
    """The factor's values [L, S], with the numbers that it names, in its units."""
    tau_LS, decay_steps_L = clocks.tau_LS, clocks.decay_steps_L
    given: dict[str, Any] = {}
    for name, parameter in parameters(factor).items():
        given[name] = trials.shared[name] if parameter.kind != "number" else trials.numbers[name]
        if parameter.bounds.run:
            given[name] = np.minimum(whole_updates(given[name], clocks.steps), decay_steps_L) / decay_steps_L
    g_LS: Floats = np.asarray(factor(tau_LS, decay_steps_L, **given), dtype=np.float64)
    if g_LS.shape != tau_LS.shape or not np.isfinite(g_LS).all() or (g_LS < 0).any():
        problem = f"its factor gave {_fault(g_LS, tau_LS.shape)} at {dict(trials.shared)}"
        raise InputError(f"schedule.{family.name}", None, problem, "A factor is finite, at least 0 and [L, S]")
    return g_LS


def _fault(g: Floats, shape: tuple[int, ...]) -> str:
    if g.shape != shape:
        return f"an array of shape {g.shape}, not {shape},"
    return "values that are not finite" if not np.isfinite(g).all() else "negative values"
