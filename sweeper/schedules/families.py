"""Parsing of families: a node of `schedule` becomes a `Family`, with every check that needs no trial.

family("cosine", {"factor": "cosine", "peak_lr": {"low": 1e-3, "high": 1, "log": True}, "warmup": 0.05})
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, Literal, cast

from sweeper.importing import import_object
from sweeper.schedules import cycles, decays, momentum, warmups
from sweeper.schedules.numbers import PEAK_LR, WARMUP, Parameter, check, parameters
from sweeper.schedules.reactive import CONTROLLERS, check_together, controller_parameters
from sweeper.schedules.space import dimension
from sweeper.types import Dimension, Factor, Family, InputError, Value, did_you_mean

STRUCTURE = (
    "factor",
    "momentum",
    "controller",
)  # keys of a family's node that name code; the others are hyperparameters

_PEAK_LR = Parameter("peak_lr", "number", required=True, bounds=PEAK_LR)
_WARMUP = Parameter("warmup", "number", 0.0, bounds=WARMUP)
_WARMUP_SHAPE = Parameter("warmup_shape", "word", "linear", options=tuple(warmups.SHAPES))
_WARMUP_JOIN = Parameter("warmup_join", "word", "prefix", options=warmups.JOINS)


def _public_functions(*modules: ModuleType) -> dict[str, Factor]:
    """Return the public functions that the modules define, by name."""
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }


FACTORS = _public_functions(decays, cycles)
MOMENTA = _public_functions(momentum)


def family(name: str, node: Mapping[str, object]) -> Family:
    """Parse a family.

    The node has these keys:

    - `factor`: a name of `FACTORS`, or the import path of your own, `package.module.function`.
    - `momentum`: "constant" (the default), "cycled" against the LR, or an import path.
    - `controller`: a name of `reactive.CONTROLLERS`, for a reactive family.
    - The hyperparameters of factor, momentum and controller. {low, high, log, step} or {choice: [...]} is searched,
      and anything else is fixed. A missing key is fixed at its default. With the key `warmup`, a factor that has no
      parameter `warmup` gets a ramp before it.

    Args:
        name: The family's name.
        node: The resolved mapping of one file of `schedule`.

    Raises:
        InputError: If the family could not be trained. The error names the full key.
    """
    if not isinstance(node, Mapping) or "factor" not in node:
        remedy = f"Choose the family too, 'schedule=[...,{name}]', or name its factor, or leave these keys out"
        raise InputError(f"schedule.{name}", None, "has no factor", remedy)
    factor = _find(f"schedule.{name}.factor", node["factor"], FACTORS)
    kind: Literal["prefix", "builtin", "none"] = "builtin" if "warmup" in parameters(factor) else "none"
    if "warmup" in node and kind == "none":
        kind = "prefix"
    cycled = _momentum(name, node.get("momentum", "constant"), node["factor"])
    bare = Family(name, factor, kind, {}, cycled, _controller(name, node.get("controller")))
    return replace(bare, space=_space(bare, {key: value for key, value in node.items() if key not in STRUCTURE}))


def default_family(name: str) -> Family:
    """Return the factor `name` as a family with default hyperparameters, and a ramp if the factor has no warmup.

    Raises:
        InputError: If there is no such factor.
    """
    factor = _find("family", name, FACTORS)
    return Family(name, factor, "builtin" if "warmup" in parameters(factor) else "prefix", {})


def parameters_of(family: Family) -> dict[str, Parameter]:
    """Return every hyperparameter of the family's trials by name."""
    of_trial = {"peak_lr": _PEAK_LR}
    if family.warmup == "prefix":
        of_trial |= {"warmup": _WARMUP, "warmup_shape": _WARMUP_SHAPE, "warmup_join": _WARMUP_JOIN}
    if family.momentum is not None:
        of_trial |= parameters(family.momentum)
    of_trial |= parameters(family.factor)
    return of_trial if family.controller is None else of_trial | controller_parameters(family.controller, family.factor)


def key_of(family: Family, name: str) -> str:
    """Return the config key of a hyperparameter."""
    return f"schedule.{family.name}.{name}"


def unknown_parameter(family: Family, name: str) -> InputError:
    """Return the error about a hyperparameter that the family does not have."""
    return InputError(key_of(family, name), None, "no such hyperparameter", did_you_mean(name, parameters_of(family)))


def _momentum(name: str, word: object, factor: object) -> Factor | None:
    if word == "constant":
        return None
    key = f"schedule.{name}.momentum"
    if word != "cycled":
        return _find(key, word, {"constant": None, "cycled": None})
    if factor not in MOMENTA:
        raise InputError(key, word, f"{factor} does not cycle momentum", "Write momentum: constant")
    return MOMENTA[str(factor)]


def _controller(name: str, word: object) -> str | None:
    if word is None:
        return None
    if not isinstance(word, str) or word not in CONTROLLERS:
        raise InputError(f"schedule.{name}.controller", word, "no such controller", did_you_mean(word, CONTROLLERS))
    return word


def _space(bare: Family, nodes: Mapping[str, object]) -> dict[str, Dimension | Value]:
    known = parameters_of(bare)
    for name in nodes:
        if name not in known:
            raise unknown_parameter(bare, name)
    space: dict[str, Dimension | Value] = {}
    for name, parameter in known.items():
        key = key_of(bare, name)
        if name not in nodes and parameter.required:
            raise InputError(key, None, "missing", "Write a value, or a range {low: ..., high: ...}")
        whole = parameter.bounds.whole
        space[name] = dimension(key, nodes[name], whole) if name in nodes else parameter.default
        check(key, parameter, space[name])
    if bare.controller is not None:
        check_together(bare.name, bare.controller, bare.factor, space)
    return space


def _find(key: str, path: object, known: Mapping[str, Factor | None]) -> Factor:
    """Return the function of that name in `known`, or at that import path."""
    if isinstance(path, str) and known.get(path) is not None:
        return cast(Factor, known[path])
    if "." not in str(path):
        raise InputError(key, path, "no such name", did_you_mean(path, known))
    function = import_object(key, path, "package.module.function")
    _check_signature(key, path, function)
    return cast(Factor, function)


def _check_signature(key: str, path: object, function: Callable[..., Any]) -> None:
    """Check that it has two positional parameters and takes the rest by keyword."""
    remedy = "A factor is def f(tau_LS, decay_steps_L, *, decay=0.0): ... (see sweeper.types.Factor)"
    if not callable(function):
        raise InputError(key, path, "not a function", remedy)
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(kinds) < 2 or any(kind not in positional for kind in kinds[:2]) or inspect.Parameter.VAR_POSITIONAL in kinds:
        raise InputError(key, path, "not the signature of a factor", remedy)
