"""Check data and model before anything is written, so that a wrong shape is one error and not twenty failed trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from torch import nn

from sweeper.spec.causes import input_error
from sweeper.spec.largest import check_largest
from sweeper.spec.sweep import Subject
from sweeper.training.optimizers.groups import groups_of
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.types import Dimension, InputError, Task, Value, as_typed, first_of, points

EXAMPLES = 64  # to see which metrics a task reports
BROADCAST = "Using a target size"  # torch's warning of a loss of outputs [B, 1] and targets [B], which gives [B, B]
LOSSES = ("train/loss", "valid/loss")  # which every task has
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
        InputError: If model and data do not fit, or nothing would be trained.
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
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            output_B = task.forward(model, inputs_B)
            with catch_warnings():
                filterwarnings("error", message=BROADCAST, category=UserWarning)
                loss_B = task.loss(output_B, target_B)
    except Exception as error:
        if str(error).startswith(BROADCAST):
            shapes = f"outputs of shape {list(output_B.shape)} for targets of shape {list(target_B.shape)}"
            problem = f"{shapes}: this loss would compare every output with every target"
            raise InputError("model", None, problem, "Return outputs of the targets' shape") from error
        _refuse_categories(task, error)
        values = ", ".join(f"model.{name}={as_typed(value)}" for name, value in numbers.items())
        problem = "cannot be trained on these data" + (f" with {values}" if values else "")
        raise input_error("model", error, problem, "Check model and data") from error
    if loss_B.shape != (count,):
        problem = f"the loss of {count} examples has the shape {tuple(loss_B.shape)}"
        raise InputError("model", None, problem, "Return one loss for each example")
    _check_gradient(model, loss_B)
    check_largest(task, model, (inputs_B, target_B), output_B)
    return model


def _refuse_categories(task: Task, error: Exception) -> None:
    """Raise InputError if the model failed because a table has categories, which it does not take."""
    data, factory = getattr(task, "data", None), getattr(task, "model", None)
    if getattr(data, "categories", ()) and callable(factory) and "categories" not in signature(factory).parameters:
        name = getattr(getattr(factory, "func", factory), "__name__", "the model")
        remedy = "Choose model=tabular, or drop them: data.leave_out=[column]"
        raise InputError("model", name, "the table has categories, which this model does not take", remedy) from error


def _check_gradient(model: torch.nn.Module, loss_B: torch.Tensor) -> None:
    name = type(model).__name__
    if not any(parameter.requires_grad for parameter in model.parameters()):
        remedy = "Make its weights torch.nn.Parameter, or freeze fewer of them"
        raise InputError("model", name, "has no trainable parameters", remedy)
    if not loss_B.requires_grad:
        remedy = "Look for detach(), no_grad() or argmax in the model and in the loss"
        raise InputError("model", name, "the loss does not depend on any trainable parameter", remedy)


def check_metrics(subject: Subject, space: Space, metrics: Sequence[tuple[str, str]]) -> None:
    """Check that the task reports some metrics, with some examples and a fresh model.

    Args:
        subject: What is trained.
        space: Searched hyperparameters of optimizer and model.
        metrics: Each after the config path that names it.

    Raises:
        InputError: If it does not report one.
    """
    wanted = [(key, metric) for key, metric in metrics if metric not in LOSSES]
    names = _metric_names(subject, space) if wanted else []
    for key, metric in wanted:
        if names and metric not in names:
            remedy = f"Choose one of {', '.join(names)}"
            raise InputError(key, metric, "this task does not report it", remedy)


def _metric_names(subject: Subject, space: Space) -> list[str]:
    """Return the metrics that the task reports; none if it takes more examples to know."""
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
        return []
    return [f"valid/{name}" for name in ("loss", *names)]


def _numbers(subject: Subject, space: Space) -> dict[str, Value]:
    """Return the model's searched hyperparameters, each at its first value."""
    return {key.removeprefix("model."): first_of(space[key]) for key in subject.numbers}
