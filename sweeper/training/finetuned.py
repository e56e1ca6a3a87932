"""Fine-tuning: a task whose models start from stored weights, with some parts frozen."""

from __future__ import annotations

import copy
import hashlib
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sweeper.training import torch_files
from sweeper.training.optimizers.groups import kinds_of, matches, unmatched_error
from sweeper.types import InputError, Task, Value

KEYS = ("init_from", "init_strict", "init_reset", "freeze")  # of a model's node; its constructor does not get them
LISTED = 5  # names in an error
STATE_REMEDY = "Write it with torch.save(model.state_dict(), FILE)"


class FineTuned:
    """A task whose models start from the weights in a file; see sweeper.types.Task.

    `init_reset` and `freeze` take one name or a list, as `sweeper.training.optimizers.groups.matches` reads them.

    Args:
        task: The task to wrap.
        init_from: A file that torch.save wrote from `model.state_dict()`, as `keep.best` does, or a .safetensors file.
            None for the fresh weights of the model.
        init_strict: Whether the file must have exactly the model's names.
        init_reset: Parts that keep their fresh values.
        freeze: Parts that are not trained. Their buffers change all the same, such as the running averages of a
            BatchNorm.

    Raises:
        InputError: If the file cannot be read. `build` raises it if file and model do not fit.
    """

    def __init__(
        self,
        task: Task,
        init_from: str | Path | None,
        *,
        init_strict: bool = True,
        init_reset: Any = (),
        freeze: Any = (),
    ) -> None:
        self.task = task
        self.path = None if init_from is None else str(init_from)
        self.state = {} if init_from is None else _read_state(Path(init_from))
        self.strict, self.reset, self.frozen = init_strict, init_reset or (), freeze or ()
        self.fingerprint = (
            task.fingerprint if init_from is None else f"{task.fingerprint}-{_file_digest(Path(init_from))}"
        )
        self.untrained_loss, self.loss_bound = task.untrained_loss, task.loss_bound

    @property
    def unscaled(self) -> FineTuned | None:
        """The task on the data as given; None if it is the same (see `sweeper.tasks.Supervised`)."""
        task = getattr(self.task, "unscaled", None)
        if task is None:
            return None
        other = copy.copy(self)
        other.task, other.fingerprint = task, task.fingerprint + self.fingerprint.removeprefix(self.task.fingerprint)
        other.untrained_loss, other.loss_bound = task.untrained_loss, task.loss_bound
        return other

    def to(self, device: torch.device) -> Self:
        placed = copy.copy(self)
        placed.task = self.task.to(device)
        return placed

    def size(self, part: str, partition: int) -> int:
        return self.task.size(part, partition)

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        return self.task.fetch(part, partition, index_B)

    def build(self, seed: int, **numbers: Value) -> nn.Module:
        """Return a fresh model with the stored weights."""
        model = self.task.build(seed, **numbers)
        if self.path is not None:
            self._load(model)
        self._freeze(model)
        return model

    def forward(self, model: nn.Module, inputs_B: Any) -> Any:
        return self.task.forward(model, inputs_B)

    def loss(self, output_B: Any, target_B: Tensor) -> Tensor:
        return self.task.loss(output_B, target_B)

    def metrics(self, output: Any, target: Tensor) -> dict[str, float]:
        return self.task.metrics(output, target)

    def __getattr__(self, name: str) -> Any:
        """Return an optional member of the task (data, augment, stream)."""
        if name == "task" or name.startswith("_"):  # during unpickling there is no task yet
            raise AttributeError(name)
        return getattr(self.task, name)

    def _load(self, model: nn.Module) -> None:
        tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        kinds = kinds_of(model)
        fresh = {name for name in tensors if matches(self.reset, name, kinds.get(name, frozenset()))}
        if self.reset and not fresh:
            raise unmatched_error("model.init_reset", self.reset, model)
        missing = [name for name in tensors if name not in self.state and name not in fresh]
        unexpected = [name for name in self.state if name not in tensors]
        loaded = {name: value for name, value in self.state.items() if name in tensors and name not in fresh}
        misshapen = [name for name, value in loaded.items() if value.shape != tensors[name].shape]
        fresh_parts = "Keep their fresh values with model.init_reset=[...]"
        if self.strict or not loaded:
            self._refuse(missing, "the file lacks", fresh_parts)
            self._refuse(unexpected, "the model lacks", "Load only what fits with model.init_strict=false")
        self._refuse(misshapen, "shapes differ for", fresh_parts)
        model.load_state_dict(loaded, strict=False)

    def _refuse(self, names: list[str], which: str, remedy: str) -> None:
        if names:
            listed = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
            problem = f"the weights do not fit the model: {which} {listed}"
            raise InputError("model.init_from", self.path, problem, remedy)

    def _freeze(self, model: nn.Module) -> None:
        kinds = kinds_of(model)
        for pattern in [self.frozen] if isinstance(self.frozen, str) else self.frozen:
            named = model.named_parameters()
            parameters = [parameter for name, parameter in named if matches(pattern, name, kinds[name])]
            if not parameters:
                raise unmatched_error("model.freeze", pattern, model)
            for parameter in parameters:
                parameter.requires_grad_(False)
        if self.frozen and not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError("model.freeze", self.frozen, "nothing is left to train", "Freeze less of the model")


