"""An optimizer as the configuration describes it: its node parsed and checked into a typed spec, and written back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict, TypeGuard, cast

from sweeper.importing import parse_path
from sweeper.types import InputError, Value, did_you_mean

KEYS = ("groups", "no_decay", "layer_decay", "wd_mode")  # of an optimizer's node: no arguments of its constructor
GROUP_KEYS = ("match", "lr", "weight_decay")
MODES = ("lr", "relative", "independent")
DEFAULT_MODE = "lr"

Options = Mapping[str, Value]  # arguments of a constructor, by name
Written = Value | list[Any]  # an option in the configuration, which has lists where a constructor takes tuples
Patterns = str | Sequence[str]  # names of modules or parameters, globs, kinds; see groups.matches


class GroupSpec(TypedDict, total=False):
    """A parameter group: its parameters, the factor of their LR, their weight decay.

    A dict, since the digests of stored checkpoints have its keys in the order in which the user wrote them.
    """

    match: Required[Patterns]
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer and its parameter groups, without what is searched. `parse_optimizer` makes and checks it.

    Attributes:
        target: The import path of its class.
        options: Arguments of the constructor as they were written; no `lr`, which the schedule sets.
        groups: Parameter groups by name, None for one that is switched off.
        no_decay: The parameters that have no weight decay.
        layer_decay: The factor of the LR from each layer to the one below; None: all layers have the same LR.
        wd_mode: One of MODES; see groups.WeightDecay.
    """

    target: str
    options: Mapping[str, Written] = field(default_factory=dict)
    groups: Mapping[str, GroupSpec | None] = field(default_factory=dict)
    no_decay: Patterns = ()
    layer_decay: float | None = None
    wd_mode: str = DEFAULT_MODE

    @property
    def arguments(self) -> dict[str, Value]:
        """The options as a constructor takes them: lists become tuples, which is what torch documents (betas)."""
        return {name: tuple(value) if isinstance(value, list) else value for name, value in self.options.items()}

    def node(self) -> dict[str, Any]:
        """Return the plain node, as the digests of stored checkpoints have it."""
        groups = {name: {**group} for name, group in self.groups.items() if group is not None}
        return {
            "_target_": self.target,
            **self.options,
            **({"groups": groups} if self.groups else {}),
            **({"no_decay": self.no_decay} if self.no_decay else {}),
            **({} if self.layer_decay is None else {"layer_decay": self.layer_decay}),
            **({} if self.wd_mode == DEFAULT_MODE else {"wd_mode": self.wd_mode}),
        }

    def with_options(self, numbers: Options) -> OptimizerSpec:
        """Return it with these numbers, by path: "weight_decay", "groups.head.lr". Raises InputError."""
        node = self.node()
        for path, value in numbers.items():
            if path.startswith("groups."):
                _, name, key = path.split(".", 2)
                node.setdefault("groups", {}).setdefault(name, {})[key] = value
            else:
                node[path] = value
        return parse_optimizer(node)


def parse_optimizer(node: Mapping[str, object]) -> OptimizerSpec:
    """Check the form of an optimizer's node, and return it without the numbers that it searches.

    Whether there is such an optimizer, and whether it takes these options, is checked by optim.check_optimizer.

    Args:
        node: {"_target_": import path, option: value, ...}, with KEYS.

    Raises:
        InputError: for no import path, an option that is no plain value, or what no model could be grouped by.
    """
    fixed = {str(key): value for key, value in node.items() if key == "groups" or not isinstance(value, Mapping)}
    target = parse_path("optimizer._target_", fixed.pop("_target_", None), "torch.optim.SGD")
    grouping = {key: fixed.pop(key, None) for key in KEYS}
    mode, layer_decay = grouping["wd_mode"], grouping["layer_decay"]
    return OptimizerSpec(
        target,
        {name: _parse_option(name, value) for name, value in fixed.items()},
        wd_mode=DEFAULT_MODE if mode is None else _parse_mode(mode),
        layer_decay=None if layer_decay is None else _parse_layer_decay(layer_decay),
        no_decay=_parse_patterns("optimizer.no_decay", grouping["no_decay"]) if grouping["no_decay"] else (),
        groups=_parse_groups(grouping["groups"] or {}),
    )


