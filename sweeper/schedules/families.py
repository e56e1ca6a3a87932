"""One node of `schedule` becomes a Family: its factor, its space, and every check that needs no trial.

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

STRUCTURE = ("factor", "momentum", "controller")  # keys of a family's node that name code; the others are its numbers

_PEAK_LR = Parameter("peak_lr", "number", required=True, bounds=PEAK_LR)
_WARMUP = Parameter("warmup", "number", 0.0, bounds=WARMUP)
_WARMUP_SHAPE = Parameter("warmup_shape", "word", "linear", options=tuple(warmups.SHAPES))
_WARMUP_JOIN = Parameter("warmup_join", "word", "prefix", options=warmups.JOINS)


def _public_functions(*modules: ModuleType) -> dict[str, Factor]:
    """The public functions that the modules define, by name."""
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }


FACTORS = _public_functions(decays, cycles)
MOMENTA = _public_functions(momentum)


def family(name: str, node: Mapping[str, object]) -> Family:
    """The family that `node`, the plain resolved mapping of one file of `schedule`, describes.

    `factor`: a name of FACTORS, or `package.module.function` of one's own. A mapping {low, high, log, step} or
    {choice: [...]} is searched, anything else fixed; a number that is left out is fixed at the factor's default.
    A family whose factor has no `warmup` of its own gets the prefix ramp if the node has the key `warmup`.
    `momentum: cycled` (or a path): the momentum runs against the LR. `controller`: a name of reactive.CONTROLLERS,
    with its numbers beside the factor's.

    Raises InputError, with the key's full path, for anything that could not be trained.
    """
    if not isinstance(node, Mapping) or "factor" not in node:
        remedy = f"Choose the family too, 'schedule=[...,{name}]', or name its factor, or leave these keys out"
        raise InputError(f"schedule.{name}", None, "no factor, so no family", remedy)
    factor = _find(f"schedule.{name}.factor", node["factor"], FACTORS)
    own = parameters(factor)
    kind: Literal["prefix", "builtin", "none"] = "builtin" if "warmup" in own else "none"
    if "warmup" in node and kind == "none":
        kind = "prefix"
    cycled = _momentum(name, node.get("momentum", "constant"), node["factor"])
    bare = Family(name, factor, kind, {}, cycled, _controller(name, node.get("controller")))
    return replace(bare, space=_space(bare, {key: value for key, value in node.items() if key not in STRUCTURE}))


def default_family(name: str) -> Family:
    """The factor of that name as a family, everything at its default, with a prefix warmup where it has none."""
    factor = _find("family", name, FACTORS)
    own = parameters(factor)
    return Family(name, factor, "builtin" if "warmup" in own else "prefix", {})


def parameters_of(family: Family) -> dict[str, Parameter]:
    """Every number and word that a trial of the family has, by name."""
    of_trial = {"peak_lr": _PEAK_LR}
    if family.warmup == "prefix":
        of_trial |= {"warmup": _WARMUP, "warmup_shape": _WARMUP_SHAPE, "warmup_join": _WARMUP_JOIN}
    if family.momentum is not None:
        of_trial |= parameters(family.momentum)
    of_trial |= parameters(family.factor)
    return of_trial if family.controller is None else of_trial | controller_parameters(family.controller, family.factor)


def key_of(family: Family, number: str) -> str:
    """The config path of one of its numbers."""
    return f"schedule.{family.name}.{number}"


def unknown_parameter(family: Family, number: str) -> InputError:
    """The error for a number that the family does not have."""
    return InputError(key_of(family, number), None, "no such number", did_you_mean(number, parameters_of(family)))


def _momentum(name: str, word: object, factor: object) -> Factor | None:
    if word == "constant":
        return None
    key = f"schedule.{name}.momentum"
    if word != "cycled":
        return _find(key, word, {"constant": None, "cycled": None})
    if factor not in MOMENTA:
        raise InputError(key, word, f"{factor} does not cycle it", "Write momentum: constant")
    return MOMENTA[str(factor)]


def _controller(name: str, word: object) -> str | None:
    if word is None:
        return None
    if word not in CONTROLLERS:
        raise InputError(f"schedule.{name}.controller", word, "no such name", did_you_mean(word, CONTROLLERS))
    return str(word)


def _space(bare: Family, given: Mapping[str, object]) -> dict[str, Dimension | Value]:
    known = parameters_of(bare)
    for key in given:
        if key not in known:
            raise unknown_parameter(bare, key)
    space: dict[str, Dimension | Value] = {}
    for number, parameter in known.items():
        key = key_of(bare, number)
        if number not in given and parameter.required:
            raise InputError(key, None, "missing", "Write a value, or a range {low: ..., high: ...}")
        space[number] = dimension(key, given[number]) if number in given else parameter.default
        check(key, parameter, space[number])
    if bare.controller is not None:
        check_together(bare.name, bare.controller, bare.factor, space)
    return space


def _find(key: str, path: object, known: Mapping[str, Factor | None]) -> Factor:
    """The function of that name in `known`, or at that dotted path."""
    if isinstance(path, str) and known.get(path) is not None:
        return cast(Factor, known[path])
    if "." not in str(path):
        raise InputError(key, path, "no such name", did_you_mean(path, known))
    found = import_object(key, path, "package.module.function")
    _check_signature(key, path, found)
    return cast(Factor, found)


def _check_signature(key: str, path: object, found: Callable[..., Any]) -> None:
    """Two positional parameters, the rest by keyword."""
    remedy = "A factor is def f(tau_LS, decay_steps_L, *, decay=0.0): ... (see sweeper.types.Factor)"
    if not callable(found):
        raise InputError(key, path, "not a function", remedy)
    kinds = [p.kind for p in inspect.signature(found).parameters.values()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(kinds) < 2 or any(kind not in positional for kind in kinds[:2]) or inspect.Parameter.VAR_POSITIONAL in kinds:
        raise InputError(key, path, "not the signature of a factor", remedy)
