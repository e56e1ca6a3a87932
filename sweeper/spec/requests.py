"""What a call in Python asks for, as choices of config files and values that change what they say.

A group is chosen and changed alike, whatever the group: by a name (`optimizer="adamw"`), a name with values
(`optimizer={"adamw": {"weight_decay": 0.1}}`), values of the default choice (`optimizer={"momentum": 0.8}`), or a
mapping with a `_target_`, which replaces the default's options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.schedules import space
from sweeper.spec import config_files
from sweeper.spec.overrides import CONSTRUCTED, HORIZON, MERGED, quoted, unknown_key
from sweeper.spec.question import check_name
from sweeper.spec.sweep import Node
from sweeper.types import Choice, Family, InputError, Range

FamilyRequest = str | Family | Callable[..., Any]
Families = FamilyRequest | Sequence[FamilyRequest] | Mapping[str, Any]
Change = tuple[tuple[str, ...], Any]  # a path in the configuration, and the value that replaces the one there


@dataclass(frozen=True)
class Request:
    """What Hydra composes, and what is set before interpolations are resolved.

    Attributes:
        words: Overrides in Hydra's grammar that choose files.
        changes: In order.
    """

    words: tuple[str, ...] = ("schedule=[]",)
    changes: tuple[Change, ...] = ()

    def keys(self, *, with_families: bool = True) -> list[str]:
        """Return the keys that are chosen or changed; without `schedule` if the families are not the caller's."""
        chosen = [word.lstrip("~+").partition("=")[0] for word in self.words]
        keys = [*chosen, *(".".join(path) for path, _ in self.changes)]
        return [key for key in keys if with_families or key != "schedule"]


def request(
    families: Families,
    changes: Mapping[str, Any],
    *,
    values: Mapping[tuple[str, str], Any] | None = None,
    experiment: str | None = None,
    config_dir: str | Path | None = None,
) -> Request:
    """Return what a call of `sweeper.sweep` asks for.

    Args:
        families: As `sweeper.sweep` takes them.
        changes: By key or group of conf/config.yaml; None changes nothing.
        values: More of them, by group and key; None changes nothing.
        experiment: A file of experiment/.
        config_dir: A folder with the user's own schedule/, optimizer/, experiment/ ... files.

    Raises:
        InputError: for a choice that does not exist, or a change that is none.
    """
    folders = [] if config_dir is None else [config_files.user_folder("config_dir", Path(config_dir).expanduser())]
    names, nodes = _families(families, folders)
    words = [f"hydra.searchpath=[{quoted(str(one))}]" for one in folders]
    words.append(f"schedule=[{','.join(names)}]")
    if experiment is not None:
        words.append(f"experiment={config_files.find('experiment', experiment, folders).stem}")
    found: list[Change] = []
    known = config_files.keys()
    for key, change in changes.items():
        if key not in known:
            raise unknown_key(key, known)
        if change is not None and key in config_files.groups():
            word, change = _choice(key, change, folders)
            words += [] if word is None else [word]
        if change is not None:
            found += _flat((key,), change)
    found += [(path, value) for path, value in (values or {}).items() if value is not None]
    found += [change for name, node in nodes.items() for change in _flat(("schedule", name), node)]
    return Request(tuple(words), tuple(_with_one_horizon(found)))


