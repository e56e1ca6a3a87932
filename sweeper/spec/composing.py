"""Compose a configuration through Hydra, for the command line and for Python, and build what its nodes name.

Beside the command line (`__main__`, which `hydra.main` calls with a configuration), the only file that imports Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.importing import import_object
from sweeper.options import check_options, has_option
from sweeper.spec import config_files, keys, overrides
from sweeper.spec.causes import input_error
from sweeper.spec.question import as_name
from sweeper.spec.requests import Request
from sweeper.spec.sweep import Node, Subject
from sweeper.types import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

INIT = "init"  # key of a model's node that its constructor does not get; null is as if it were not there
SEARCHED = {"low", "high", "choice"}  # keys of a searched value, which has no keys of ours inside


@dataclass(frozen=True)
class Composed:
    """A composed configuration.

    Attributes:
        nodes: The keys of config.yaml and of the groups as plain data, every interpolation resolved.
        choices: The file chosen for each group, as far as one is.
    """

    nodes: Node
    choices: Mapping[str, str]

    def choice(self, group: str) -> str:
        """Return what a group's choice is called in a sweep's name: its file, or the class of its `_target_`."""
        target = str(self.nodes[group].get("_target_", ""))
        return self.choices.get(group) or target.rpartition(".")[2].lower()

    @property
    def label(self) -> str:
        return as_name("-".join(self.choice(group) for group in ("data", "model", "optimizer")))


def compose(request: Request) -> Composed:
    """Compose what a call in Python asks for. Hydra's global state stays as it was.

    Raises:
        InputError: for a choice or key that does not exist.
    """
    from hydra import compose
    from hydra.errors import HydraException

    with _own_hydra():
        try:
            config = compose("config", overrides=list(request.words), return_hydra_config=True)
        except HydraException as error:
            raise explain(error) from error
    choices = config.hydra.runtime.choices
    _apply(config, request.changes)
    return finish(config, choices)


def finish(config: DictConfig, choices: Mapping[str, str | None], typed: Sequence[str] = ()) -> Composed:
    """Resolve a configuration that Hydra composed, and check its top-level keys and families.

    Args:
        config: With or without Hydra's own node.
        choices: The file chosen for each group.
        typed: The overrides of the command line. What they set for a family that is not chosen is an error; what a
            file sets for one is ignored, with a line on stderr.

    Raises:
        InputError: for an unknown key, one that has no value, or a value of another type.
    """
    nodes = _resolve(config)
    known = config_files.keys()
    for key in nodes:
        if key not in known:
            raise overrides.unknown_key(key, known, [path for path in paths_of(nodes) if path != key])
    nodes = keys.check(nodes)
    for key in (*known, *config_files.section_keys(), "search.sampler"):
        if not _has(nodes, key) and key != "schedule":  # `schedule=[]` leaves no node
            raise InputError(key, None, "missing", f"Leave out ~{key.removesuffix('.sampler')}")
    schedules = overrides.chosen_families(nodes.get("schedule") or {}, typed)
    return Composed({**nodes, "schedule": schedules}, {group: name for group, name in choices.items() if name})


def build_subject(nodes: Node, label: str = "") -> Subject:
    """Build what the nodes of data, model and task name. label: "<data>-<model>-<optimizer>", for the sweep's name.

    Raises:
        InputError: if a constructor refuses its arguments.
    """
    from hydra.utils import instantiate

    from sweeper.training.finetuned import KEYS, finetuned_task

    node, init = _without_init(nodes["model"])
    own = {key: value for key, value in node.items() if key not in KEYS}
    numbers = {f"model.{key}": value for key, value in own.items() if isinstance(value, Mapping)}
    fixed = {key: value for key, value in own.items() if f"model.{key}" not in numbers}
    data = _build("data", instantiate, nodes["data"])
    model = _initialized(_build("model", instantiate, {**fixed, "_partial_": True}), init)
    task = finetuned_task(_build("task", instantiate, nodes["task"], data=data, model=model), node)
    described = {
        "data": _identity(nodes["data"]),
        "model": node if init is None else {**node, INIT: init},
        "task": _without_nulls(nodes["task"]),
    }
    return Subject(task, label, described, numbers)


def explain(error: Exception, folders: Sequence[Path] = ()) -> InputError:
    """Return a HydraException in our words: the key, and the way out. folders: the user's own config folders."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key and "not in struct" in str(cause):
        parent: Any = cause.parent_node
        siblings = [str(key) for key in parent] if isinstance(parent, Mapping) else []
        root: Any = OmegaConf.to_container(cause.parent_node._get_root()) if isinstance(parent, Mapping) else {}
        paths = paths_of(root)
        return overrides.unknown_key(cause.full_key, siblings, paths)
    several = re.match(r"Ambiguous value for argument '([^=]+)=(.*?)'\s", str(error))
    if several is not None:
        key, value = several.groups()
        return InputError(key, value, "several values", f"Train a sweep for each: -m {key}={value}")
    cause_text = f" ({cause})" if cause is not None else ""
    text = " ".join(f"{error}{cause_text}".split()).rstrip(".")
    return overrides.unknown_choice(str(error), folders) or InputError(
        "configuration", None, text, "See python -m sweeper --help"
    )


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Let Hydra compose from conf/. The caller may be a Hydra application itself: its singletons are put back."""
    from hydra import initialize_config_module, version
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.utils import JobRuntime

    theirs, base, job = GlobalHydra.instance().hydra, version.getbase(), JobRuntime.instance().get("name")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("sweeper.conf", job_name="sweeper", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = theirs
        version.VersionBase.instance().version_base = base
        JobRuntime.instance().set("name", job)


def _apply(config: DictConfig, changes: Sequence[tuple[tuple[str, ...], Any]]) -> None:
    """Set what a call changes, before interpolations are resolved. Each value replaces the one there."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.set_struct(config, False)
    for path, value in changes:
        node = config
        for key in path[:-1]:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
        try:
            node[path[-1]] = value
        except OmegaConfBaseException as error:
            remedy = "Write a number, a text, a list or a mapping"
            raise InputError(".".join(path), value, "not what a config file can hold", remedy) from error


