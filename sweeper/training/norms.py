"""How large gradients and updates are: at which updates it is measured, on the device, and read at the report.

grad_norm: the L2 norm of an update's gradients over all parameters, before anything clips or alters them.
update_to_weight: ||w after - w before|| / ||w before|| of that update, over all parameters. 1e-3 is said to be healthy
(CS231n, "Neural Networks 3", Ratio of weights:updates).

Only reads weights and gradients, so the numbers of a training are the same with it and without. At the default of 1,000
updates, a tenth of which are measured, it costs 3 to 7 % of the time of a small model (benchmarks/RESULTS.md), at
10,000 a tenth of that.
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
MEASUREMENTS = 100  # measured updates, about


class Before(NamedTuple):
    """What is known of an update before it: norms of its gradients and weights by parameter, the weights themselves."""

    norms: list[Tensor]
    values: list[Tensor]


@lru_cache(maxsize=64)
def measured_steps(steps: int, report_steps: tuple[int, ...]) -> NDArray[np.int64]:
    """The updates of a run, counted from 1, that are measured: every (steps // 100)th and the last of each report.

    With more than 100 reports only the last of all, so that there are 299 at most. Increasing, read only.
    """
    stride = max(1, steps // MEASUREMENTS)
    ends = report_steps if len(report_steps) <= MEASUREMENTS else report_steps[-1:]
    chosen = np.union1d(np.arange(stride, steps + 1, stride, dtype=np.int64), np.asarray(ends, dtype=np.int64))
    chosen.flags.writeable = False
    return chosen


def measured_flags(steps: int, report_steps: tuple[int, ...], first: int, until: int) -> NDArray[np.bool_]:
    """Whether each of the updates of index first .. until - 1 is measured; bool [until - first]."""
    chosen = measured_steps(steps, report_steps)
    flags_S = np.zeros(until - first, dtype=np.bool_)
    begin, end = np.searchsorted(chosen, (first, until), side="right")
    flags_S[chosen[begin:end] - first - 1] = True
    return flags_S


def measure_before(parameters: Sequence[nn.Parameter], spare: Sequence[Tensor] = ()) -> Before:
    """Between backward pass and update: an optimizer may overwrite the gradients. Waits for nothing.

    spare: the `values` of an earlier call, whose memory is used again where it fits: on the CPU fresh memory costs
    more than what is done with it.
    """
    with torch.no_grad():
        values = list(spare) if _can_reuse(spare, parameters) else [torch.empty_like(one) for one in parameters]
        for value, parameter in zip(values, parameters, strict=True):
            value.copy_(parameter)
        gradients = [_gradient_norm(parameter) for parameter in parameters]
        return Before([*gradients, *map(_norm, values)], values)


def measure_after(parameters: Sequence[nn.Parameter], before: Before) -> Tensor:
    """Norms of gradients, of weights before and of their change, by parameter, [3 P], on the device.

    The sums over parameters are left to the host: for a small model they would cost half as much again.
    """
    with torch.no_grad():
        change = [_norm(old.sub_(new)) for old, new in zip(before.values, parameters, strict=True)]
        return torch.stack([*before.norms, *change])


def norm_traces(flags_S: NDArray[np.bool_], measured: Sequence[Tensor]) -> dict[str, Floats]:
    """The two traces, float64 [S], of updates of which those flagged gave `measured`; NaN at all others.

    measured: of each flagged update, norms [3 P] of gradients, of weights before and of their change, P parameters.
    An update of weights that are all zero has no ratio: NaN.
    """
    traces = {name: np.full(len(flags_S), np.nan) for name in NAMES}
    at = np.flatnonzero(flags_S)[: len(measured)]  # one that raised in the midst has none
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
    """0 where there is none: the loss does not depend on the parameter, or it is frozen."""
    gradient = parameter.grad
    if gradient is None:
        return parameter.new_zeros(())
    return _norm(gradient.coalesce().values() if gradient.is_sparse else gradient)


def _norm(values: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values)
    return norm
