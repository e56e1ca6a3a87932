"""A data set, a model and a problem (what is a loss, what is a metric) make a task."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from .metrics import accuracy, build_measures, errors, reshape_like

PARTS = ("train", "valid", "test")
# What a data set tells a model whose constructor names it.
OFFERED = ("inputs", "outputs", "shape", "context", "every", "categories")
LOOKED_AT = 1024  # training examples that tell the loss of an untrained model
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Data(Protocol):
    """Examples in three parts, "train", "valid" and "test"; write your own with these six members.

    inputs: features of one example, or the size of its vocabulary. outputs: classes (columns of the target in a
    regression). Both are given to models whose constructors name them, and so are, where the data have them, `shape`
    (of an example that is a signal or an image: channels, then length, or height and width; `fetch` may give its
    numbers in a row), `context` (symbols before the one to predict), `every` (whether each position of a sequence has a
    target) and `categories` (of a table: the codes of each column that is no number). partitions: how many splits or
    folds there are; 0 is the default one. fingerprint: a text that changes when the examples or their split do.
    Picklable, at first on the CPU:

        class Columns:
            inputs, outputs, partitions, fingerprint = 2, 3, 1, "columns-1"

            def __init__(self, parts: dict[str, tuple[Tensor, Tensor]]) -> None:
                self.parts = parts

            def to(self, device):
                return Columns({part: (x.to(device), y.to(device)) for part, (x, y) in self.parts.items()})

            def size(self, part, partition):
                return len(self.parts[part][1])

            def fetch(self, part, partition, index_B):
                x, y = self.parts[part]
                return x[index_B], y[index_B]

    Two more members are optional, each None or absent where it is not needed. augment(inputs_LB, target_LB, draw) ->
    (inputs_LB, target_LB) changes the training batches [L, B, ...] of L models at random, draw(number, count) being
    float32 [L, B, count], uniform in [0, 1), one `number` for each use. stream(part, partition, index_SB) -> iterator
    of batches, the examples index_SB[0] (int64, on the host), index_SB[1], ...: for data that stay on the host.
    """

    inputs: int
    outputs: int
    partitions: int
    fingerprint: str

    def to(self, device: torch.device) -> Data:
        """The same data on `device`; these stay where they are."""
        ...

    def size(self, part: str, partition: int) -> int:
        """Number of examples."""
        ...

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        """Inputs and targets of the examples `index_B` (int64, on the data's device), without a host read."""
        ...


class Problem(NamedTuple):
    """What is minimised and what is reported.

    loss(output_B, target_B) -> [B]. metrics(output, target) of a whole part, beside its mean loss.
    untrained_loss(data): the loss of a model that knows nothing, None: that of a fresh model, measured; ten times as
    much has diverged.
    """

    loss: Callable[[Any, Tensor], Tensor]
    metrics: Callable[[Any, Tensor], dict[str, float]]
    untrained_loss: Callable[[Data], float] | None = None


def cross_entropy(output_B: Tensor, target_B: Tensor) -> Tensor:
    """Nats, [B]; classes in the last dimension of output_B [B, ..., C], the mean over all positions of target_B.

    target_B: int64 [B, ...], or probabilities [B, ..., C].
    """
    if target_B.is_floating_point() and output_B.shape == target_B.shape:
        soft = functional.cross_entropy(output_B.flatten(0, -2), target_B.flatten(0, -2), reduction="none")
        return soft.view(len(target_B), -1).mean(1)
    if output_B.shape[:-1] != target_B.shape:
        raise ValueError(
            f"outputs {list(output_B.shape)} for targets {list(target_B.shape)}: each target needs one output a class"
        )
    if target_B.dim() == 1:
        return functional.cross_entropy(output_B, target_B, reduction="none")
    loss = functional.cross_entropy(output_B.flatten(0, -2), target_B.flatten(), reduction="none")
    return loss.view(target_B.shape).flatten(1).mean(1)


def log_classes(data: Data) -> float:
    """Every class equally likely."""
    return math.log(data.outputs)


def weighted_cross_entropy(weight_C: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy in which an example counts as much as its class weighs; [B, C], [B] -> [B]."""
    return functools.partial(_mean_of_each, nn.CrossEntropyLoss(weight=weight_C, reduction="none"))


def squared_error(output_B: Tensor, target_B: Tensor) -> Tensor:
    """The mean square of the differences of each example, [B]; an output [B, 1] fits a target [B]."""
    return (reshape_like(output_B, target_B) - target_B).square().reshape(len(target_B), -1).mean(1)


def mean_square(data: Data) -> float:
    """The squared error of a model that says 0."""
    _, target = data.fetch("train", 0, torch.arange(data.size("train", 0)))
    return target.double().square().mean().item() or 1.0


CLASSIFICATION = Problem(cross_entropy, accuracy, log_classes)
REGRESSION = Problem(squared_error, errors, mean_square)


class Supervised:
    """A task: `model` trained on `data`.

    model: a factory, a class or `functools.partial(MLP, width=64)`; its result is any `nn.Module`. It is called with
    its own numbers, those that a trial sets, and those of the data's `inputs`, `outputs`, ... (see Data) that it names.
    problem: a Problem, or a loss of torch, `nn.CrossEntropyLoss(label_smoothing=0.1)`, of which the mean over each
    example's elements is taken; None: what the data say, else classification.
    metrics: names out of sweeper.tasks.metrics, in place of the problem's own. Raises ValueError.
    """

    def __init__(
        self,
        data: Data,
        model: Callable[..., nn.Module],
        problem: Any = None,
        metrics: Sequence[str] | None = None,
    ) -> None:
        if isinstance(model, nn.Module):
            raise ValueError(
                f"model={type(model).__name__}: this is a model, and every trial needs a new one. Give its class, "
                "functools.partial(CLASS, ...), or, to start all from these weights, lambda: copy.deepcopy(model)."
            )
        usual: Problem = getattr(data, "problem", CLASSIFICATION)
        self.data, self.model = data, model
        self.problem = (
            problem if isinstance(problem, Problem) else usual if problem is None else _problem_of(problem, usual)
        )
        if metrics is not None:
            self.problem = self.problem._replace(metrics=_metrics_of(metrics, data))
        self.fingerprint = data.fingerprint
        known = self.problem.untrained_loss
        self.untrained_loss = self._fresh_loss() if known is None else known(data)
        self.loss_bound = 10 * self.untrained_loss

    def to(self, device: torch.device) -> Self:
        """The same task with its data on `device`; this one stays where it is."""
        placed = copy.copy(self)
        placed.data = self.data.to(device)
        return placed

    def size(self, part: str, partition: int) -> int:
        self._check_part(part, partition)
        return self.data.size(part, partition)

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        self._check_part(part, partition)
        return self.data.fetch(part, partition, index_B)

    def build(self, seed: int, **numbers: Any) -> nn.Module:
        """A fresh model on the CPU, a function of the arguments alone; the caller's generators are untouched.

        numbers: replace those of the factory, by argument of its constructor ("dropout"). Raises ValueError.
        """
        arguments = self._model_arguments(numbers)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators' as well
            return self.model(**arguments)

    def forward(self, model: nn.Module, inputs_B: Any) -> Any:
        return model(inputs_B)

    @property
    def augment(self) -> Any:
        """What training alone does to a batch, where the data have such a thing; see Data."""
        return getattr(self.data, "augment", None)

    @property
    def stream(self) -> Any:
        """Batches from the host, where the data lie there; see Data."""
        return getattr(self.data, "stream", None)

    @property
    def kept(self) -> Any:
        """(output_B, target_B) -> what the metrics need of a batch, where that is less than its output."""
        return getattr(self.problem.metrics, "kept", None)

    def loss(self, output_B: Any, target_B: Tensor) -> Tensor:
        return self.problem.loss(output_B, target_B)

    def metrics(self, output: Any, target: Tensor) -> dict[str, float]:
        return self.problem.metrics(output, target)

    def _fresh_loss(self) -> float:
        """The mean size of the loss of an untrained model; 1 where it is 0."""
        model = self.build(0).eval()
        inputs_B, target_B = self.fetch("train", 0, torch.arange(min(LOOKED_AT, self.size("train", 0))))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            loss_B = self.loss(self.forward(model, inputs_B), target_B)
        return loss_B.double().abs().mean().item() or 1.0

    def _check_part(self, part: str, partition: int) -> None:
        if part not in PARTS:
            raise ValueError(f"part={part}: there is no such part of the data. Choose one of {', '.join(PARTS)}.")
        if not 0 <= partition < self.data.partitions:
            count, name = self.data.partitions, type(self.data).__name__
            raise ValueError(f"partition={partition}: {name} has {count} of them. Choose one below {count}.")

    def _model_arguments(self, numbers: dict[str, object]) -> dict[str, Any]:
        """What the model is called with beside the factory's own numbers: the trial's, and those of the data."""
        factory, own = getattr(self.model, "func", self.model), getattr(self.model, "keywords", {})
        taken = list(inspect.signature(factory).parameters.values())[len(getattr(self.model, "args", ())) :]
        names = [parameter.name for parameter in taken]
        offered = [name for name in OFFERED if name in names and hasattr(self.data, name)]
        arguments = {name: getattr(self.data, name) for name in offered if name not in own} | numbers
        name = getattr(factory, "__name__", type(factory).__name__)
        _refuse_unknown(name, taken, own | numbers)
        _refuse_missing(name, taken, own | arguments)
        return arguments


def _metrics_of(names: Sequence[str], data: Data) -> Callable[[Any, Tensor], dict[str, float]]:
    """The metrics of these names, with what the data tell them: the target's unit, the bytes of a symbol."""
    _, target_B = data.fetch("train", 0, torch.arange(1))
    told = {name: getattr(data, name) for name in ("unit", "bytes_V") if hasattr(data, name)}
    return build_measures(names, target_B, data.outputs, **told)


def _problem_of(loss: Any, usual: Problem) -> Problem:
    """The problem of minimising a loss of torch, with the usual metrics of these data."""
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        each: Any = copy.deepcopy(loss)
        each.reduction = "none"
        return Problem(functools.partial(_mean_of_each, each), usual.metrics)
    if inspect.isfunction(loss) and "reduction" in inspect.signature(loss).parameters:
        return Problem(functools.partial(_mean_of_each, functools.partial(loss, reduction="none")), usual.metrics)
    if callable(loss):
        return Problem(loss, usual.metrics)
    raise ValueError(f"problem={loss!r}: neither a Problem nor a loss. Give a function (output_B, target_B) -> [B].")


def _mean_of_each(loss: Callable[[Any, Tensor], Tensor], output_B: Any, target_B: Tensor) -> Tensor:
    if isinstance(loss, nn.Module):
        loss.to(target_B.device)  # weights of classes
    return loss(output_B, target_B).reshape(len(target_B), -1).mean(1)


def _refuse_unknown(model: str, taken: Sequence[inspect.Parameter], given: Mapping[str, object]) -> None:
    names = [parameter.name for parameter in taken]
    unknown = [name for name in given if name not in names]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        known = ", ".join(name for name in names if name not in OFFERED) or "none"
        raise ValueError(
            f"model.{unknown[0]}={given[unknown[0]]}: {model} has no such number. Leave it out; those it has: {known}."
        )


def _refuse_missing(model: str, taken: Sequence[inspect.Parameter], given: Collection[str]) -> None:
    for parameter in taken:
        required = parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        if required and parameter.name not in given:
            raise ValueError(
                f"model={model}: it needs `{parameter.name}`, which neither the configuration nor the data give. "
                f"Set model.{parameter.name}, or choose a model that fits the data."
            )
