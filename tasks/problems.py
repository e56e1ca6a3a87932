"""A data set, a model and a problem (what is a loss, what is a metric) make a task."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

PARTS = ("train", "valid", "test")
OFFERED = ("inputs", "outputs", "context")  # what a data set tells a model whose constructor names it
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Data(Protocol):
    """Examples in three parts, "train", "valid" and "test"; write your own with these six members.

    inputs: features of one example, or the size of its vocabulary. outputs: classes (columns of the target in a
    regression). Both, and `context` (symbols before the one to predict) where the data have it, are given to
    models whose constructors name them. partitions: how many splits or folds there are; 0 is the default one.
    fingerprint: a text that changes when the examples or their split do. Picklable, at first on the CPU:

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
    untrained_loss(data): the loss of a model that knows nothing; ten times as much has diverged.
    """

    loss: Callable[[Any, Tensor], Tensor]
    metrics: Callable[[Any, Tensor], dict[str, float]]
    untrained_loss: Callable[[Data], float]


def cross_entropy(output_B: Tensor, target_B: Tensor) -> Tensor:
    """Nats, [B]; classes in the last dimension of output_B [B, ..., C], the mean over all positions of target_B."""
    if target_B.dim() == 1:
        return functional.cross_entropy(output_B, target_B, reduction="none")
    loss = functional.cross_entropy(output_B.flatten(0, -2), target_B.flatten(), reduction="none")
    return loss.view(target_B.shape).flatten(1).mean(1)


def accuracy(output: Tensor, target: Tensor) -> dict[str, float]:
    """The fraction of targets whose class has the largest output."""
    return {"accuracy": (output.argmax(-1) == target).double().mean().item()}


def log_classes(data: Data) -> float:
    """Every class equally likely."""
    return math.log(data.outputs)


CLASSIFICATION = Problem(cross_entropy, accuracy, log_classes)


class Supervised:
    """A task: `model` trained on `data`.

    model: a factory, `functools.partial(MLP, width=64)`; its result is any `nn.Module`. It is called with its own
    numbers, those that a trial sets, and those of the data's `inputs`, `outputs` and `context` that it names.
    """

    def __init__(self, data: Data, model: Callable[..., nn.Module], problem: Problem = CLASSIFICATION) -> None:
        self.data, self.model, self.problem = data, model, problem
        self.fingerprint = data.fingerprint
        self.untrained_loss = problem.untrained_loss(data)
        self.loss_bound = 10 * self.untrained_loss

    def to(self, device: torch.device) -> Self:
        """The same task with its data on `device`; this one stays where it is."""
        placed = copy.copy(self)
        placed.data = self.data.to(device)
        return placed

    def size(self, part: str, partition: int) -> int:
        self._known(part, partition)
        return self.data.size(part, partition)

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        self._known(part, partition)
        return self.data.fetch(part, partition, index_B)

    def build(self, seed: int, **numbers: Any) -> nn.Module:
        """A fresh model on the CPU, a function of the arguments alone; the caller's generators are untouched.

        numbers: replace those of the factory, by argument of its constructor ("dropout"). Raises ValueError.
        """
        arguments = self._arguments(numbers)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators' as well
            return self.model(**arguments)

    def forward(self, model: nn.Module, inputs_B: Any) -> Any:
        return model(inputs_B)

    def loss(self, output_B: Any, target_B: Tensor) -> Tensor:
        return self.problem.loss(output_B, target_B)

    def metrics(self, output: Any, target: Tensor) -> dict[str, float]:
        return self.problem.metrics(output, target)

    def _known(self, part: str, partition: int) -> None:
        if part not in PARTS:
            raise ValueError(f"part={part}: there is no such part of the data. Choose one of {', '.join(PARTS)}.")
        if not 0 <= partition < self.data.partitions:
            count, name = self.data.partitions, type(self.data).__name__
            raise ValueError(f"partition={partition}: {name} has {count} of them. Choose one below {count}.")

    def _arguments(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """What the model is called with beside the factory's own numbers: the trial's, and those of the data."""
        factory, own = getattr(self.model, "func", self.model), getattr(self.model, "keywords", {})
        taken = list(inspect.signature(factory).parameters.values())[len(getattr(self.model, "args", ())) :]
        names = [parameter.name for parameter in taken]
        offered = [name for name in OFFERED if name in names and hasattr(self.data, name)]
        arguments = {name: getattr(self.data, name) for name in offered if name not in own} | numbers
        _refuse_unknown(factory.__name__, taken, own | numbers)
        _refuse_missing(factory.__name__, taken, own | arguments)
        return arguments


def _refuse_unknown(model: str, taken: Sequence[inspect.Parameter], given: dict[str, Any]) -> None:
    names = [parameter.name for parameter in taken]
    unknown = [name for name in given if name not in names]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        known = ", ".join(name for name in names if name not in OFFERED) or "none"
        raise ValueError(
            f"model.{unknown[0]}={given[unknown[0]]}: {model} has no such number. Leave it out; those it has: {known}."
        )


def _refuse_missing(model: str, taken: Sequence[inspect.Parameter], given: dict[str, Any]) -> None:
    for parameter in taken:
        required = parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        if required and parameter.name not in given:
            raise ValueError(
                f"model={model}: it needs `{parameter.name}`, which neither the configuration nor the data give. "
                f"Set model.{parameter.name}, or choose a model that fits the data."
            )
