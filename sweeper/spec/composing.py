"""The configuration of a sweep that is begun in Python: conf/ with changes, as plain data, without Hydra.

conf/ is the one place where defaults and spaces are written; this reads the same files in the same way, for the groups
that a call may choose from. A change is written alike for all of them: a name (`optimizer="adamw"`), a name with
numbers changed (`optimizer={"adamw": {"weight_decay": 0.1}}`), numbers of the default choice
(`optimizer={"momentum": 0.8}`), or a whole node with a `_target_`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sweeper import conf
from sweeper.schedules import space
from sweeper.spec import overrides
from sweeper.types import Choice, Family, InputError, Range, did_you_mean

Plain = dict[str, Any]
Asked = str | Family | Callable[..., Any]
Families = Asked | Sequence[Asked] | Mapping[str, Any]

OPEN = ("optimizer", "pruner", "trainer")  # their other keys are arguments of a constructor, which checks them
HYDRAS = ("defaults", "hydra")  # keys of config.yaml
OBJECTS = ("data", "model", "task")  # given to a call as one object
OF_COMMANDS = ("experiment",)  # the group whose files change other keys, and which is none itself


def composed(families: Families, changes: Mapping[str, Any]) -> Plain:
    """Every key of conf/config.yaml but data, model and task, with the changes; the families under `schedule`.

    changes: by key or group; a key inside of one, as in {"train": {"steps": 100}}; None changes nothing. Raises
    InputError.
    """
    top, chosen = _top(), defaults()
    for key, change in changes.items():
        if change is not None and key not in top and key not in chosen:
            raise overrides.unknown_key(key, [*top, *chosen])
    config = {key: _changed(key, value, changes.get(key)) for key, value in top.items() if key not in chosen}
    for group in chosen:
        config[group] = _choice(group, chosen[group], changes.get(group), top.get(group, {}))
    return {**config, "schedule": {name: _resolved(node, config) for name, node in _families(families).items()}}


def choice_name(group: str, change: Any) -> str:
    """What a choice is called in a sweep's name: its file, or its class."""
    if change is None:
        return defaults()[group]
    if isinstance(change, str):
        return change
    name = named(group, change)
    if name is not None:
        return name
    return path_of("", change["_target_"]).rpartition(".")[2].lower() if "_target_" in change else defaults()[group]


# --- files ------------------------------------------------------------------------------------------


@cache
def folder() -> Path:
    """conf/, wherever it is installed."""
    return Path(conf.__path__[0])


def _read(path: Path) -> Plain:
    import yaml

    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def groups() -> list[str]:
    """Return the config groups: the folders of conf/."""
    return sorted(path.name for path in folder().iterdir() if any(path.glob("*.yaml")))


def keys() -> list[str]:
    """Return the top-level keys that a configuration may have, those of the groups after those of config.yaml."""
    own = [key for key in _read(folder() / "config.yaml") if key not in HYDRAS]
    return list(dict.fromkeys([*own, *(group for group in groups() if group not in OF_COMMANDS)]))


def defaults() -> dict[str, str]:
    """Return the groups that a call may choose from, with the default choice of each."""
    read = _read(folder() / "config.yaml")["defaults"]
    chosen = {group: choice for entry in read if isinstance(entry, dict) for group, choice in entry.items()}
    others = ("schedule", *OBJECTS, *OF_COMMANDS)
    return {group: str(choice) for group, choice in chosen.items() if group in groups() and group not in others}


def _top() -> Plain:
    """The keys of config.yaml itself, but those of Hydra and of the objects."""
    return {key: value for key, value in _read(folder() / "config.yaml").items() if key not in (*HYDRAS, *OBJECTS)}


def _file(group: str, name: str) -> Plain:
    path = folder() / group / f"{name}.yaml"
    if not re.fullmatch(r"[\w.-]+", name) or not path.exists():
        options = sorted(path.stem for path in (folder() / group).glob("*.yaml"))
        options += ["all"] if group == "schedule" else []
        raise InputError(group, name, "no such choice", did_you_mean(name, options))
    return _read(path)


# --- keys and groups --------------------------------------------------------------------------------


def _changed(key: str, default: Any, change: Any) -> Any:
    """The default, or what takes its place; of a mapping of keys, those that are given."""
    if change is None:
        return default
    if not isinstance(default, Mapping) or not default or _is_searched(default):
        return plain(key, change)
    if not isinstance(change, Mapping):
        raise InputError(key, change, "not a mapping of keys", f"Write {{key: value}}, of {', '.join(default)}")
    for inner in change:
        if inner not in default:
            raise overrides.unknown_key(f"{key}.{inner}", list(default))
    return {inner: plain(f"{key}.{inner}", change.get(inner, value)) for inner, value in default.items()}


def _is_searched(value: object) -> bool:
    return isinstance(value, Mapping) and bool({"low", "high", "choice"} & value.keys())


def _choice(group: str, default: str, change: Any, beside: Plain) -> Plain:
    """A group's node. beside: keys that config.yaml itself has under the group's name (`search`)."""
    if isinstance(change, str):
        return {**_file(group, change), **beside}
    if change is not None and not isinstance(change, Mapping):
        raise InputError(group, change, "neither a name nor a mapping", f"Write a name, such as {group}={default!r}")
    if change and "_target_" in change:
        return {str(key): plain(f"{group}.{key}", value) for key, value in change.items()}
    given: Mapping[str, Any] = change or {}
    name = named(group, given)
    node = {**_file(group, name or default), **beside}
    changes = dict((given if name is None else given[name]) or {})
    if group in OPEN:
        return {**node, **{str(key): plain(f"{group}.{key}", value) for key, value in changes.items()}}
    replaced = {key: changes.pop(key) for key in ("sampler",) if group == "search" and key in changes}
    return {**_changed(group, node, changes), **{key: plain(f"{group}.{key}", v) for key, v in replaced.items()}}


