"""Gradient clipping and weight averaging (EMA) for stacked rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sweeper.training.lanes.stacked import Rule, RuleOptions
from sweeper.training.recipe import newest_share
from sweeper.types import Floats


def clip_rows(gradient_LP: Tensor, norm_L: Tensor, clip: float) -> None:
    """Clip the gradient of each lane in place, as torch.nn.utils.clip_grad_norm_ does.

    Args:
        gradient_LP: Gradients, one row per lane.
        norm_L: Their L2 norms.
        clip: Largest norm.
    """
    gradient_LP.mul_((clip / (norm_L + 1e-6)).clamp(max=1.0).unsqueeze(1))


def averaging_rule(rule: Rule[RuleOptions], ema: float) -> Rule[RuleOptions]:
    """Return a rule that makes the same updates and also averages the weights, in an extra last state.

    Args:
        rule: The rule to extend.
        ema: Decay of the average, between 0 and 1.
    """

    def initial_values(options: RuleOptions) -> tuple[float, ...]:
        return *rule.initial_values(options), 0.0

    def coefficients(
        options: RuleOptions, lr_S: Floats, momentum_S: Floats | None, first: int, *earlier: Any
    ) -> Floats:
        table_SC: Floats = rule.coefficients(options, lr_S, momentum_S, first, *earlier)
        return np.column_stack([table_SC, newest_share(ema, first, len(lr_S))])

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        rule.update(weight, gradient, states[:-1], coefficients[:-1])
        states[-1].lerp_(weight, coefficients[-1])

    return Rule((*rule.states, "average"), initial_values, coefficients, update)
