"""What is trained is tried before anything is written: a wrong shape is told now and not as twenty failed trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from warnings import catch_warnings

import torch

from sweeper.spec.sweep import Node, Subject
from sweeper.training.optimizers.groups import groups_of
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.types import Dimension, InputError, Value, first_of

TRIED = 64  # examples, to see what a task reports
Space = Mapping[str, Dimension | Value]


def folds_of(subject: Subject) -> int:
    """Return the folds of the data, each of which a trial is trained on; 1 where they are split once.

    Raises InputError where `data.folds` asks for folds that the data do not have.
    """
    folds: int = getattr(getattr(subject.task, "data", subject.task), "partitions", 1)
    node = subject.described.get("data")
    asked = node.get("folds") if isinstance(node, Mapping) else None
    if asked is not None and asked != folds:
        has = "no folds" if folds == 1 else f"{folds} partitions"
        remedy = "Leave it out, or give the data class `folds` and one of its `partitions` for each"
        raise InputError("data.folds", asked, f"these data have {has}", remedy)
    return folds


def without_one_fold(described: Node) -> dict[str, Any]:
    """Return the description without `data.folds` where it says what holds without it too."""
    node = described.get("data")
    if not isinstance(node, Mapping) or node.get("folds", 0) not in (None, 1):
        return dict(described)
    return {**described, "data": {key: value for key, value in node.items() if key != "folds"}}


def try_out(subject: Subject, space: Space, optimizer: OptimizerSpec) -> None:
    """Pass an example or two through a fresh model, as an update does. Raises InputError."""
    task = subject.task
    count = min(2, task.size("train", 0))
    try:
        model = task.build(0, **_numbers(subject, space))
        inputs_B, target_B = task.fetch("train", 0, torch.arange(count))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            loss_B = task.loss(task.forward(model, inputs_B), target_B)
    except InputError:
        raise
    except Exception as error:
        told = f"cannot be trained on these data ({type(error).__name__}: {error})"
        raise InputError("model", None, told, "Check model and data") from error
    if loss_B.shape != (count,):
        told = f"the loss of {count} examples has the shape {tuple(loss_B.shape)}"
        raise InputError("model", None, told, "Return one loss for each")
    groups_of(model, optimizer, None)  # each has parameters


def check_metric(subject: Subject, space: Space, metric: str) -> None:
    """Check that the task reports the objective's metric, by some examples and a fresh model. Raises InputError."""
    if metric == "valid/loss":
        return
    task = subject.task
    index_B = torch.arange(min(TRIED, task.size("valid", 0)))
    model = task.build(0, **_numbers(subject, space)).eval()
    inputs_B, target_B = task.fetch("valid", 0, index_B)
    kept = getattr(task, "kept", None)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), catch_warnings(action="ignore"):
            output_B = task.forward(model, inputs_B)
            names = task.metrics(output_B if kept is None else kept(output_B, target_B), target_B)
    except Exception:  # some need more than a few examples: the first report will say
        return
    if metric.removeprefix("valid/") not in names:
        there = ", ".join(f"valid/{name}" for name in ("loss", *names))
        raise InputError("objective.metric", metric, "not reported for this task", f"There are: {there}")


def _numbers(subject: Subject, space: Space) -> dict[str, Value]:
    """The model's searched hyperparameters, each at its first value."""
    return {key.removeprefix("model."): first_of(space[key]) for key in subject.numbers}
