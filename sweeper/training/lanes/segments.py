"""Parameter groups of stacked rows: each group is a segment of the row, with its own LR and weight decay.

Segments of a stack [L, P] are views, so a term that a group does not have costs nothing. A single group is updated by
the rule of sweeper.training.lanes.stacked directly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sweeper.training.lanes.program import Layout
from sweeper.training.lanes.stacked import Rule, Static, rule_with, static_options
from sweeper.training.optimizers.groups import Group, Grouping, WeightDecay
from sweeper.training.optimizers.optim import all_options
from sweeper.training.optimizers.spec import OptimizerSpec, Options, number_of
from sweeper.types import Floats, Job

Update = Callable[[Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]], None]


class Segment(NamedTuple):
    """What the lanes of one stack must share of a group.

    Attributes:
        size: Its weights in a row.
        columns: Its columns in the table of coefficients.
        static: The terms of its update.
        shrinks: Whether the trainer applies its weight decay (groups.WeightDecay). Its first column is then the factor
            of the weights.
    """

    size: int
    columns: int
    static: Static
    shrinks: bool


class LaneOptions(NamedTuple):
    """The options of one lane, as `segmented_rule` takes them.

    Attributes:
        lrs: Factor of the LR of each segment.
        options: Options of the optimizer for each segment.
        decay: Weight decay of the trial.
    """

    lrs: tuple[float, ...]
    options: tuple[Options, ...]
    decay: WeightDecay


def order_by_group(trained: Sequence[str], grouping: Grouping) -> tuple[str, ...]:
    """Return the trained parameters with those of each group next to each other."""
    if len(grouping.groups) < 2:
        return tuple(trained)
    names = set(trained)
    return tuple(name for group in grouping.groups for name in group.parameters if name in names)


def segments_of(
    spec: OptimizerSpec, job: Job, grouping: Grouping, layout: Layout
) -> tuple[tuple[Segment, ...], LaneOptions]:
    """Return the segments of a job and its options.

    Args:
        spec: The optimizer.
        job: A job that can be stacked (`stacked.stacking_obstacle`).
        grouping: The groups of its model.
        layout: Of its parameters, in the order of `order_by_group`.
    """
    size_of = dict(zip(layout.names, layout.sizes, strict=True))
    groups = [group for group in grouping.groups if any(name in size_of for name in group.parameters)]
    whole = all_options(spec, job.hparams)
    lane_options = LaneOptions(
        tuple(group.lr for group in groups),
        tuple({**whole, "weight_decay": group.weight_decay} for group in groups),
        grouping.decay,
    )

    def build_segment(group: Group, options: Options) -> Segment:
        shrinks = grouping.decay.is_ours and group.weight_decay is not None
        has_decay = group.weight_decay is not None and not shrinks
        static = static_options(spec, job.hparams, job.momentum_S, has_decay=has_decay)
        momentum_S = None if job.momentum_S is None else job.momentum_S[:1]
        columns = rule_with(static).coefficients(options, job.lr_S[:1], momentum_S, 0).shape[1]
        return Segment(sum(size_of.get(name, 0) for name in group.parameters), columns + shrinks, static, shrinks)

    return tuple(map(build_segment, groups, lane_options.options)), lane_options


@functools.cache
def segmented_rule(segments: tuple[Segment, ...]) -> Rule[LaneOptions]:
    """Return the rule of rows that have these segments. Its options are LaneOptions.

    Equal segments get the same object.
    """
    rules = [rule_with(segment.static) for segment in segments]

    def initial_values(lane: LaneOptions) -> tuple[float, ...]:
        return rules[0].initial_values(lane.options[0])

    def coefficients(
        lane: LaneOptions, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        columns: list[Floats] = []
        for segment, rule, lr, options in zip(segments, rules, lane.lrs, lane.options, strict=True):
            if segment.shrinks:
                columns.append(1 - lane.decay.scale(lr_S)[:, None] * number_of(options, "weight_decay"))
            columns.append(rule.coefficients(options, lr_S * lr, momentum_S, first, earlier_S))
        return np.concatenate(columns, axis=1)

    plain = len(segments) == 1 and not segments[0].shrinks
    update = rules[0].update if plain else functools.partial(_update, segments)
    return Rule(rules[0].states, initial_values, coefficients, update)


def _update(
    segments: tuple[Segment, ...],
    weight: Tensor,
    gradient: Tensor,
    states: Sequence[Tensor],
    coefficients: Sequence[Tensor],
) -> None:
    """Update the rows segment by segment, in place."""
    start = column = 0
    for segment in segments:
        place = slice(start, start + segment.size)
        pieces = [weight[:, place], *(state[:, place] for state in states)]
        _update_segment(segment, pieces, gradient[:, place], coefficients[column : column + segment.columns])
        start, column = start + segment.size, column + segment.columns


def _update_segment(
    segment: Segment, views: Sequence[Tensor], gradient: Tensor, coefficients: Sequence[Tensor]
) -> None:
    """Update a segment in place; `views` are its weights and states.

    torch.compile cannot write the `out` of an operation into a view, so compiled code updates copies.
    """
    compiling = torch.compiler.is_compiling()
    pieces: list[Any] = [view.clone() for view in views] if compiling else list(views)
    if segment.shrinks:
        pieces[0].mul_(coefficients[0])
    rest = coefficients[segment.shrinks :]
    rule_with(segment.static).update(pieces[0], gradient.clone() if compiling else gradient, pieces[1:], rest)
    if compiling:
        for view, piece in zip(views, pieces, strict=True):
            view.copy_(piece)
