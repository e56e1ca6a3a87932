"""The structure of a model: everything except the values of its parameters and buffers.

Models of equal structure can be stacked. Attributes are compared recursively: lists, functions with their closures,
objects by their state. An object that cannot be inspected counts as different from everything else, so the comparison
may stack too little, but never too much.
"""

from __future__ import annotations

import hashlib
import itertools
import types
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.training.randomness import ALPHA, CountedDropout

PLAIN = (bool, int, float, complex, str, bytes, range, torch.dtype, torch.device, torch.layout, torch.memory_format)
NAMED = (type, types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_unlike = itertools.count()  # makes each object that cannot be inspected unique


def structure(module: nn.Module) -> str:
    """Return a digest that is equal for two models that can be lanes of one stack.

    It covers `attribute_texts`, and the names, shapes and types of parameters and buffers, which of them are shared,
    and which are trained. The p of a dropout layer may differ from lane to lane. The p of alpha dropout may not,
    because it changes the formula.
    """
    parts: list[Any] = list(attribute_texts(module).items())
    first: dict[int, str] = {}
    parameters, buffers = module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
    for name, tensor in [*parameters, *buffers]:
        same = first.setdefault(id(tensor), name)
        parts.append((name, same, tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad))
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def attribute_texts(module: nn.Module, *, values: bool = True) -> dict[str, str]:
    """Return a text for each attribute of each module, by path ("layers.0.p"). Equal attributes have equal texts.

    Args:
        module: The model.
        values: Whether the texts of tensors and arrays depend on their values, too, or on shape and type only.
    """
    names: dict[int, str] = {}
    for named in (module.named_modules(), module.named_parameters(), module.named_buffers()):
        names |= {id(part): name for name, part in named}
    texts: dict[str, str] = {}
    for name, child in module.named_modules(remove_duplicate=False):
        kind = f"{type(child).__module__}.{type(child).__qualname__}"
        texts[f"{name}."] = f"{kind}, {names[id(child)]}, {'training' if child.training else 'evaluating'}"
        attributes = {key: value for key, value in vars(child).items() if _is_structural(child, key)}
        ranks = _hook_ranks(child)
        for key, value in sorted(attributes.items()):
            content = [(ranks[hook], what) for hook, what in value.items()] if _is_hooks(key, value) else value
            texts[f"{name}.{key}".lstrip(".")] = _Text(names, values).of(content)
    return texts


def _is_structural(module: nn.Module, key: str) -> bool:
    """Return whether an attribute belongs to the structure of the model."""
    if key in ("_parameters", "_buffers", "_modules", "training"):
        return False
    return not (isinstance(module, CountedDropout) and (key == "clock" or (key == "p" and module.kind not in ALPHA)))


def _is_hooks(key: str, value: Any) -> bool:
    return "_hooks" in key and isinstance(value, dict)


def _hook_ranks(module: nn.Module) -> dict[int, int]:
    """Return the rank of each hook within its module. Hook ids count all hooks of the process, so they differ."""
    ids = {hook for key, value in vars(module).items() if _is_hooks(key, value) for hook in value}
    return {hook: rank for rank, hook in enumerate(sorted(ids))}


class _Text:
    """Writes the text of one attribute.

    Args:
        names: Names of the modules, parameters and buffers of the model, by id.
        values: Whether the values of tensors and arrays count.
    """

    def __init__(self, names: dict[int, str], values: bool) -> None:
        self._names, self._values = names, values
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # keeps objects alive, so that no id is reused

    def of(self, value: Any) -> str:
        """Return the text of a value. An object that occurs again is a reference to its first occurrence."""
        if value is None or isinstance(value, PLAIN):
            return repr(value)
        if id(value) in self._names:
            return f"own {self._names[id(value)]}"
        if isinstance(value, NAMED):
            return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
        if isinstance(value, types.ModuleType):
            return value.__name__
        if id(value) in self._seen:
            return f"seen {self._seen[id(value)]}"
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        return self._compound(value)

    def _compound(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return self._array(value.dtype, tuple(value.shape), value.detach().cpu())
        if isinstance(value, np.ndarray) and value.dtype != object:
            return self._array(value.dtype, value.shape, value)
        if isinstance(value, nn.Module):
            tensors = [*value.named_parameters(), *value.named_buffers()]
            return f"{self._all(attribute_texts(value, values=self._values).items())} {self._all(tensors)}"
        if isinstance(value, dict):
            return f"{type(value).__name__}{self._all(value.items())}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__}{self._all(value)}"
        if isinstance(value, set | frozenset):
            return f"{type(value).__name__}{sorted(map(self.of, value))}"
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return f"{self.of(value.__func__)} of {self.of(value.__self__)}"
        if isinstance(value, types.CodeType):
            return f"{value.co_code!r} {value.co_names} {self._all(value.co_consts)}"
        if isinstance(value, weakref.ref):
            return self.of(value())
        return self._object(value)

    def _all(self, values: Any) -> str:
        return f"[{', '.join(map(self.of, values))}]"

    def _array(self, dtype: Any, shape: tuple[int, ...], array: Any) -> str:
        if not self._values:
            return f"{dtype} {shape}"
        data = array.contiguous().reshape(-1).view(torch.uint8).numpy() if isinstance(array, Tensor) else array
        return f"{dtype} {shape} {hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest()}"

    def _function(self, function: types.FunctionType) -> str:
        closed = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
        content = (function.__code__, function.__defaults__, function.__kwdefaults__, closed, vars(function))
        return f"{function.__module__}.{function.__qualname__}{self._all(content)}"

    def _object(self, value: Any) -> str:
        """Return the text of the state that pickle would store."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # locks, streams, handles of a library
            return f"unlike {next(_unlike)}"
        if isinstance(reduced, str):
            return f"{type(value).__module__}.{reduced}"
        return f"{type(value).__module__}.{type(value).__qualname__}{self._all([self._part(part) for part in reduced])}"

    @staticmethod
    def _part(part: Any) -> Any:
        """Return a part of what pickle stores, with the iterators of items as lists."""
        return list(part) if hasattr(part, "__next__") else part
