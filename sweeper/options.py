"""Check the options of a constructor by its signature: their names, and the types of those that are annotated."""

from __future__ import annotations

import inspect
import math
import typing
from collections import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union

from sweeper.types import InputError, as_typed, did_you_mean

PLAIN: Mapping[Any, tuple[tuple[type, ...], str]] = {  # by annotation: the types of its values, and what it asks for
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    Path: ((str, Path), "a path"),
    NoneType: ((NoneType,), "null"),
}
LISTS = (list, tuple, abc.Sequence, abc.Iterable, abc.Collection)
UNIONS = (Union, UnionType)


def check_options(
    key: str, constructor: Callable[..., Any], options: Mapping[str, object], *, given: abc.Collection[str] = ()
) -> None:
    """Check the options of a constructor.

    The value of the default is always right, whatever the annotation says. Of a parameter without an annotation, or
    with one that is none of Python's plain types, only the name is checked and that numbers are finite.

    Args:
        key: The config key of the node; errors name `<key>.<option>`.
        constructor: What `_target_` names.
        options: The other keys of the node.
        given: Arguments that the package sets, which are no options.

    Raises:
        InputError: If there is no such option, or its value is infinite, NaN or of another type.
    """
    parameters = _parameters(constructor)
    if parameters is None:
        return
    called = getattr(constructor, "__name__", str(constructor))
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = [name for name in parameters if name not in given]
    for name, value in options.items():
        if name in known:
            _check_value(f"{key}.{name}", value, parameters[name], called)
        elif not takes_any:
            raise InputError(f"{key}.{name}", value, f"no such option of {called}", did_you_mean(name, known))
        elif not is_finite(value):
            raise InputError(f"{key}.{name}", value, "not finite", "Write a finite number")


def has_option(constructor: Callable[..., Any], name: str) -> bool:
    """Whether a constructor takes an option of that name."""
    parameters = _parameters(constructor) or {}
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def is_finite(value: object) -> bool:
    """Whether no number in a value is infinite or NaN."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def fits(value: object, hint: Any) -> bool:
    """Whether a value of a configuration fits an annotation. No value is a tensor; an unknown annotation fits all."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return fits(value, inner[0])
    if origin in UNIONS:
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if _is(hint, PLAIN):
        return isinstance(value, PLAIN[hint][0]) and (hint is bool or not isinstance(value, bool))
    if _is(origin or hint, LISTS):
        return isinstance(value, list | tuple) and _do_items_fit(value, inner)
    return not _is_tensor(hint)


def describe(hint: Any) -> str:
    """Return what an annotation asks for, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe(inner[0])
    if origin in UNIONS:
        return " or ".join(dict.fromkeys(describe(one) for one in inner if not _is_tensor(one)))
    if origin is Literal:
        return " or ".join(map(as_typed, inner))
    if _is(origin or hint, LISTS):
        return f"a list of {len(inner)} values" if origin is tuple and ... not in inner else "a list"
    return PLAIN[hint][1] if _is(hint, PLAIN) else getattr(hint, "__name__", str(hint))


def _check_value(key: str, value: object, parameter: inspect.Parameter, called: str) -> None:
    """Check the value of one option. Raises InputError."""
    hint, default = parameter.annotation, parameter.default
    is_default = type(value) is type(default) and value == default
    if is_finite(value) and (is_default or hint is parameter.empty or fits(value, hint)):
        return
    wanted = "finite" if not is_finite(value) else describe(hint)
    example = describe(hint) if default in (parameter.empty, None) else f"for example {as_typed(default)}"
    raise InputError(key, "null" if value is None else value, f"not {wanted}, which {called} needs", f"Write {example}")


def _parameters(constructor: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters with their annotations resolved; None for a class of an extension without a signature."""
    try:
        parameters = inspect.signature(constructor).parameters
    except ValueError:
        return None
    function = inspect.unwrap(constructor.__init__ if isinstance(constructor, type) else constructor)  # type: ignore[misc]
    names = getattr(function, "__globals__", {})
    return {name: each.replace(annotation=_resolve(each.annotation, names)) for name, each in parameters.items()}


def _resolve(hint: Any, names: abc.Mapping[str, object]) -> Any:
    """Return an annotation that may be text; none for one with a name that only a type checker imports."""
    try:
        return eval(hint, dict(names)) if isinstance(hint, str) else hint
    except Exception:  # annotations are the user's code, too
        return inspect.Parameter.empty


def _do_items_fit(items: abc.Sequence[object], hints: tuple[Any, ...]) -> bool:
    if not hints or len(hints) == 1 or ... in hints:
        return all(fits(item, hints[0]) for item in items) if hints else True
    return len(items) == len(hints) and all(map(fits, items, hints))


def _is(hint: Any, known: abc.Collection[Any]) -> bool:
    """Whether an annotation is one of these. Some annotations cannot be hashed."""
    return any(hint is one for one in known)


def _is_tensor(hint: Any) -> bool:
    return getattr(hint, "__name__", "") == "Tensor"
