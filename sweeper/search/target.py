"""An object of Optuna's, or of one's own, named in the configuration: `{_target_: import.path, option: value}`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import ExperimentalWarning

from sweeper.importing import import_object
from sweeper.types import InputError, did_you_mean

Options = dict[str, Any]
Complete = Callable[[str, type, Options], Options]  # key, class, options as typed -> all arguments


def found(key: str, node: Mapping[str, Any], kind: type) -> type:
    """The class that `node` names, a subclass of `kind`. Raises InputError, naming `key`."""
    path = node.get("_target_")
    target = import_object(f"{key}._target_", path)
    if not (isinstance(target, type) and issubclass(target, kind)):
        raise InputError(f"{key}._target_", path, f"not a {kind.__name__}", "Give the import path of one")
    return target


def built(key: str, node: Mapping[str, Any], kind: type, complete: Complete) -> Any:
    """The object that `node` describes, those inside it too. Raises InputError for what its class does not take.

    complete: adds the arguments that are the sweep's own to set.
    """
    target = found(key, node, kind)
    options = {
        name: built(f"{key}.{name}", value, object, complete)
        if isinstance(value, Mapping) and "_target_" in value
        else value
        for name, value in node.items()
        if name != "_target_"
    }
    _check_names(key, target, options)
    try:
        with _experiments_allowed():
            return target(**complete(key, target, options))
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(key, target.__name__, str(error).rstrip("."), "Correct that option") from error


def takes(target: type, name: str) -> bool:
    """Whether the constructor has an argument of that name."""
    return name in inspect.signature(target).parameters


def _check_names(key: str, target: type, options: Options) -> None:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name, value in options.items():
        if name not in parameters:
            problem = f"no such option of {target.__name__}"
            raise InputError(f"{key}.{name}", value, problem, did_you_mean(name, parameters))


@contextmanager
def _experiments_allowed() -> Iterator[None]:
    """Who names an experimental sampler, pruner or option wants it: no warning at each ask."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
