"""What a model is beside its parameters and buffers: models of one structure can be stacked.

Attributes are compared as far down as they go: lists, functions with what they close over, objects by their state. What
cannot be looked into counts as unlike everything else, so that too little is stacked, never too much.
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
_unlike = itertools.count()


def structure(module: nn.Module) -> str:
    """A digest that is equal where two models can be lanes of one stack.

    It covers `attribute_texts`, and the names, shapes and types of parameters and buffers, which of them are shared,
    and which are trained. The p of a dropout layer may differ from lane to lane (not of alpha dropout, whose
    formula it changes).
    """
    parts: list[Any] = list(attribute_texts(module).items())
    first: dict[int, str] = {}
    parameters, buffers = module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
    for name, tensor in [*parameters, *buffers]:
        same = first.setdefault(id(tensor), name)
        parts.append((name, same, tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad))
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def attribute_texts(module: nn.Module, *, values: bool = True) -> dict[str, str]:
    """By path ("layers.0.p") a text of each attribute of each module, equal where the attribute is.

    values: also the numbers of tensors among the attributes, not their shapes alone.
    """
    names: dict[int, str] = {}
    for found in (module.named_modules(), module.named_parameters(), module.named_buffers()):
        names |= {id(part): name for name, part in found}
    texts: dict[str, str] = {}
    for name, child in module.named_modules(remove_duplicate=False):
        kind = f"{type(child).__module__}.{type(child).__qualname__}"
        texts[f"{name}."] = f"{kind}, {names[id(child)]}, {'training' if child.training else 'evaluating'}"
        own = {key: value for key, value in vars(child).items() if _tells(child, key)}
        ranks = _ranks(child)
        for key, value in sorted(own.items()):
            told = [(ranks[hook], what) for hook, what in value.items()] if _is_hooks(key, value) else value
            texts[f"{name}.{key}".lstrip(".")] = _Text(names, values).of(told)
    return texts


def _tells(module: nn.Module, key: str) -> bool:
    """Whether this attribute belongs to a model's structure."""
    if key in ("_parameters", "_buffers", "_modules", "training"):
        return False
    return not (isinstance(module, CountedDropout) and (key == "clock" or (key == "p" and module.kind not in ALPHA)))


def _is_hooks(key: str, value: Any) -> bool:
    return "_hooks" in key and isinstance(value, dict)


def _ranks(module: nn.Module) -> dict[int, int]:
    """The number of each of a module's hooks among these: their own numbers count all hooks of the process."""
    numbers = {number for key, value in vars(module).items() if _is_hooks(key, value) for number in value}
    return {number: rank for rank, number in enumerate(sorted(numbers))}


class _Text:
    """The text of one attribute. names: of the model's own modules, parameters and buffers, by id."""

    def __init__(self, names: dict[int, str], values: bool) -> None:
        self._names, self._values = names, values
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is no other object's as long as its own lives

    def of(self, value: Any) -> str:
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

    def _array(self, dtype: Any, shape: tuple[int, ...], numbers: Any) -> str:
        if not self._values:
            return f"{dtype} {shape}"
        data = numbers.contiguous().reshape(-1).view(torch.uint8).numpy() if isinstance(numbers, Tensor) else numbers
        return f"{dtype} {shape} {hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest()}"

    def _function(self, function: types.FunctionType) -> str:
        closed = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
        told = (function.__code__, function.__defaults__, function.__kwdefaults__, closed, vars(function))
        return f"{function.__module__}.{function.__qualname__}{self._all(told)}"

    def _object(self, value: Any) -> str:
        """By what pickle would keep of it."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # locks, streams, handles of a library
            return f"unlike {next(_unlike)}"
        if isinstance(reduced, str):
            return f"{type(value).__module__}.{reduced}"
        return f"{type(value).__module__}.{type(value).__qualname__}{self._all([self._part(part) for part in reduced])}"

    @staticmethod
    def _part(part: Any) -> Any:
        """Items that pickle would append, as a list."""
        return list(part) if hasattr(part, "__next__") else part
