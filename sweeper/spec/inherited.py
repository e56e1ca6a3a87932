"""The configuration of a new sweep that begins with that of an earlier one, and replaces what is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sweeper.spec.composing import Composed
from sweeper.spec.overrides import HORIZON
from sweeper.types import InputError

Nodes = Mapping[str, object]

SECTIONS = (
    *("data", "model", "task", "optimizer", "train", "objective", "search", "pruner"),
    *("schedule", "schedule_unit", "warmup"),
)
SHARED = {"peak_lr": "optimizer.peak_lr", "warmup": "warmup"}  # of every family, and where it is set for all
MISSING = object()


def typed_keys(words: Iterable[str]) -> list[str]:
    """Return the keys of overrides as they were typed: "data" of `data=digits`, "train.steps" of `++train.steps=9`."""
    return [re.sub(r"^[+~]+", "", word).partition("=")[0].partition("@")[0] for word in words]


def inherit(earlier: Nodes, composed: Composed, typed: Iterable[str]) -> Composed:
    """Return the configuration of an earlier sweep with what is asked for.

    A choice (`optimizer=adamw`) replaces its section, and a key (`train.steps=500`) that key. What families share, the
    range of the peak LR and the warmup, follows the optimizer or the key. Everything that is no question, such as
    `device` and `tracking`, is as composed.

    Args:
        earlier: The sections of the earlier sweep.
        composed: What the new command composes on the defaults.
        typed: The keys that it sets.

    Raises:
        InputError: If it chooses an experiment, which would set what the earlier sweep sets.
    """
    keys = list(typed)
    if "experiment" in keys:
        problem = "it would replace what the earlier sweep sets"
        raise InputError("experiment", None, problem, "Write the keys that change")
    keys += HORIZON if set(keys) & set(HORIZON) else ()
    nodes = {**composed.nodes, **{key: earlier[key] for key in SECTIONS if key in earlier}}
    chosen = {key for key in keys if "." not in key}
    for key in sorted(keys, key=lambda key: key.count(".")):  # a whole section first
        section = key.partition(".")[0]
        if section in SECTIONS and (key == section or section not in chosen):
            nodes = with_value(nodes, key, _at(composed.nodes, key))
    if "schedule" not in chosen:
        families = nodes["schedule"].items()
        nodes["schedule"] = {name: _with_shared(node, composed.nodes, name, keys) for name, node in families}
    choices = {group: name for group, name in composed.choices.items() if group not in earlier or group in chosen}
    return Composed(nodes, choices)


def with_value(nodes: Nodes, path: str, value: object) -> dict[str, Any]:
    """Return nodes with another value at a path; without the path if the value is MISSING."""
    key, _, rest = path.partition(".")
    if rest:
        inner = nodes.get(key)
        return {**nodes, key: with_value(inner if isinstance(inner, Mapping) else {}, rest, value)}
    without = {name: one for name, one in nodes.items() if name != key}
    return without if value is MISSING else {**nodes, key: value}


def _with_shared(family: Nodes, composed: Nodes, name: str, keys: Iterable[str]) -> Nodes:
    """Return a family with what families share as composed, as far as a key sets that."""
    for inner, shared in SHARED.items():
        asked = _at(composed, f"schedule.{name}.{inner}")
        if inner not in family or asked is MISSING:
            continue
        follows = asked == _at(composed, shared)  # default_lr has its own peak LR
        for key in keys:
            if key == shared.partition(".")[0]:  # another optimizer, or another warmup
                family = with_value(family, inner, asked)
            elif follows and (key == shared or key.startswith(f"{shared}.")):
                family = with_value(family, inner + key.removeprefix(shared), _at(composed, key))
    return family


def _at(nodes: object, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(nodes, Mapping) or key not in nodes:
            return MISSING
        nodes = nodes[key]
    return nodes
