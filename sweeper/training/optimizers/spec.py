"""The configuration of an optimizer: parses its node into a checked, typed spec, and writes it back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict, TypeGuard, cast

from sweeper.importing import parse_path
from sweeper.types import InputError, Value, did_you_mean

KEYS = (
    "groups",
    "no_decay",
    "layer_decay",
    "wd_mode",
)  # keys of an optimizer's node that are not arguments of its constructor
GROUP_KEYS = ("match", "lr", "weight_decay")
MODES = ("lr", "relative", "independent")
DEFAULT_MODE = "lr"

Options = Mapping[str, Value]  # arguments of a constructor, by name
Written = Value | list[Any]  # an option in the configuration, which has a list where the constructor takes a tuple
Patterns = str | Sequence[str]  # names of modules or parameters, globs, kinds (groups.matches)


class GroupSpec(TypedDict, total=False):
    """A parameter group.

    It is a dict, because the digests of stored checkpoints have its keys in the order in which the user wrote them.

    Attributes:
        match: Its parameters.
        lr: Factor of their LR.
        weight_decay: Their weight decay.
    """

    match: Required[Patterns]
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer and its parameter groups, without searched hyperparameters. `parse_optimizer` returns it.

    Attributes:
        target: Import path of its class.
        options: Arguments of the constructor as they were written, without `lr`, which the schedule sets.
        groups: Parameter groups by name; None for a group that is turned off.
        no_decay: Parameters without weight decay.
        layer_decay: Factor of the LR from each layer to the one below it; None if all layers have the same LR.
        wd_mode: One of MODES (groups.WeightDecay).
    """

    target: str
    options: Mapping[str, Written] = field(default_factory=dict)
    groups: Mapping[str, GroupSpec | None] = field(default_factory=dict)
    no_decay: Patterns = ()
    layer_decay: float | None = None
    wd_mode: str = DEFAULT_MODE

    @property
    def arguments(self) -> dict[str, Value]:
        """The options as the constructor takes them: lists become tuples, as torch documents for betas."""
        return {name: tuple(value) if isinstance(value, list) else value for name, value in self.options.items()}

    def node(self) -> dict[str, Any]:
        """Return the node as the digests of stored checkpoints have it."""
        groups = {name: {**group} for name, group in self.groups.items() if group is not None}
        return {
            "_target_": self.target,
            **self.options,
            **({"groups": groups} if self.groups else {}),
            **({"no_decay": self.no_decay} if self.no_decay else {}),
            **({} if self.layer_decay is None else {"layer_decay": self.layer_decay}),
            **({} if self.wd_mode == DEFAULT_MODE else {"wd_mode": self.wd_mode}),
        }

    def with_options(self, options: Options) -> OptimizerSpec:
        """Return a copy with these options.

        Args:
            options: Values by path in the node: "weight_decay", "groups.head.lr".

        Raises:
            InputError: If a value is of the wrong form.
        """
        node = self.node()
        for path, value in options.items():
            if path.startswith("groups."):
                _, name, key = path.split(".", 2)
                node.setdefault("groups", {}).setdefault(name, {})[key] = value
            else:
                node[path] = value
        return parse_optimizer(node)


def parse_optimizer(node: Mapping[str, object]) -> OptimizerSpec:
    """Return the spec of an optimizer's node, without its searched hyperparameters.

    It checks the form only. optim.check_optimizer checks that the optimizer exists and has these options.

    Args:
        node: {"_target_": import path, option: value, ...}. It may have KEYS.

    Raises:
        InputError: If the import path is missing or invalid, if an option is not a plain value, or if KEYS have values
            of the wrong form.
    """
    fixed = {str(key): value for key, value in node.items() if key == "groups" or not isinstance(value, Mapping)}
    target = parse_path("optimizer._target_", fixed.pop("_target_", None), "torch.optim.SGD")
    grouping = {key: value for key in KEYS if not _is_idle(key, value := fixed.pop(key, None))}
    return OptimizerSpec(
        target,
        {name: _parse_option(name, value) for name, value in fixed.items()},
        wd_mode=_parse_mode(grouping.get("wd_mode", DEFAULT_MODE)),
        layer_decay=_parse_layer_decay(grouping["layer_decay"]) if "layer_decay" in grouping else None,
        no_decay=_parse_patterns("optimizer.no_decay", grouping["no_decay"]) if "no_decay" in grouping else (),
        groups=_parse_groups(grouping.get("groups", {})),
    )


