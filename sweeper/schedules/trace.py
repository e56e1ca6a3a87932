"""The LR of every update of a run. Only this module turns fractions of a run into updates.

    lr_trace("cosine", {"peak_lr": 0.1, "warmup": 0.1, "decay": 0.01}, steps=1000)

A factor counts updates after the warmup, and all fractions that it receives are fractions of decay_steps. Fractions of
the whole run (annotated `RunFraction`, such as `cooldown`) are rounded to updates and converted here. Words (shapes,
fits) are the same for all rows of one call to a factor, so trials with different words need separate calls.

With `epoch`, the number of updates of an epoch, schedules count epochs instead of updates. A schedule is computed for
every epoch that the run starts, fractions are rounded to whole epochs, and each LR is held through its epoch.
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
    """Return the LR of each update, peak_lr * g, float64 [steps]. Of a reactive schedule it is the closed form.

    Element k is the LR that update k + 1 uses, after k updates.

    Fractions are rounded to whole updates: 0 if x <= 0, else max(1, floor(x steps + 1/2)). A warmup has at most
    steps - 1 updates.

    Args:
        family: A Family, or the name of a factor, which then has default hyperparameters and a ramp of length 0.
        params: Hyperparameters, at least peak_lr. `warmup`, `cycle` and `cooldown` are fractions; the docstrings of the
            factors say of what.
        steps: Updates of the run.
        epoch: Updates of an epoch (examples / batch size, whole or not), to hold each LR through an epoch. None for an
            LR of its own for every update.

    Raises:
        InputError: If a hyperparameter is unknown, missing or out of bounds, or steps < 1.
    """
    lr_S: Floats = lr_traces(family, [params], steps, epoch=epoch)[0]
    return lr_S


def lr_traces(family: Family | str, params: Sequence[Params], steps: int, *, epoch: float | None = None) -> Floats:
    """Return the LR traces of many trials, float64 [L, steps].

    Row i equals `lr_trace(family, params[i], steps)` bit for bit.

    Args:
        family: As in `lr_trace`.
        params: Hyperparameters of each trial.
        steps: Updates of the run.
        epoch: As in `lr_trace`.

    Raises:
        InputError: As `lr_trace` does.
    """
    family = default_family(family) if isinstance(family, str) else family
    count, held_S = _clock(steps, epoch)
    lr_LS = np.empty((len(params), count))
    for rows_L, trials in _group_by_words(family, params):
        lr_LS[rows_L] = _lr(family, trials, count)
    return lr_LS if held_S is None else lr_LS[:, held_S]


def momentum_trace(family: Family | str, params: Params, steps: int, *, epoch: float | None = None) -> Floats | None:
    """Return the momentum of each update, float64 [steps]. During a ramp it stays at its first value.

    Args:
        family: As in `lr_trace`.
        params: Hyperparameters of the trial.
        steps: Updates of the run.
        epoch: As in `lr_trace`.

    Returns:
        None if the family leaves momentum to the optimizer.

    Raises:
        InputError: As `lr_trace` does.
    """
    family = default_family(family) if isinstance(family, str) else family
    if family.momentum is None:
        return None
    ((_, trials),) = _group_by_words(family, [params])
    count, held_S = _clock(steps, epoch)
    momentum_S: Floats = _call(family, family.momentum, trials, _clocks(family, trials, count))[0]
    return momentum_S if held_S is None else momentum_S[held_S]


def complete(family: Family, params: Params) -> dict[str, Value]:
    """Return all hyperparameters of a trial, from `params`, the values that the family fixes, and the defaults.

    Raises:
        InputError: If a hyperparameter is unknown, missing or out of bounds.
    """
    known = parameters_of(family)
    for name in params:
        if name not in known:
            raise unknown_parameter(family, name)
    return {name: _value(family, parameter, params) for name, parameter in known.items()}


def decay_steps(family: Family, params: Params, steps: int, *, epoch: float | None = None) -> int:
    """Return the number of updates (with `epoch`: of epochs) after the ramp."""
    ((_, trials),) = _group_by_words(family, [params])
    return int(_clocks(family, trials, _clock(steps, epoch)[0]).decay_steps_L[0, 0])


@dataclass(frozen=True)
class _Trials:
    """Hyperparameters of L trials that share all words and lists.

    Attributes:
        numbers: Numbers by name, float64 [L, 1] each.
        shared: Words and lists by name.
    """

    numbers: Mapping[str, Floats]
    shared: Mapping[str, Value]


@dataclass(frozen=True)
class _Clocks:
    """The time of L trials as their factor counts it.

    Attributes:
        steps: Updates of the run.
        tau_LS: Updates since the ramp, 0 during it, int64 [L, S].
        decay_steps_L: Updates after the ramp, int64 [L, 1].
        warmup_steps_L: Updates of the ramp, int64 [L, 1].
    """

    steps: int
    tau_LS: NDArray[np.int64]
    decay_steps_L: NDArray[np.int64]
    warmup_steps_L: NDArray[np.int64]


def _value(family: Family, parameter: Parameter, params: Params) -> Value:
    key = key_of(family, parameter.name)
    value = params.get(parameter.name, family.space.get(parameter.name, parameter.default))
    if isinstance(value, Range | Choice):
        raise InputError(key, None, "searched, but has no value", f"Give {parameter.name} in params")
    if parameter.required and value is None:
        raise InputError(key, None, "missing", f"Give {parameter.name} in params")
    value = tuple(value) if isinstance(value, list) else value
    check(key, parameter, value)
    return value


def _clock(steps: int, epoch: float | None) -> tuple[int, NDArray[np.int64] | None]:
    """Return the number of LRs of a run, and the index of each update's LR [S] if epochs hold them."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError("steps", steps, "not a number of updates", "Choose a whole number of at least 1")
    if epoch is None:
        return int(steps), None
    if finite_number("epoch", epoch) <= 0:
        raise InputError("epoch", epoch, "not a number of updates", "Give examples / batch size, above 0, or None")
    held_S = epochs(int(steps), epoch)
    return int(held_S[-1]) + 1, held_S