def searched_options(node: Mapping[str, object]) -> dict[str, Mapping[str, Any]]:
    """Return the searched numbers of an optimizer's node, by path: "weight_decay", "groups.head.lr"."""
    return {path: value for path, value in _leaves(node) if isinstance(value, Mapping)}


def without_idle_keys(node: Mapping[str, object]) -> dict[str, object]:
    """Return the node without those of KEYS that change nothing."""
    return {key: value for key, value in node.items() if key not in KEYS or (value and value != DEFAULT_MODE)}


def number_of(options: Options, name: str) -> float:
    """Return an option that is a number."""
    return float(options[name])  # type: ignore[arg-type] # else the optimizer itself has refused it


def pattern_list(patterns: object) -> list[str]:
    """Return one pattern, or several, as a list; empty where they are no patterns."""
    several = [patterns] if isinstance(patterns, str) else list(patterns) if isinstance(patterns, list | tuple) else []
    return several if all(isinstance(pattern, str) and pattern for pattern in several) else []


def _leaves(node: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Every number by its path; the groups themselves are none."""
    for key, value in node.items():
        if key != "groups":
            yield key, value
        elif isinstance(value, Mapping):
            for name, group in value.items():
                for number, one in group.items() if isinstance(group, Mapping) else ():
                    yield f"groups.{name}.{number}", one


def _parse_option(name: str, value: object) -> Written:
    if value is None or isinstance(value, int | float | str | tuple | list):
        return value
    problem = f"{type(value).__name__} is no plain value"
    raise InputError(f"optimizer.{name}", value, problem, "Write a number, a word, true, false, null or a list")


def _parse_mode(mode: object) -> str:
    if not isinstance(mode, str) or mode not in MODES:
        raise InputError("optimizer.wd_mode", mode, "no such mode", did_you_mean(mode, MODES))
    return mode


def _parse_layer_decay(layer_decay: object) -> float:
    if not _is_number(layer_decay) or layer_decay <= 0:
        raise InputError("optimizer.layer_decay", layer_decay, "no factor", "Write one, such as 0.75, or null")
    return layer_decay


def _parse_groups(groups: object) -> dict[str, GroupSpec | None]:
    if not isinstance(groups, Mapping):
        raise InputError("optimizer.groups", groups, "not groups by name", "Write {head: {match: last, lr: 10}}")
    return {str(name): None if group is None else _parse_group(str(name), group) for name, group in groups.items()}


def _parse_group(name: str, group: object) -> GroupSpec:
    key = f"optimizer.groups.{name}"
    if not re.fullmatch(r"[A-Za-z]\w*", name) or re.fullmatch(r"(group|layer)\d+", name):
        raise InputError(key, None, "cannot be the name of a group", "Use letters, digits and _, such as head")
    fixed: dict[str, object] = {}
    if isinstance(group, Mapping):
        fixed = {number: value for number, value in group.items() if not isinstance(value, Mapping)}
    if "match" not in fixed:
        raise InputError(key, group, "does not say which parameters", "Write {match: last, lr: 10}")
    for number, value in fixed.items():
        if number not in GROUP_KEYS:
            raise InputError(f"{key}.{number}", value, "no such number of a group", did_you_mean(number, GROUP_KEYS))
    _parse_patterns(f"{key}.match", fixed["match"])
    lr, weight_decay = fixed.get("lr", 1.0), fixed.get("weight_decay", 0.0)
    if not _is_number(lr) or lr <= 0:
        problem = "no factor that an LR could have"
        raise InputError(f"{key}.lr", lr, problem, "Write one, such as 10; model.freeze leaves them untrained")
    if not _is_number(weight_decay) or weight_decay < 0:
        raise InputError(f"{key}.weight_decay", weight_decay, "no weight decay", "Write one, such as 0.01")
    return cast(GroupSpec, fixed)  # each of its keys was checked


def _parse_patterns(key: str, patterns: object) -> Patterns:
    """Return patterns as they were written."""
    if not pattern_list(patterns):
        remedy = "Write names of modules or parameters (blocks.0, *.weight) or kinds (norm, bias, embedding)"
        raise InputError(key, patterns, "no names of parameters", remedy)
    return cast(Patterns, patterns)  # a string, or a list or tuple of strings


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
