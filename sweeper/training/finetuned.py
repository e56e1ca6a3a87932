"""A task whose models start from stored weights, with parts of them left as they are: fine-tuning."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sweeper.training.optimizers.groups import kinds_of, matches, unmatched
from sweeper.types import InputError, Task, Value

KEYS = ("init_from", "init_strict", "init_reset", "freeze")  # of a model's node: no arguments of its constructor
SHOWN = 5  # names in an error


class FineTuned:
    """`task`, every fresh model of which starts from the weights of a file; see sweeper.types.Task.

    init_from: a model's state as torch.save writes it (`model.state_dict()`, what `keep.best` keeps), or a .safetensors
    file; None: the models' own. init_strict: whether its names must be exactly the model's. Names as in groups.matches:
    init_reset, of what keeps its fresh values; freeze, of what is not trained (buffers, as the running averages of a
    BatchNorm, move all the same). Raises InputError, also from `build` where file and model do not fit.
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

    def to(self, device: torch.device) -> Self:
        placed = copy.copy(self)
        placed.task = self.task.to(device)
        return placed

    def size(self, part: str, partition: int) -> int:
        return self.task.size(part, partition)

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        return self.task.fetch(part, partition, index_B)

    def build(self, seed: int, **numbers: Value) -> nn.Module:
        """A fresh model with the stored weights in place of its own."""
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
        """What a task may have beside (data, augment, stream)."""
        if name == "task" or name.startswith("_"):  # not there yet: it is being unpickled
            raise AttributeError(name)
        return getattr(self.task, name)

    def _load(self, model: nn.Module) -> None:
        own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        kinds = kinds_of(model)
        fresh = {name for name in own if matches(self.reset, name, kinds.get(name, frozenset()))}
        if self.reset and not fresh:
            raise unmatched("model.init_reset", self.reset, model)
        missing = [name for name in own if name not in self.state and name not in fresh]
        unexpected = [name for name in self.state if name not in own]
        taken = {name: value for name, value in self.state.items() if name in own and name not in fresh}
        other = [name for name, value in taken.items() if value.shape != own[name].shape]
        fresh_parts = "Leave such parts fresh: model.init_reset=[...]"
        if self.strict or not taken:
            self._refuse(missing, "the model has, and the file has not,", fresh_parts)
            self._refuse(unexpected, "the file has, and the model has not,", "Take what fits: model.init_strict=false")
        self._refuse(other, "of another shape are", fresh_parts)
        model.load_state_dict(taken, strict=False)

    def _refuse(self, names: list[str], which: str, remedy: str) -> None:
        if names:
            shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            raise InputError("model.init_from", self.path, f"the weights do not fit the model: {which} {shown}", remedy)

    def _freeze(self, model: nn.Module) -> None:
        kinds = kinds_of(model)
        for pattern in [self.frozen] if isinstance(self.frozen, str) else self.frozen:
            fitting = [parameter for name, parameter in model.named_parameters() if matches(pattern, name, kinds[name])]
            if not fitting:
                raise unmatched("model.freeze", pattern, model)
            for parameter in fitting:
                parameter.requires_grad_(False)
        if self.frozen and not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError("model.freeze", self.frozen, "leaves nothing to train", "Freeze less of the model")


def finetuned_task(task: Task, model: Mapping[str, object]) -> Task:
    """The task as a model's node asks for it: wrapped where one of KEYS is set. Raises InputError."""
    asked = {key: model[key] for key in KEYS if model.get(key) is not None}
    for key, value in asked.items():
        if isinstance(value, Mapping):
            raise InputError(f"model.{key}", None, "cannot be searched", f"Write -m model.{key}=A,B: a sweep for each")
    path, strict = asked.get("init_from"), asked.get("init_strict", True)
    if not isinstance(strict, bool):
        raise InputError("model.init_strict", strict, "neither true nor false", "Write one of them")
    reset, freeze = asked.get("init_reset", ()), asked.get("freeze", ())
    for key, names in {"init_reset": reset, "freeze": freeze}.items():
        if not _are_names(names):
            raise InputError(f"model.{key}", names, "no names", "Write them in a list: [embedding, blocks.0]")
    if not asked:
        return task
    source = None if path is None else str(path)
    return FineTuned(task, source, init_strict=strict, init_reset=reset, freeze=freeze)


def _are_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, Iterable) and all(isinstance(one, str) for one in value))


def _read_state(path: Path) -> dict[str, Tensor]:
    """The state in a file, on the CPU."""
    if not path.is_file():
        raise InputError("model.init_from", path, "no such file", "Give the file of a model's weights")
    try:
        if path.suffix == ".safetensors":
            state = _read_safetensors(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch.load raises many kinds
        told = f"cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        raise InputError("model.init_from", path, told, "Write it with torch.save(model.state_dict(), FILE)") from error
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)} if _has_names(state) else {}
    if not tensors:
        inside = ", ".join(list(map(str, state))[:SHOWN]) if isinstance(state, Mapping) else type(state).__name__
        told = f"holds no tensors by name, but {inside}"
        raise InputError("model.init_from", path, told, "Write it with torch.save(model.state_dict(), FILE)")
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