def plain(key: str, value: Any) -> Any:
    """Return a value as YAML has it: functions by their path, tuples as lists, NumPy's numbers as Python's."""
    if isinstance(value, Range | Choice):
        value = {word: given for word, given in space.to_plain(value).items() if given is not None}
    if isinstance(value, Mapping):
        return {str(inner): plain(f"{key}.{inner}", one) for inner, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(key, one) for one in value]
    if callable(value):
        return path_of(key, value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def path_of(key: str, thing: Any) -> str:
    """Return package.module.name of a function or class, by which the sweep finds it again."""
    if isinstance(thing, str):
        return thing
    name = str(getattr(thing, "__qualname__", ""))
    if not name or "<" in name:
        remedy = "Define it at the top of a module or notebook"
        raise InputError(key, name or repr(thing), "cannot be found again by its name", remedy)
    return f"{thing.__module__}.{name}"


# --- keys and groups --------------------------------------------------------------------------------


def _choice(group: str, change: Any, folders: Sequence[Path]) -> tuple[str | None, Any]:
    """Return the override that chooses a group's file, None for the default, and what is changed there."""
    if isinstance(change, str):
        return f"{group}={config_files.find(group, change, folders).stem}", {}
    if not isinstance(change, Mapping):
        raise InputError(group, change, "neither a name nor a mapping", f"Write a name: {config_files.choices(group)}")
    if len(change) == 1:
        ((name, inner),) = change.items()
        is_node = inner is None or (isinstance(inner, Mapping) and not _is_searched(inner))
        if is_node and str(name) in config_files.choices(group, folders):
            return f"{group}={name}", inner or {}
    return (f"~{group}" if "_target_" in change else None), change


def _flat(path: tuple[str, ...], change: Any) -> Iterator[Change]:
    """Yield each value that a change sets."""
    if isinstance(change, Mapping) and _changes_keys(path, change):
        for key, value in change.items():
            yield from _flat((*path, str(key)), value)
    else:
        yield path, plain(".".join(path), change)


def _changes_keys(path: tuple[str, ...], change: Mapping[str, Any]) -> bool:
    """Whether a mapping changes keys of what stands there; otherwise it replaces it whole."""
    if _is_searched(change):
        return False
    if ".".join(path) in CONSTRUCTED and len(path) > 1:
        return "_target_" not in change
    has_keys = path[0] in (*CONSTRUCTED, *MERGED, "schedule")
    return has_keys and (len(path) == 1 or (len(path) == 2 and path[0] == "schedule"))


def _with_one_horizon(changes: Sequence[Change]) -> Iterator[Change]:
    """Yield the changes, after `train.steps: null` where they set the epochs alone, and the reverse."""
    mentioned = {path: value for path, value in changes if ".".join(path) in HORIZON}
    if len(mentioned) == 1 and None not in mentioned.values():
        yield from ((tuple(key.split(".")), None) for key in HORIZON if tuple(key.split(".")) not in mentioned)
    yield from changes


def _is_searched(value: object) -> bool:
    return isinstance(value, Mapping) and bool({"low", "high", "choice"} & value.keys())


# --- families ---------------------------------------------------------------------------------------


def _families(families: Families, folders: Sequence[Path]) -> tuple[list[str], dict[str, Node]]:
    """Return the families that are files, and what is set for each family by name."""
    if isinstance(families, Mapping):
        asked = [(str(name), change) for name, change in families.items()]
    else:
        several = families if isinstance(families, Sequence) and not isinstance(families, str) else [families]
        asked = [pair for one in several for pair in _named(one, folders)]
    names, nodes = [], {}
    for name, change in dict(asked).items():
        node = _node(name, change)
        is_file = name in config_files.choices("schedule", folders) and not isinstance(change, Family)
        if is_file or "factor" not in node:
            if not config_files.is_family(config_files.find("schedule", name, folders)):
                problem = "a list of families, which has no hyperparameters of its own"
                raise InputError("schedule", name, problem, "Name one family")
            names.append(name)
        elif not isinstance(change, Family):
            node = {**_common(node["factor"]), **node}
        nodes[name] = node
    return names, nodes


def _named(one: object, folders: Sequence[Path]) -> list[tuple[str, object]]:
    """Return the families that one entry of a list stands for: a file, a list such as core, `all`, an object."""
    if one == "all":
        return [(name, None) for name in config_files.families([config_files.folder(), *folders])]
    if isinstance(one, str):
        path = config_files.find("schedule", one, folders)
        return [(one, None)] if config_files.is_family(path) else [(name, None) for name in _listed(path)]
    if isinstance(one, Family):
        return [(one.name, one)]
    if callable(one):
        return [(str(getattr(one, "__name__", one)), one)]
    problem = "neither a name, nor a Family, nor a factor"
    raise InputError("schedule", one, problem, 'Write names, ["cosine", "wsd"], or {"cosine": {"decay": 0.1}}')


def _listed(path: Path) -> list[str]:
    return [str(name) for name in config_files.read(path).get("defaults", [])]


def _node(name: str, change: object) -> Node:
    """Return what is set for one family, as it would be written in its file."""
    key = f"schedule.{check_name('schedule', name)}"
    if isinstance(change, Family):
        momentum = {} if change.momentum is None else {"momentum": change.momentum}
        controller = {} if change.controller is None else {"controller": change.controller}
        return {"factor": change.factor, **controller, **momentum, **change.space}
    if callable(change):
        return {"factor": change}
    if change is not None and not isinstance(change, Mapping):
        raise InputError(key, change, "not a mapping of hyperparameters", f'Write {{"{name}": {{"decay": 0.1}}}}')
    return {str(inner): value for inner, value in (change or {}).items()}


def _common(factor: object) -> Node:
    """Return what a user's own family shares with the others: the peak LRs, and the warmup if it has none."""
    own_warmup = callable(factor) and "warmup" in inspect.signature(factor).parameters
    return {"peak_lr": "${optimizer.peak_lr}", **({} if own_warmup else {"warmup": "${warmup}"})}
