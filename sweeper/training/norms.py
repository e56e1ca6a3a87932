"""Norms of gradients and updates, measured on the device and read at the report.

- `grad_norm`: the L2 norm of an update's gradients over all parameters, before clipping.
- `update_to_weight`: ||w after - w before|| / ||w before|| over all parameters. About 1e-3 is considered healthy
  (CS231n, "Neural Networks 3", Ratio of weights:updates).

Measuring changes no result, because it only reads weights and gradients. At the default of 1,000 updates, a tenth of
them measured, it takes 3 to 7 % of a small model's time (benchmarks/RESULTS.md). At 10,000 it takes a tenth of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweeper.types import Floats

NAMES = ("grad_norm", "update_to_weight")
MEASUREMENTS = 100  # updates of a run that are measured, about


class Before(NamedTuple):
    """What was measured before an update.

    Attributes:
        norms: Norms of the gradients, then of the weights, one [] for each parameter.
        values: Copies of the weights.
    """

    norms: list[Tensor]
    values: list[Tensor]


@lru_cache(maxsize=64)
def measured_steps(steps: int, report_steps: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the updates of a run that are measured: every (steps // 100)th and the last before each report.

    With more than 100 reports, only the last update of the run is added, so there are at most 299.

    Args:
        steps: Updates of the run.
        report_steps: Updates after which it reports.

    Returns:
        Updates counted from 1, increasing, int64. The array is read-only.
    """
    stride = max(1, steps // MEASUREMENTS)
    ends = report_steps if len(report_steps) <= MEASUREMENTS else report_steps[-1:]
    chosen = np.union1d(np.arange(stride, steps + 1, stride, dtype=np.int64), np.asarray(ends, dtype=np.int64))
    chosen.flags.writeable = False
    return chosen


def measured_flags(steps: int, report_steps: tuple[int, ...], first: int, until: int) -> NDArray[np.bool_]:
    """Return whether each of the updates first .. until - 1, counted from 0, is measured, bool [S]."""
    chosen = measured_steps(steps, report_steps)
    flags_S = np.zeros(until - first, dtype=np.bool_)
    low, high = np.searchsorted(chosen, (first, until), side="right")
    flags_S[chosen[low:high] - first - 1] = True
    return flags_S


def measure_before(parameters: Sequence[nn.Parameter], spare: Sequence[Tensor] = ()) -> Before:
    """Measure gradients and weights between the backward pass and the update, without waiting for the device.

    The optimizer may overwrite the gradients later.

    Args:
        parameters: The model's parameters.
        spare: The `values` of an earlier call, whose memory is reused if it fits. On the CPU, allocating costs more
            than measuring.
    """
    with torch.no_grad():
        values = list(spare) if _can_reuse(spare, parameters) else [torch.empty_like(one) for one in parameters]
        for value, parameter in zip(values, parameters, strict=True):
            value.copy_(parameter)
        gradients = [_gradient_norm(parameter) for parameter in parameters]
        return Before([*gradients, *map(_norm, values)], values)


def measure_after(parameters: Sequence[nn.Parameter], before: Before) -> Tensor:
    """Return the norms of gradients, of weights before the update, and of their change, [3 P], on the device.

    There is one of each kind for every parameter. The host sums over parameters later: here that would take half as
    much time again for a small model.
    """
    with torch.no_grad():
        change = [_norm(old.sub_(new)) for old, new in zip(before.values, parameters, strict=True)]
        return torch.stack([*before.norms, *change])


def norm_traces(flags_S: NDArray[np.bool_], measured: Sequence[Tensor]) -> dict[str, Floats]:
    """Return the traces `grad_norm` and `update_to_weight`.

    Args:
        flags_S: Whether each update is measured, bool [S].
        measured: What `measure_after` returned for each measured update, [3 P]. It may be shorter than the flags say,
            if training failed between.

    Returns:
        Both traces by name, float64 [S]: NaN at updates that are not measured. The ratio is also NaN if all weights
        are zero.
    """
    traces = {name: np.full(len(flags_S), np.nan) for name in NAMES}
    at = np.flatnonzero(flags_S)[: len(measured)]
    if len(at):
        norms = torch.stack(list(measured[: len(at)])).cpu().double().numpy().reshape(len(at), 3, -1)
        gradient, weight, change = np.sqrt((norms**2).sum(2)).T
        traces["grad_norm"][at] = gradient
        traces["update_to_weight"][at] = np.divide(change, weight, where=weight > 0, out=np.full(len(at), np.nan))
    return traces


def _can_reuse(spare: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> bool:
    return len(spare) == len(parameters) and all(
        (old.shape, old.dtype, old.device) == (one.shape, one.dtype, one.device)
        for old, one in zip(spare, parameters, strict=True)
    )


def _gradient_norm(parameter: nn.Parameter) -> Tensor:
    """Return the norm of the gradient; 0 without one, if the parameter is frozen or the loss does not depend on it."""
    gradient = parameter.grad
    if gradient is None:
        return parameter.new_zeros(())
    return _norm(gradient.coalesce().values() if gradient.is_sparse else gradient)


def _norm(values: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values)
    return norm
