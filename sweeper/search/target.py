"""Build the sampler or pruner, Optuna's or the user's own, that `_target_` in the configuration names."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from optuna.exceptions import ExperimentalWarning

from sweeper.importing import Target, import_object, parse_target
from sweeper.options import check_options
from sweeper.types import InputError

Complete = Callable[[str, type, Target], Mapping[str, Any]]  # (key, class, target) -> all arguments of the class


def import_class(key: str, target: Target, base: type) -> type:
    """Return the class that `target` names.

    Args:
        key: The config key of the target; errors name it.
        target: The class and its options.
        base: What the class must inherit from.

    Raises:
        InputError: The class cannot be imported, or does not inherit from `base`.
    """
    kind = import_object(f"{key}._target_", target.path)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        remedy = f"Use the import path of a {base.__name__}"
        raise InputError(f"{key}._target_", target.path, f"not a {base.__name__}", remedy)
    return kind


def build(key: str, target: Target, base: type, complete: Complete) -> Any:
    """Build the object that `target` names. Options that have a `_target_` are built first.

    Args:
        key: The config key of the target; errors name it.
        target: The class and its options.
        base: What the class must inherit from.
        complete: Returns all arguments of a class: its options, and those that the sweep sets.

    Raises:
        InputError: The class cannot be imported, or rejects an option.
    """
    kind = import_class(key, target, base)
    options = {
        name: build(f"{key}.{name}", parse_target(value), object, complete)
        if isinstance(value, Mapping) and "_target_" in value
        else value
        for name, value in target.options.items()
    }
    target = replace(target, options=options)
    check_options(key, kind, options)
    try:
        with _allow_experimental():
            return kind(**complete(key, kind, target))
    except InputError:
        raise
    except Exception as error:  # Optuna's or the user's code
        raise InputError(key, kind.__name__, str(error).rstrip("."), "Correct this option") from error


def has_argument(kind: type, name: str) -> bool:
    """Return whether the constructor of a class has an argument of this name."""
    return name in inspect.signature(kind).parameters


@contextmanager
def _allow_experimental() -> Iterator[None]:
    """Suppress Optuna's warning about experimental classes and options: the user chose them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