def _resolve(config: DictConfig) -> dict[str, Any]:
    """Return it as plain data without Hydra's own node, every interpolation resolved."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

    with open_dict(config):
        config.pop("hydra", None)
    try:
        nodes = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except InterpolationKeyError as error:
        missing = re.search(r"Interpolation key '([^']+)'", str(error))
        key = missing[1] if missing else str(error.full_key)
        remedy = "Write its range, such as {low: 1e-3, high: 1, log: true}, or a value"
        raise InputError(key, None, f"missing, and {error.full_key} needs it", remedy) from error
    except OmegaConfBaseException as error:
        raise InputError(str(error.full_key), None, str(error).splitlines()[0], "Give it a value") from error
    assert isinstance(nodes, dict)
    return {str(key): value for key, value in nodes.items()}


def _has(nodes: Node, key: str) -> bool:
    """Whether a key such as `train` or `train.steps` is there."""
    section, _, inner = key.partition(".")
    return section in nodes and (not inner or inner in nodes[section])


def paths_of(node: Mapping[Any, Any]) -> list[str]:
    """Return the paths of all keys of a configuration but Hydra's, interpolations unresolved."""
    return [path for key, value in node.items() for path in (str(key), *_inside(str(key), value))]


def _inside(key: str, value: object) -> Iterator[str]:
    if isinstance(value, Mapping) and not SEARCHED & value.keys():
        yield from (f"{key}.{path}" for path in paths_of(value))


def _build(key: str, instantiate: Callable[..., Any], node: Node, **given: Any) -> Any:
    """Return what `_target_` of a node makes; what is wrong with it becomes an InputError with the cause."""
    _check_node(key, node)
    try:
        return instantiate(node, **given)
    except Exception as error:  # Hydra wraps whatever the constructor raises
        has_files = (config_files.folder() / key).is_dir()
        remedy = f"See conf/{key}/ for what there is" if has_files else f"Change the keys of {key}"
        raise input_error(key, error, remedy=remedy) from error


def _without_init(model: Mapping[str, object]) -> tuple[dict[str, Any], object]:
    """Return a model's node without our `init`, and its value. A constructor with an argument of that name keeps it."""
    node = dict(model)
    if INIT in node and not has_option(_constructor("model", node), INIT):
        return node, node.pop(INIT)
    return node, None


def _initialized(factory: Callable[..., Any], init: object) -> Callable[..., Any]:
    """Return a factory of models with the weights of `model.init`. Raises InputError."""
    from sweeper.tasks.initial import initialized

    try:
        return initialized(factory, init)
    except ValueError as error:
        raise input_error("model", error) from error


def _check_node(key: str, node: Mapping[str, object]) -> None:
    """Check what a node names, and its options, which may be such nodes, too.

    Raises:
        InputError: If there is no such class, it has no such option, or the option has another type.
    """
    constructor = _constructor(key, node)
    options = {name: value for name, value in node.items() if not name.startswith("_")}
    inner = {name: one for name, one in options.items() if isinstance(one, Mapping) and "_target_" in one}
    check_options(key, constructor, {name: value for name, value in options.items() if name not in inner})
    for name, one in inner.items():
        _check_node(f"{key}.{name}", one)


def _constructor(key: str, node: Mapping[str, object]) -> Callable[..., Any]:
    """Return the class or function that a node names. Raises InputError."""
    example = f"my_module.My{key.rpartition('.')[2].capitalize()}"
    constructor: object = import_object(f"{key}._target_", node.get("_target_"), example)
    if not callable(constructor):
        raise InputError(f"{key}._target_", node["_target_"], "cannot be called", "Name a class or a function")
    return constructor


def _identity(data: Node) -> dict[str, Any]:
    """Return the data as they identify a sweep, without what changes no number.

    That is how many processes gather what streams from the host, and where symbols of a text are kept.
    """
    stream = data.get("stream")
    node = {**data, "stream": bool(stream)} if isinstance(stream, int) else dict(data)
    return {key: value for key, value in node.items() if key != "cache"}


def _without_nulls(node: Node) -> dict[str, Any]:
    """Return it without the keys at null: a key that is new leaves the sweeps that exist as they were."""
    return {key: value for key, value in node.items() if value is not None}
