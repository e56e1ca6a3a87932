"""Check data and model before anything is written, so that a wrong shape is one error and not twenty failed trials."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any
from warnings import catch_warnings

import torch
from torch import nn

from sweeper.spec.causes import input_error
from sweeper.spec.sweep import Subject
from sweeper.training.optimizers.groups import groups_of
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.types import Dimension, InputError, Task, Value, as_typed, first_of, points

EXAMPLES = 64  # to see which metrics a task reports
Space = Mapping[str, Dimension | Value]


def folds_of(subject: Subject) -> int:
    """Return the number of folds of the data; a trial trains on each of them. It is 1 for data that are split once.

    Raises:
        InputError: If `data.folds` asks for folds that the data do not have.
    """
    folds: int = getattr(getattr(subject.task, "data", subject.task), "partitions", 1)
    node = subject.described.get("data")
    wanted = node.get("folds") if isinstance(node, Mapping) else None
    if wanted is not None and wanted != folds:
        has = "no folds" if folds == 1 else f"{folds} partitions"
        remedy = "Leave it out, or give the data class `folds` with one of its `partitions` for each"
        raise InputError("data.folds", wanted, f"these data have {has}", remedy)
    return folds


def without_one_fold(subject: Subject) -> dict[str, Any]:
    """Return the subject's description without a `data.folds` of one, which changes nothing."""
    node = subject.described.get("data")
    if not isinstance(node, Mapping) or node.get("folds", 0) not in (None, 1):
        return dict(subject.described)
    return {**subject.described, "data": {key: value for key, value in node.items() if key != "folds"}}


def try_out(subject: Subject, space: Space, optimizer: OptimizerSpec) -> None:
    """Pass an example or two through a fresh model, as an update does, with each value to check of the model's space.

    Raises:
        InputError: If model and data do not fit.
    """
    searched = {key.removeprefix("model."): space[key] for key in subject.numbers}
    for point in points(searched):
        groups_of(_try_model(subject.task, point), optimizer, None)  # every group has parameters


def _try_model(task: Task, numbers: Mapping[str, Value]) -> nn.Module:
    """Return a model of these hyperparameters that has seen an example or two. Raises InputError."""
    count = min(2, task.size("train", 0))
    try:
        model = task.build(0, **numbers)
        inputs_B, target_B = task.fetch("train", 0, torch.arange(count))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            loss_B = task.loss(task.forward(model, inputs_B), target_B)
    except Exception as error:
        _refuse_categories(task, error)
        values = ", ".join(f"model.{name}={as_typed(value)}" for name, value in numbers.items())
        problem = "cannot be trained on these data" + (f" with {values}" if values else "")
        raise input_error("model", error, problem, "Check model and data") from error
    if loss_B.shape != (count,):
        problem = f"the loss of {count} examples has the shape {tuple(loss_B.shape)}"
        raise InputError("model", None, problem, "Return one loss for each example")
    return model


def _refuse_categories(task: Task, error: Exception) -> None:
    """Raise InputError if the model failed because a table has categories, which it does not take."""
    data, factory = getattr(task, "data", None), getattr(task, "model", None)
    if getattr(data, "categories", ()) and callable(factory) and "categories" not in signature(factory).parameters:
        name = getattr(getattr(factory, "func", factory), "__name__", "the model")
        remedy = "Choose model=tabular, or drop them: data.leave_out=[column]"
        raise InputError("model", name, "the table has categories, which this model does not take", remedy) from error


def check_metric(subject: Subject, space: Space, metric: str) -> None:
    """Check that the task reports the objective's metric, with some examples and a fresh model.

    Raises:
        InputError: If it does not.
    """
    if metric == "valid/loss":
        return
    task = subject.task
    index_B = torch.arange(min(EXAMPLES, task.size("valid", 0)))
    model = task.build(0, **_numbers(subject, space)).eval()
    inputs_B, target_B = task.fetch("valid", 0, index_B)
    kept = getattr(task, "kept", None)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), catch_warnings(action="ignore"):
            output_B = task.forward(model, inputs_B)
            names = task.metrics(output_B if kept is None else kept(output_B, target_B), target_B)
    except Exception:  # some metrics need more examples: the first report will tell
        return
    if metric.removeprefix("valid/") not in names:
        there = ", ".join(f"valid/{name}" for name in ("loss", *names))
        raise InputError("objective.metric", metric, "this task does not report it", f"Choose one of {there}")


def _numbers(subject: Subject, space: Space) -> dict[str, Value]:
    """Return the model's searched hyperparameters, each at its first value."""
    return {key.removeprefix("model."): first_of(space[key]) for key in subject.numbers}
