"""The user's code as text that changes when its behavior may change: part of a sweep's identity.

Comments, docstrings, layout and the file do not count, so a notebook's function may move into a module. The text covers
the function or class, and all of the user's code and plain values that they name, however deep. It does not cover
values computed at run time, files that the code reads, and the code of installed packages, which are known by name.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

PLAIN = (bool, int, float, str, type(None))
WRAPPED = (property, staticmethod, classmethod)
INSTALLED = ("site-packages", "dist-packages")
MAX_DEPTH = 12  # of nested containers and objects

Seen = dict[int, tuple[str, Any]]  # functions and classes by id; held, so that no id is reused


def is_own(thing: Any) -> bool:
    """Whether a function or class is the user's: not Python's, not ours, not an installed package's."""
    name = str(getattr(thing, "__module__", None))
    root = name.partition(".")[0]
    if root in ("sweeper", "torch"):
        return False
    if root == "__main__" or root not in sys.modules:
        return True
    file = getattr(sys.modules.get(name) or sys.modules[root], "__file__", None)
    return root not in sys.stdlib_module_names and file is not None and not set(INSTALLED) & set(Path(file).parts)


def text(thing: Any) -> str:
    """Return what identifies a value: JSON of it, of the code of its functions and classes, and of what these name."""
    return json.dumps(_plain(thing, {}, 0), sort_keys=True)


def _plain(thing: Any, seen: Seen, depth: int) -> Any:
    """Return a value as plain data."""
    if isinstance(thing, PLAIN):
        return thing
    if depth > MAX_DEPTH:
        return "..."
    deeper = functools.partial(_plain, seen=seen, depth=depth + 1)
    if isinstance(thing, CodeType):
        return [thing.co_code.hex(), list(thing.co_names), [deeper(const) for const in thing.co_consts]]
    if isinstance(thing, Mapping):
        return {str(key): deeper(value) for key, value in thing.items()}
    if isinstance(thing, tuple | list):
        return [deeper(value) for value in thing]
    if isinstance(thing, set | frozenset):
        return sorted(json.dumps(deeper(value), sort_keys=True) for value in thing)
    if isinstance(thing, functools.partial):
        return {"call": deeper(thing.func), "of": deeper([thing.args, thing.keywords])}
    if isinstance(thing, MethodType):
        return {"method": deeper(thing.__func__), "of": deeper(thing.__self__)}
    if isinstance(thing, property):
        return [deeper(function) for function in (thing.fget, thing.fset)]
    if isinstance(thing, staticmethod | classmethod):
        return {type(thing).__name__: deeper(thing.__func__)}
    if not isinstance(thing, FunctionType | type):
        return _object(thing, seen, depth)
    if not is_own(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    if id(thing) not in seen:
        seen[id(thing)] = (f"@{len(seen)}", thing)
        return _class(thing, seen, depth) if isinstance(thing, type) else _function(thing, seen, depth)
    return seen[id(thing)][0]


def _object(thing: Any, seen: Seen, depth: int) -> Any:
    """Return an object's class, and its public attributes if the class is the user's."""
    if not is_own(type(thing)):
        return {"object": type(thing).__qualname__}
    public = {key: value for key, value in getattr(thing, "__dict__", {}).items() if not key.startswith("_")}
    return {"object": _plain(type(thing), seen, depth + 1), "attributes": _plain(public, seen, depth + 1)}


def _class(thing: type, seen: Seen, depth: int) -> Any:
    """Return what a class defines; of what Python adds to it, only functions."""
    kinds = (*PLAIN, *WRAPPED, tuple, list, dict, type)
    written = {
        name: value
        for name, value in sorted(vars(thing).items())
        if isinstance(value, FunctionType) or (not name.startswith("__") and isinstance(value, kinds))
    }
    bases = [_plain(base, seen, depth + 1) for base in thing.__bases__]
    return {"class": thing.__name__, "bases": bases, "has": _plain(written, seen, depth + 1)}


def _function(thing: FunctionType, seen: Seen, depth: int) -> Any:
    source = _source(thing)
    return {
        "code": _plain(thing.__code__, seen, depth + 1) if source is None else source,
        "defaults": _plain([thing.__defaults__, thing.__kwdefaults__], seen, depth + 1),
        "names": _plain(_referenced_values(thing), seen, depth + 1),
    }


def _referenced_values(function: FunctionType) -> dict[str, Any]:
    """Return what a function names in its closure and its globals: the user's code, and plain values."""
    values: dict[str, Any] = {}
    for name in _names(function.__code__):
        if name in function.__globals__:
            values[name] = function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    return {name: value for name, value in sorted(values.items()) if _may_differ(value)}


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)


def _may_differ(value: Any) -> bool:
    """Whether a value may change while its name stays; modules and code of packages are known by name."""
    if isinstance(value, (*PLAIN, tuple, list, dict, functools.partial)):
        return True
    return is_own(value) if isinstance(value, FunctionType | type) else is_own(type(value))


def _source(function: FunctionType) -> str | None:
    """Return a function's source without comments, docstring and layout; None for a lambda or if it has no source."""
    if function.__name__ == "<lambda>":
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
