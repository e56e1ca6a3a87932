"""Rows whose segments are parameter groups: each with its own LR, its own weight decay or none, by an elementwise rule.

Segments of a stack [L, P] are views of it, so what a group does not have costs nothing, and a single group is updated
by the rule of sweeper.training.lanes.stacked itself.
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
    """What lanes of one stack must share of a group: its numbers in a row, its columns in a table, its program.

    shrinks: its weight decay is the trainer's (groups.WeightDecay); its first column is what that leaves.
    """

    size: int
    columns: int
    static: Static
    shrinks: bool


class LaneOptions(NamedTuple):
    """One lane's, what its rule takes as options: by segment the LR's factor, and the optimizer's options."""

    lrs: tuple[float, ...]
    options: tuple[Options, ...]
    decay: WeightDecay


def order_by_group(trained: Sequence[str], grouping: Grouping) -> tuple[str, ...]:
    """The trained parameters, those of a group together."""
    known = set(trained)
    if len(grouping.groups) < 2:
        return tuple(trained)
    return tuple(name for group in grouping.groups for name in group.parameters if name in known)


def segments_of(
    spec: OptimizerSpec, job: Job, grouping: Grouping, layout: Layout
) -> tuple[tuple[Segment, ...], LaneOptions]:
    """Return the segments of a job and its options; its parameters are laid out in the order of `order_by_group`."""
    size_of = dict(zip(layout.names, layout.sizes, strict=True))
    groups = [group for group in grouping.groups if any(name in size_of for name in group.parameters)]
    whole = all_options(spec, job.hparams)
    numbers = LaneOptions(
        tuple(group.lr for group in groups),
        tuple({**whole, "weight_decay": group.weight_decay} for group in groups),
        grouping.decay,
    )

    def segment(group: Group, options: Options) -> Segment:
        shrinks = grouping.decay.is_ours and group.weight_decay is not None
        has_decay = group.weight_decay is not None and not shrinks
        static = static_options(spec, job.hparams, job.momentum_S, has_decay=has_decay)
        momentum_S = None if job.momentum_S is None else job.momentum_S[:1]
        columns = rule_with(static).coefficients(options, job.lr_S[:1], momentum_S, 0).shape[1]
        return Segment(sum(size_of.get(name, 0) for name in group.parameters), columns + shrinks, static, shrinks)

    return tuple(segment(*one) for one in zip(groups, numbers.options, strict=True)), numbers


@functools.cache
def segmented_rule(segments: tuple[Segment, ...]) -> Rule[LaneOptions]:
    """The rule of rows that have these segments; its options are LaneOptions. The same object for equal segments."""
    rules = [rule_with(segment.static) for segment in segments]

    def initial_values(numbers: LaneOptions) -> tuple[float, ...]:
        return rules[0].initial_values(numbers.options[0])

    def coefficients(
        numbers: LaneOptions, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        columns: list[Floats] = []
        for segment, rule, lr, options in zip(segments, rules, numbers.lrs, numbers.options, strict=True):
            if segment.shrinks:
                columns.append(1 - numbers.decay.scale(lr_S)[:, None] * number_of(options, "weight_decay"))
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
    """One update, segment by segment."""
    begin = at = 0
    for segment in segments:
        own = coefficients[at : at + segment.columns]
        place = slice(begin, begin + segment.size)
        changed = [weight[:, place], *(state[:, place] for state in states)]
        _in_place(segment, changed, gradient[:, place], own)
        begin, at = begin + segment.size, at + segment.columns


def _in_place(segment: Segment, changed: Sequence[Tensor], gradient: Tensor, coefficients: Sequence[Tensor]) -> None:
    """changed: weights and states. torch.compile writes no operation's `out` into a view, so there it has copies."""
    compiling = torch.compiler.is_compiling()
    pieces: list[Any] = [piece.clone() for piece in changed] if compiling else list(changed)
    if segment.shrinks:
        pieces[0].mul_(coefficients[0])
    rest = coefficients[segment.shrinks :]
    rule_with(segment.static).update(pieces[0], gradient.clone() if compiling else gradient, pieces[1:], rest)
    if compiling:
        for piece, new in zip(changed, pieces, strict=True):
            piece.copy_(new)
