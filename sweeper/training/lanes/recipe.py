"""What a recipe changes of an update of stacked rows: their gradients are clipped, their weights averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sweeper.training.lanes.stacked import Rule, RuleOptions
from sweeper.training.recipe import newest_share
from sweeper.types import Floats


def clip_rows(gradient_LP: Tensor, norm_L: Tensor, clip: float) -> None:
    """Each lane's gradient at most that long, in place, as torch.nn.utils.clip_grad_norm_ does it."""
    gradient_LP.mul_((clip / (norm_L + 1e-6)).clamp(max=1.0).unsqueeze(1))


def averaging_rule(rule: Rule[RuleOptions], ema: float) -> Rule[RuleOptions]:
    """The same rule for stacked rows, which keeps their average too, as the last of its states."""

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