def named(group: str, change: Mapping[str, Any]) -> str | None:
    """The file that {name: {number: value}} names; None for a mapping of the group's own keys."""
    if len(change) != 1:
        return None
    ((name, inner),) = change.items()
    is_name = inner is None or (isinstance(inner, Mapping) and not _is_searched(inner))
    return str(name) if is_name and (folder() / group / f"{name}.yaml").exists() else None


def plain(key: str, value: Any) -> Any:
    """As YAML has it: classes and functions by their path, tuples as lists, NumPy's numbers as Python's."""
    if isinstance(value, Range | Choice):
        value = {word: given for word, given in space.plain(value).items() if given is not None}
    if isinstance(value, Mapping):
        return {str(inner): plain(f"{key}.{inner}", one) for inner, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(key, one) for one in value]
    if callable(value):
        return path_of(key, value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def path_of(key: str, thing: Any) -> str:
    """package.module.name of a function or class, by which the sweep finds it again."""
    if isinstance(thing, str):
        return thing
    name = str(getattr(thing, "__qualname__", ""))
    if not name or "<" in name:
        raise InputError(
            key,
            name or repr(thing),
            "cannot be found again by its name",
            "Define it at the top of a module or notebook",
        )
    return f"{thing.__module__}.{name}"


# --- families ---------------------------------------------------------------------------------------


def _families(asked: Families) -> Plain:
    """The nodes of the families, by name, their interpolations as they are written."""
    if isinstance(asked, Mapping):
        nodes = [_node(str(name), change) for name, change in asked.items()]
    else:
        several = asked if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
        nodes = [node for one in several for node in _asked(one)]
    return dict(nodes)


def _asked(one: object) -> list[tuple[str, Plain]]:
    if isinstance(one, str):
        return [(name, _file("schedule", name)[name]) for name in _expanded(one)]
    if isinstance(one, Family):
        return [_node(one.name, one)]
    if callable(one):
        return [_node(str(getattr(one, "__name__", one)), one)]
    told = "neither a name, nor a Family, nor a factor"
    raise InputError("schedule", one, told, 'Write names, ["cosine", "wsd"], or {"cosine": {"decay": 0.1}}')


def _expanded(name: str) -> list[str]:
    """The families that a name stands for: `all`, a list such as `core`, or one family."""
    if name == "all":
        return overrides.families([folder()])
    read = _file("schedule", name)
    return list(read["defaults"]) if "defaults" in read else [name]


def _node(name: str, change: object) -> tuple[str, Plain]:
    """One family: numbers changed of the file of that name, or one of the person's own."""
    if isinstance(change, Family):
        return name, _of_family(change)
    if callable(change):
        change = {"factor": change}
    if change is not None and not isinstance(change, Mapping):
        raise InputError(
            f"schedule.{name}", change, "not a mapping of numbers", f'Write {{"{name}": {{"decay": 0.1}}}}'
        )
    key, changes = f"schedule.{name}", dict(change or {})
    given = {str(number): plain(f"{key}.{number}", value) for number, value in changes.items()}
    if "factor" not in changes or (folder() / "schedule" / f"{name}.yaml").exists():
        return name, {**_one_family(name), **given}
    return name, {**_common(changes["factor"]), **given}


def _one_family(name: str) -> Plain:
    read = _file("schedule", name)
    if name not in read:
        raise InputError("schedule", name, "a list of families, which has no numbers of its own", "Name one family")
    return dict(read[name])


def _common(factor: object) -> Plain:
    """What an own family has in common with the others: the range of peak LRs, and the warmup, if it has none."""
    own_warmup = callable(factor) and "warmup" in inspect.signature(factor).parameters
    return {"peak_lr": "${optimizer.peak_lr}", **({} if own_warmup else {"warmup": "${warmup}"})}


def _of_family(family: Family) -> Plain:
    key = f"schedule.{family.name}"
    node: Plain = {"factor": path_of(f"{key}.factor", family.factor)}
    if family.controller is not None:
        node["controller"] = family.controller
    if family.momentum is not None:
        node["momentum"] = path_of(f"{key}.momentum", family.momentum)
    return {**node, **{name: plain(f"{key}.{name}", value) for name, value in family.space.items()}}


def _resolved(node: Any, config: Plain) -> Any:
    """`${optimizer.peak_lr}` is what stands there in the configuration."""
    if isinstance(node, Mapping):
        return {key: _resolved(value, config) for key, value in node.items()}
    found = re.fullmatch(r"\$\{([\w.]+)\}", node) if isinstance(node, str) else None
    return _at(found[1].split("."), config) if found else node


def _at(path: Iterable[str], config: Plain) -> Any:
    value: Any = config
    for word in path:
        if not isinstance(value, Mapping) or word not in value:
            remedy = "Write its range, such as {low: 1e-3, high: 1, log: true}, or a value"
            raise InputError(".".join(path), None, "missing, and a chosen family needs it", remedy)
        value = value[word]
    return value