def finetuned_task(task: Task, model: Mapping[str, object]) -> Task:
    """Return the task, wrapped in FineTuned if the model's node sets one of KEYS.

    Args:
        task: The task.
        model: The model's node.

    Raises:
        InputError: If a value cannot be used.
    """
    settings = {key: model[key] for key in KEYS if model.get(key) is not None}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            raise InputError(f"model.{key}", None, "cannot be searched", f"Run one sweep for each: -m model.{key}=A,B")
    path, strict = settings.get("init_from"), settings.get("init_strict", True)
    if not isinstance(strict, bool):
        raise InputError("model.init_strict", strict, "must be true or false", "Choose one")
    reset, freeze = settings.get("init_reset", ()), settings.get("freeze", ())
    for key, names in {"init_reset": reset, "freeze": freeze}.items():
        if not _are_names(names):
            remedy = "Use for example [embedding, blocks.0]"
            raise InputError(f"model.{key}", names, "must be a name or a list of names", remedy)
    if not settings:
        return task
    source = None if path is None else str(path)
    return FineTuned(task, source, init_strict=strict, init_reset=reset, freeze=freeze)


def _are_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, Iterable) and all(isinstance(one, str) for one in value))


def _read_state(path: Path) -> dict[str, Tensor]:
    """Return the state in a file, on the CPU.

    Raises:
        InputError: If there is no such file, or it holds no state.
    """
    if not os.path.isfile(path):  # noqa: PTH113 # Path.is_file raises for a name that is too long
        raise InputError("model.init_from", path, "there is no such file", "Give a file with a model's weights")
    try:
        if path.suffix == ".safetensors":
            state = _read_safetensors(path)
        else:
            if zipfile.is_zipfile(path):  # of older formats nothing can be checked
                torch_files.check(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch.load raises many kinds
        problem = f"cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        raise InputError("model.init_from", path, problem, STATE_REMEDY) from error
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)} if _has_names(state) else {}
    if not tensors:
        content = ", ".join(list(map(str, state))[:LISTED]) if isinstance(state, Mapping) else type(state).__name__
        problem = f"it holds {content} instead of tensors by name"
        raise InputError("model.init_from", path, problem, STATE_REMEDY)
    return tensors


def _has_names(state: Any) -> bool:
    return isinstance(state, Mapping) and all(isinstance(name, str) for name in state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        remedy = "Install it: pip install safetensors"
        raise InputError("model.init_from", path, "safetensors is not installed", remedy) from error
    state: dict[str, Tensor] = load_file(path)
    return state


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=6)).hexdigest()
