"""Tasks: a data set, a model, and a problem (a loss and metrics)."""

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
# Attributes of a data set that a model receives if its constructor has a parameter of that name.
OFFERED = ("inputs", "outputs", "shape", "context", "every", "categories")
LOOKED_AT = 1024  # training examples that measure the loss of an untrained model
OF_DIFFERENCE = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
FUNCTIONS_OF_DIFFERENCE = (functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Data(Protocol):
    """Examples in three parts, "train", "valid" and "test".

    Write your own data set with these seven members. It must be picklable, and starts on the CPU:

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

    A model receives `inputs` and `outputs` if its constructor has parameters of these names. The same holds for some
    optional members:

    - `shape`: of an example that is a signal or an image, (channels, length) or (channels, height, width). `fetch` may
      return it flattened.
    - `context`: number of symbols before the one to predict.
    - `every`: whether each position of a sequence has a target.
    - `categories`: of a table, the number of codes of each categorical column.

    More members are optional, absent or None:

    - `summary`: what was understood and done with the examples, in one line. A sweep prints it first.
    - `model`: the model of a task that is given none.
    - `augment(inputs_LB, target_LB, draw) -> (inputs_LB, target_LB)` changes training batches [L, B, ...] of L models
      at random. `draw(number, count)` returns uniform numbers in [0, 1), float32 [L, B, count]. Use a different
      `number` for each use.
    - `stream(part, partition, index_SB)` iterates over the batches index_SB[0], index_SB[1], ... (int64, on the host),
      for data that stay on the host.
    - `served(model, partition)` returns a trained model as a module that takes examples as the user gave them, and
      `given(inputs_B, partition)` returns what `fetch` returned as such examples (`sweeper.tasks.served.Scaled`).
      Without them, a final model takes what `fetch` returns.

    Attributes:
        inputs: Features of one example, or the size of its vocabulary.
        outputs: Number of classes, or of columns of the target in a regression.
        partitions: Number of splits or folds. Partition 0 is the default.
        fingerprint: A text that changes when the examples or their split change.
    """

    inputs: int
    outputs: int
    partitions: int
    fingerprint: str

    def to(self, device: torch.device) -> Data:
        """Return the same data on `device`. This object does not change."""
        ...

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        ...

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        """Return inputs and targets of the examples `index_B` (int64, on the data's device), without a host read."""
        ...


class Problem(NamedTuple):
    """What training minimizes and what it reports.

    Attributes:
        loss: (output_B, target_B) -> the loss of each example, [B].
        metrics: (output, target) of a whole part -> {name: value}, in addition to its mean loss.
        untrained_loss: data -> the loss of a model that knows nothing. Ten times this loss is divergence. None to
            measure it with a fresh model.
    """

    loss: Callable[[Any, Tensor], Tensor]
    metrics: Callable[[Any, Tensor], dict[str, float]]
    untrained_loss: Callable[[Data], float] | None = None


def cross_entropy(output_B: Tensor, target_B: Tensor) -> Tensor:
    """Return the cross-entropy of each example in nats, [B]: the mean over its positions.

    Args:
        output_B: Logits, [B, ..., C].
        target_B: Classes, int64 [B, ...], or probabilities, [B, ..., C].

    Raises:
        ValueError: If the shapes do not fit.
    """
    if target_B.is_floating_point() and output_B.shape == target_B.shape:
        soft = functional.cross_entropy(output_B.flatten(0, -2), target_B.flatten(0, -2), reduction="none")
        return soft.view(len(target_B), -1).mean(1)
    if output_B.shape[:-1] != target_B.shape:
        raise ValueError(
            f"outputs={list(output_B.shape)}: targets are {list(target_B.shape)}. "
            "Return one output for each class of each target"
        )
    if target_B.dim() == 1:
        return functional.cross_entropy(output_B, target_B, reduction="none")
    loss = functional.cross_entropy(output_B.flatten(0, -2), target_B.flatten(), reduction="none")
    return loss.view(target_B.shape).flatten(1).mean(1)


def log_classes(data: Data) -> float:
    """Return the loss of a model for which all classes are equally likely, in nats."""
    return math.log(data.outputs)


def weighted_cross_entropy(weight_C: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a cross-entropy that multiplies the loss of an example by the weight of its class.

    Args:
        weight_C: Weights of the classes.

    Returns:
        (output_B [B, C], target_B [B]) -> losses [B].
    """
    return functools.partial(_mean_of_each, nn.CrossEntropyLoss(weight=weight_C, reduction="none"))


def squared_error(output_B: Tensor, target_B: Tensor) -> Tensor:
    """Return the mean squared error of each example, [B]. An output [B, 1] fits a target [B]."""
    return (reshape_like(output_B, target_B) - target_B).square().reshape(len(target_B), -1).mean(1)


def mean_square(data: Data) -> float:
    """Return the mean squared error of a model that predicts 0."""
    _, target = data.fetch("train", 0, torch.arange(data.size("train", 0)))
    return target.double().square().mean().item() or 1.0


CLASSIFICATION = Problem(cross_entropy, accuracy, log_classes)
REGRESSION = Problem(squared_error, errors, mean_square)


class Supervised:
    """A task: a model, trained on a data set. It is a `sweeper.types.Task`.

    Args:
        data: The data set.
        model: A factory of `nn.Module`s: a class, or `functools.partial(MLP, width=64)`. It is called with its own
            arguments, the hyperparameters of the trial, and the data's `inputs`, `outputs`, ... (see `Data`) that it
            has parameters for. None for the model of the data, which a `Table` has.
        problem: A `Problem`, or a loss such as `nn.CrossEntropyLoss(label_smoothing=0.1)`. The loss of an example is
            the mean over its elements. None for the problem of the data, or classification if they have none. A target
            that the data standardized by themselves (`scale="auto"`) stays so for torch's losses of output - target
            (MSE, L1, smooth L1, Huber). Any other loss gets it as given.
        metrics: Names of `sweeper.tasks.metrics`, instead of the problem's metrics.

    Raises:
        ValueError: If `model` is a module instead of a factory, or problem or metrics cannot be used.
    """

    def __init__(
        self,
        data: Data,
        model: Callable[..., nn.Module] | None = None,
        problem: Any = None,
        metrics: Sequence[str] | None = None,
    ) -> None:
        if isinstance(model, nn.Module):
            raise ValueError(
                f"model={type(model).__name__}: this is a model, and every trial needs a new one. Give its class, "
                "functools.partial(CLASS, ...), or, to start every trial from these weights, "
                "lambda: copy.deepcopy(model)"
            )
        model = getattr(data, "model", None) if model is None else model
        if model is None:
            raise ValueError(f"model=None: {type(data).__name__} has no model of its own. Give a class")
        self.model, self._given = model, (problem, metrics)
        self._set_data(data)

    @property
    def unscaled(self) -> Self | None:
        """The task on the data as given, as tasks were before data standardized themselves. None if it is the same."""
        data = getattr(self.data, "unscaled", None)
        if data is None:
            return None
        task = copy.copy(self)
        task._set_data(data)
        return task

    def _set_data(self, data: Data) -> None:
        """Set the data, and what follows from them: problem, fingerprint, bounds of the loss."""
        problem, metrics = self._given
        if problem is not None and not _is_of_difference(problem):
            data = getattr(data, "with_given_target", lambda: data)()
        usual: Problem = getattr(data, "problem", CLASSIFICATION)
        self.data = data
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
        """Return the same task with its data on `device`. This object does not change."""
        placed = copy.copy(self)
        placed.data = self.data.to(device)
        return placed

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples.

        Raises:
            ValueError: If there is no such part or partition.
        """
        self._check_part(part, partition)
        return self.data.size(part, partition)

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        """Return inputs and targets of the examples `index_B`.

        Raises:
            ValueError: If there is no such part or partition.
        """
        self._check_part(part, partition)
        return self.data.fetch(part, partition, index_B)

    def build(self, seed: int, **numbers: Any) -> nn.Module:
        """Return a fresh model on the CPU. It depends on the arguments alone, and no global generator changes.

        Args:
            seed: Of the initial weights.
            numbers: Hyperparameters by argument of the factory ("dropout"). They replace the factory's own.

        Raises:
            ValueError: If the factory has no such argument, or needs one that is missing.
        """
        arguments = self._model_arguments(numbers)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed accelerators
            return self.model(**arguments)

    def forward(self, model: nn.Module, inputs_B: Any) -> Any:
        """Return the outputs of the model."""
        return model(inputs_B)

    @property
    def augment(self) -> Any:
        """The `augment` of the data, or None. See `Data`."""
        return getattr(self.data, "augment", None)

    @property
    def stream(self) -> Any:
        """The `stream` of the data, or None. See `Data`."""
        return getattr(self.data, "stream", None)

    @property
    def kept(self) -> Any:
        """(output_B, target_B) -> what the metrics need of a batch, if that is less than its output. Otherwise None."""
        return getattr(self.problem.metrics, "kept", None)

    def loss(self, output_B: Any, target_B: Tensor) -> Tensor:
        """Return the loss of each example, [B]."""
        return self.problem.loss(output_B, target_B)

    def metrics(self, output: Any, target: Tensor) -> dict[str, float]:
        """Return the metrics of a whole part."""
        return self.problem.metrics(output, target)

    def _fresh_loss(self) -> float:
        """Return the mean absolute loss of an untrained model, or 1 if it is 0."""
        model = self.build(0).eval()
        inputs_B, target_B = self.fetch("train", 0, torch.arange(min(LOOKED_AT, self.size("train", 0))))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            loss_B = self.loss(self.forward(model, inputs_B), target_B)
        return loss_B.double().abs().mean().item() or 1.0

    def _check_part(self, part: str, partition: int) -> None:
        if part not in PARTS:
            raise ValueError(f"part={part}: there is no such part of the data. Choose one of {', '.join(PARTS)}")
        if not 0 <= partition < self.data.partitions:
            count, name = self.data.partitions, type(self.data).__name__
            raise ValueError(f"partition={partition}: {name} has {count} partitions. Choose one below {count}")

    def _model_arguments(self, numbers: dict[str, object]) -> dict[str, Any]:
        """Return the arguments of the factory, besides its own: those of the trial and of the data."""
        factory, keywords = getattr(self.model, "func", self.model), getattr(self.model, "keywords", {})
        parameters = list(inspect.signature(factory).parameters.values())[len(getattr(self.model, "args", ())) :]
        names = [parameter.name for parameter in parameters]
        offered = [name for name in OFFERED if name in names and hasattr(self.data, name)]
        arguments = {name: getattr(self.data, name) for name in offered if name not in keywords} | numbers
        name = getattr(factory, "__name__", type(factory).__name__)
        _refuse_unknown(name, parameters, keywords | numbers)
        _refuse_missing(name, parameters, keywords | arguments)
        return arguments


def _metrics_of(names: Sequence[str], data: Data) -> Callable[[Any, Tensor], dict[str, float]]:
    """Return the metrics of these names, with the unit of the targets or the bytes of each symbol, from the data."""
    _, target_B = data.fetch("train", 0, torch.arange(1))
    options = {name: getattr(data, name) for name in ("unit", "bytes_V") if hasattr(data, name)}
    return build_measures(names, target_B, data.outputs, **options)


def _is_of_difference(loss: Any) -> bool:
    """Return whether a loss is one of torch's that compare outputs and targets in any unit."""
    return type(loss) in OF_DIFFERENCE or any(loss is one for one in FUNCTIONS_OF_DIFFERENCE)


def _problem_of(loss: Any, usual: Problem) -> Problem:
    """Return the problem of minimizing a torch loss, with the usual metrics of the data."""
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        each: Any = copy.deepcopy(loss)
        each.reduction = "none"
        return Problem(functools.partial(_mean_of_each, each), usual.metrics)
    if inspect.isfunction(loss) and "reduction" in inspect.signature(loss).parameters:
        return Problem(functools.partial(_mean_of_each, functools.partial(loss, reduction="none")), usual.metrics)
    if callable(loss):
        return Problem(loss, usual.metrics)
    raise ValueError(f"problem={loss!r}: neither a Problem nor a loss. Give a function (output_B, target_B) -> [B]")


def _mean_of_each(loss: Callable[[Any, Tensor], Tensor], output_B: Any, target_B: Tensor) -> Tensor:
    if isinstance(loss, nn.Module):
        loss.to(target_B.device)  # it may hold weights of the classes
    if target_B.is_floating_point() and output_B.shape == (*target_B.shape, 1):
        output_B = output_B[..., 0]  # torch would compare every output with every target
    return loss(output_B, target_B).reshape(len(target_B), -1).mean(1)


def _refuse_unknown(model: str, parameters: Sequence[inspect.Parameter], arguments: Mapping[str, object]) -> None:
    names = [parameter.name for parameter in parameters]
    unknown = [name for name in arguments if name not in names]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [name for name in names if name not in OFFERED]
        remedy = f"Choose from {', '.join(known)}" if known else "Leave it out"
        raise ValueError(f"model.{unknown[0]}={arguments[unknown[0]]}: {model} has no such hyperparameter. {remedy}")


def _refuse_missing(model: str, parameters: Sequence[inspect.Parameter], arguments: Collection[str]) -> None:
    for parameter in parameters:
        is_required = parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        if is_required and parameter.name not in arguments:
            raise ValueError(
                f"model={model}: it needs `{parameter.name}`, which neither the configuration nor the data set. "
                f"Set model.{parameter.name}, or choose a model that fits the data"
            )
