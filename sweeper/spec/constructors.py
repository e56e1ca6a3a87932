"""Whether an argument of a constructor takes whole numbers, from its annotation or its default."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sweeper.schedules import dimension
from sweeper.types import Dimension, Task, Value

BY_NAME = {"int": int, "float": float, "bool": bool}  # of annotations in modules whose other names do not resolve


def model_hyperparameters(task: Task, nodes: Mapping[str, object]) -> dict[str, Dimension | Value]:
    """Parse the searched hyperparameters of a model.

    Args:
        task: What is trained. Its attribute `model` is the model's constructor, as in `sweeper.tasks.Supervised`; a
            task without it tells by the arguments of its `build` which hyperparameters are whole.
        nodes: As they are written, by config path: "model.dropout".

    Raises:
        InputError: If a value cannot be searched.
    """
    constructor = getattr(task, "model", None) or getattr(task, "build", None)
    return {key: dimension(key, node, is_whole(constructor, key.removeprefix("model."))) for key, node in nodes.items()}


def is_whole(constructor: Callable[..., Any] | None, name: str) -> bool | None:
    """Return whether an argument takes whole numbers.

    An `int` does, also if it may be None; a `bool` counts as 0 and 1. A `float` does not, also among other types.
    Without an annotation, a default of 0.1 makes it real. A default of 0 tells nothing, since many write it for 0.0.

    Args:
        constructor: A class, a function or a `functools.partial`; None if it is not known. The arguments that a class
            passes on to its bases as `**kwargs` are looked up there.
        name: The argument.

    Returns:
        None if nothing tells.
    """
    for function in _functions(constructor):
        parameter = _parameters(function).get(name)
        if parameter is not None:
            types_ = set(_types(_hint(function, parameter)))
            if types_ & {int, bool, float}:
                return float not in types_
            return False if isinstance(parameter.default, float) else None
    return None


def _functions(constructor: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    """Yield the functions that take the arguments: of a class, its constructors from the class to its last base."""
    while isinstance(constructor, functools.partial):
        constructor = constructor.func
    if isinstance(constructor, type):
        yield from (vars(kind)["__init__"] for kind in constructor.__mro__ if "__init__" in vars(kind))
    elif constructor is not None:
        yield constructor


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return {}


def _hint(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    try:
        return typing.get_type_hints(function).get(parameter.name)
    except Exception:  # a name that only a type checker can resolve
        return BY_NAME.get(str(parameter.annotation), parameter.annotation)


def _types(hint: Any) -> Iterator[Any]:
    """Yield the types of a union, or the type itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for one in typing.get_args(hint):
            yield from _types(one)
    else:
        yield hint