def searched_options(node: Mapping[str, object]) -> dict[str, Mapping[str, Any]]:
    """Return the searched options of an optimizer's node by path: "weight_decay", "groups.head.lr"."""
    return {path: value for path, value in _leaves(node) if isinstance(value, Mapping)}


def without_idle_keys(node: Mapping[str, object]) -> dict[str, object]:
    """Return the node without those of KEYS that have no effect."""
    return {key: value for key, value in node.items() if not _is_idle(key, value)}


def _is_idle(key: str, value: object) -> bool:
    """Whether one of KEYS has no effect. Another empty value, such as 0 or false, is a mistake."""
    return key in KEYS and (value is None or value in ((), [], {}) or (key == "wd_mode" and value == DEFAULT_MODE))


def number_of(options: Options, name: str) -> float:
    """Return the value of a numeric option."""
    return float(options[name])  # type: ignore[arg-type] # the optimizer itself has refused anything else


def pattern_list(patterns: object) -> list[str]:
    """Return one pattern or several as a list. The list is empty if any is not a pattern."""
    items = [patterns] if isinstance(patterns, str) else list(patterns) if isinstance(patterns, list | tuple) else []
    return items if all(isinstance(pattern, str) and pattern for pattern in items) else []


def _leaves(node: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield every option with its path, including the options of groups."""
    for key, value in node.items():
        if key != "groups":
            yield key, value
        elif isinstance(value, Mapping):
            for name, group in value.items():
                for option, setting in group.items() if isinstance(group, Mapping) else ():
                    yield f"groups.{name}.{option}", setting


def _parse_option(name: str, value: object) -> Written:
    if value is None or isinstance(value, int | float | str | tuple | list):
        return value
    problem = f"a {type(value).__name__} is not a plain value"
    raise InputError(f"optimizer.{name}", value, problem, "Use a number, a word, true, false, null or a list")


def _parse_mode(mode: object) -> str:
    if not isinstance(mode, str) or mode not in MODES:
        raise InputError("optimizer.wd_mode", mode, "no such mode", did_you_mean(mode, MODES))
    return mode


def _parse_layer_decay(layer_decay: object) -> float:
    if not _is_number(layer_decay) or layer_decay <= 0:
        raise InputError(
            "optimizer.layer_decay", layer_decay, "must be a positive number", "Use for example 0.75, or null"
        )
    return layer_decay


def _parse_groups(groups: object) -> dict[str, GroupSpec | None]:
    if not isinstance(groups, Mapping):
        raise InputError(
            "optimizer.groups", groups, "must be groups by name", "Use for example {head: {match: last, lr: 10}}"
        )
    return {str(name): None if group is None else _parse_group(str(name), group) for name, group in groups.items()}


def _parse_group(name: str, group: object) -> GroupSpec:
    key = f"optimizer.groups.{name}"
    if not re.fullmatch(r"[A-Za-z]\w*", name) or re.fullmatch(r"(group|layer)\d+", name):
        raise InputError(key, None, "not a valid name of a group", "Use letters, digits and _, such as head")
    fixed: dict[str, object] = {}
    if isinstance(group, Mapping):
        fixed = {option: value for option, value in group.items() if not isinstance(value, Mapping)}
    if "match" not in fixed:
        raise InputError(key, group, "has no `match`", "Use for example {match: last, lr: 10}")
    for option, value in fixed.items():
        if option not in GROUP_KEYS:
            raise InputError(f"{key}.{option}", value, "no such option of a group", did_you_mean(option, GROUP_KEYS))
    _parse_patterns(f"{key}.match", fixed["match"])
    lr, weight_decay = fixed.get("lr", 1.0), fixed.get("weight_decay", 0.0)
    if not _is_number(lr) or lr <= 0:
        remedy = "Use for example 10, or model.freeze to not train these parameters"
        raise InputError(f"{key}.lr", lr, "must be a positive number", remedy)
    if not _is_number(weight_decay) or weight_decay < 0:
        raise InputError(f"{key}.weight_decay", weight_decay, "must be a number of at least 0", "Use for example 0.01")
    return cast(GroupSpec, fixed)  # each of its keys was checked


def _parse_patterns(key: str, patterns: object) -> Patterns:
    """Return patterns as they were written."""
    if not pattern_list(patterns):
        remedy = "Use names of modules or parameters (blocks.0, *.weight) or kinds (norm, bias, embedding)"
        raise InputError(key, patterns, "must be one name or a list of names", remedy)
    return cast(Patterns, patterns)  # a string, or a list or tuple of strings


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