def _group_by_words(family: Family, params: Sequence[Params]) -> Iterator[tuple[list[int], _Trials]]:
    """Yield groups of trials with equal words and lists, with their indices in `params`."""
    known = parameters_of(family)
    number_names = [name for name, parameter in known.items() if parameter.kind == "number"]
    groups: dict[tuple[Value, ...], list[int]] = {}
    rows = [complete(family, row) for row in params]
    for i, row in enumerate(rows):
        groups.setdefault(tuple(row[name] for name in known if name not in number_names), []).append(i)
    for places in groups.values():
        numbers = {name: np.array([[float(rows[i][name])] for i in places]) for name in number_names}  # type: ignore[arg-type]  # checked
        shared = {name: rows[places[0]][name] for name in known if name not in number_names}
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
    """Return the factor's values [L, S], for its hyperparameters in its units."""
    tau_LS, decay_steps_L = clocks.tau_LS, clocks.decay_steps_L
    arguments: dict[str, Any] = {}
    for name, parameter in parameters(factor).items():
        arguments[name] = trials.shared[name] if parameter.kind != "number" else trials.numbers[name]
        if parameter.bounds.run:
            updates_L = np.minimum(whole_updates(arguments[name], clocks.steps), decay_steps_L)
            arguments[name] = updates_L / decay_steps_L
    g_LS: Floats = np.asarray(factor(tau_LS, decay_steps_L, **arguments), dtype=np.float64)
    if g_LS.shape != tau_LS.shape or not np.isfinite(g_LS).all() or (g_LS < 0).any():
        problem = f"its factor gave {_fault(g_LS, tau_LS.shape)} at {dict(trials.shared)}"
        raise InputError(f"schedule.{family.name}", None, problem, "Return finite values, at least 0, of shape [L, S]")
    return g_LS


def _fault(g: Floats, shape: tuple[int, ...]) -> str:
    if g.shape != shape:
        return f"an array of shape {g.shape}, not {shape},"
    return "values that are not finite" if not np.isfinite(g).all() else "negative values"
