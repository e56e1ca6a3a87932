"""The identity of a task that was made in Python, where no configuration describes it.

It covers the model's parameters by name and shape, the hyperparameters of its modules, the user's code in them with
everything that this code names (`sweeper.spec.source`), weights that do not depend on the seed (a pretrained model's),
and the code of the task, its loss and its metrics. The data have a fingerprint. It does not cover the code of installed
packages, nor weights drawn outside the modules' own code.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweeper.spec import source
from sweeper.spec.question import digest
from sweeper.spec.requests import plain
from sweeper.spec.sweep import Subject
from sweeper.types import InputError, Task, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

LETTERS = 12
MEMBERS = ("fingerprint", "untrained_loss", "loss_bound", "to", "size", "fetch", "build", "forward", "loss", "metrics")
FROM_DATA = ("fingerprint", "untrained_loss", "loss_bound")  # their last bits may differ between machines
BUILT_IN = (bool, int, float, str)


def describe(task: Task, numbers: Mapping[str, Value]) -> tuple[dict[str, Any], str]:
    """Return plain data that differ if two tasks differ, and "<data>-<model>" for the names of their sweeps.

    Args:
        task: The task.
        numbers: Values of the model's searched hyperparameters, to build it with.

    Raises:
        InputError: If it is no task, or its model cannot be built.
    """
    _check_members(task)
    first, second = (_build(task, seed, numbers) for seed in (0, 1))
    model = type(first)
    question = {
        "task": {
            "class": type(task).__name__,
            "code": digest(source.text(_code_of(task)), LETTERS),
            "loss_bound": float(f"{task.loss_bound:.6g}"),
        },
        "model": {
            "class": model.__name__,
            **_arguments(task),
            "parameters": sum(size for _, _, _, size in _tensors(first)),
            "structure": digest([_tensors(first), _modules(first)], LETTERS),
            "code": digest(source.text(_own_classes(first)), LETTERS),
            "given_weights": _given_weights(first, second),
        },
    }
    data = getattr(task, "data", None)
    names = [getattr(data, "name", None) or type(task if data is None else data).__name__, model.__name__]
    return question, "-".join(_folder_name(name) for name in names)


def _check_members(task: object) -> None:
    missing = [name for name in MEMBERS if not hasattr(task, name)]
    if missing or isinstance(task, type):
        raise InputError(
            "task",
            getattr(task, "__name__", type(task).__name__),
            "a class, not a task" if isinstance(task, type) else f"not a task: it has no {missing[0]}",
            "Make one: Supervised(Arrays(X, y), Model), from sweeper.tasks",
        )


def _build(task: Task, seed: int, numbers: Mapping[str, Value]) -> nn.Module:
    try:
        return task.build(seed, **numbers)
    except Exception as error:
        problem = f"cannot be built ({type(error).__name__}: {error})"
        raise InputError("model", None, problem, "Check the model's class and its arguments") from error


def _folder_name(name: str) -> str:
    return re.sub(r"[^a-z0-9._+=]", "", str(name).lower()).lstrip("._+=") or "own"


# --- the task ---------------------------------------------------------------------------------------


def _code_of(task: Task) -> dict[str, Any]:
    """Return the task's class and attributes, without data and model."""
    held = {key: value for key, value in vars(task).items() if key not in ("data", "model", "_given", *FROM_DATA)}
    inner = {key: _code_of(value) for key, value in held.items() if _is_task(value)}  # a task may wrap another
    return {"class": type(task), "data": type(getattr(task, "data", None)), "held": _readable(held | inner)}


def _is_task(value: Any) -> bool:
    return not isinstance(value, type) and all(hasattr(value, name) for name in MEMBERS)


def _readable(thing: Any) -> Any:
    """Return a value with every torch module (a loss) in it as its classes and hyperparameters."""
    from torch import Tensor, nn

    if isinstance(thing, nn.Module):
        return [_own_classes(thing), _tensors(thing), _modules(thing), _hash(thing.state_dict())]
    if isinstance(thing, Tensor):
        return _hash({"": thing})
    if isinstance(thing, functools.partial):
        return {"call": _readable(thing.func), "of": _readable([list(thing.args), thing.keywords])}
    if isinstance(thing, Mapping):
        return {key: _readable(value) for key, value in thing.items()}
    return [_readable(value) for value in thing] if isinstance(thing, tuple | list) else thing


def _arguments(task: Task) -> dict[str, Any]:
    """Return the plain arguments of a factory `partial(Net, width=64)`, for readers of the stored question."""
    keywords = getattr(getattr(task, "model", None), "keywords", None) or {}
    plain = {key: value for key, value in keywords.items() if isinstance(value, BUILT_IN)}
    return {"arguments": plain} if plain else {}


# --- the model --------------------------------------------------------------------------------------


def _tensors(module: nn.Module) -> list[tuple[str, list[int] | None, str, int]]:
    """Return name, shape, type and size of each parameter and buffer; a lazy one has no shape yet."""
    from torch.nn.parameter import is_lazy

    every = [*module.named_parameters(), *module.named_buffers()]
    return [
        (name, None, "lazy", 0) if is_lazy(value) else (name, list(value.shape), str(value.dtype), value.numel())
        for name, value in every
    ]


def _modules(module: nn.Module) -> list[tuple[str, str, Any]]:
    """Return name, class and hyperparameters of each module."""
    return [(name, type(part).__qualname__, _numbers(part)) for name, part in module.named_modules()]


def _numbers(part: nn.Module) -> Any:
    """Return what a module of torch prints of itself, which changes least between versions, or its plain attributes."""
    if type(part).__module__.startswith("torch.") and part.extra_repr():
        return part.extra_repr()
    plain = {key: value for key, value in vars(part).items() if not key.startswith("_") and key != "training"}
    return {key: str(value) for key, value in plain.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, BUILT_IN) or value is None


def _own_classes(module: nn.Module) -> list[type | Callable[..., Any]]:
    """Return the user's own classes among those of the modules, each once."""
    classes = {type(part): None for part in module.modules()}
    return [kind for kind in classes if source.is_own(kind)]


def _given_weights(first: nn.Module, second: nn.Module) -> str:
    """Return a hash of the tensors that two seeds share: constants, and weights that were trained before."""
    other = dict(_values(second))
    return _hash({name: value for name, value in _values(first) if name in other and _equal(value, other[name])})


def _values(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    from torch.nn.parameter import is_lazy

    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if not is_lazy(value):
            yield name, value.detach()


def _equal(one: Tensor, other: Tensor) -> bool:
    import torch

    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _hash(tensors: Mapping[str, Tensor]) -> str:
    import torch

    whole = hashlib.blake2b(digest_size=LETTERS // 2)
    for name, value in tensors.items():
        whole.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        whole.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def subject_of(task: Task, model: Mapping[str, Any], optimizer: str = "") -> Subject:
    """Return a task made in Python together with its identity.

    Args:
        task: The task.
        model: Hyperparameters of the model's constructor that are searched, by name.
        optimizer: Name of the optimizer, for the sweep's name.
    """
    numbers = {f"model.{key}": plain(f"model.{key}", value) for key, value in model.items()}
    subject = Subject(task, "", {}, numbers)
    question, label = describe(task, subject.first_numbers)
    return replace(subject, label=f"{label}-{optimizer}", described=question)
