"""What a configuration names by a dotted path, such as `torch.optim.SGD`: import it, with its options beside it."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from sweeper.types import InputError, closest

DISTRIBUTIONS = {"pytorch_optimizer": "pytorch-optimizer", "curvlinops": "curvlinops-for-pytorch"}  # by module
REMOVED = {  # what to use in place of a module that sweeper no longer has
    "sweeper.training.optimizers.adahessian": "Use optimizer=adamw, or optimizer=soap for second-order steps",
    "sweeper.training.optimizers.asgd": "Use optimizer=sgd train.ema=0.99, or optimizer=schedule_free_sgd",
}
LISTED = 12  # names of a module in an error


@dataclass(frozen=True)
class Target:
    """What a node with `_target_` names.

    Attributes:
        path: An import path. `import_object` checks it.
        options: The arguments of the object at that path.
    """

    path: object
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def node(self) -> dict[str, Any]:
        """The node as a configuration holds it."""
        return {"_target_": self.path, **self.options}


def parse_target(node: Mapping[str, object]) -> Target:
    """Return what a node names. Its path and options are checked where it is built."""
    return Target(node.get("_target_"), {str(key): value for key, value in node.items() if key != "_target_"})


def import_object(key: str, path: object, example: str = "package.module.Name") -> Any:
    """Return the class, function or value at `path`.

    Args:
        key: The config key that holds the path; errors name it.
        path: A dotted path: the module's name, then the object's, which may be inside a class.
        example: A valid path, for the error about one that is not.

    Raises:
        InputError: `path` is not a dotted path, its module does not exist, the module raises an error of its own, or
            the module has no such name.
    """
    path = parse_path(key, path, example)
    name, _, attribute = path.rpartition(".")
    try:
        owner: object = import_module(name)
    except Exception as error:
        owner = _class_at(name) if isinstance(error, ModuleNotFoundError) and error.name == name else None
        if owner is None:
            raise _failed_import(key, path, name, error) from error
    try:
        return getattr(owner, attribute)
    except AttributeError as error:
        names = [each for each in dir(owner) if not each.startswith("_")]
        near = closest(attribute, names)
        known = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
        remedy = f"Did you mean {name}.{near}?" if near else f"Choose one of {known}"
        raise InputError(key, path, f"not found: {name} has no {attribute}", remedy) from error


def _class_at(path: str) -> type | None:
    """Return the class at a path that is no module, as in `package.module.Class.from_file`; None if there is none."""
    name, _, attribute = path.rpartition(".")
    found = getattr(sys.modules.get(name), attribute, None)
    return found if isinstance(found, type) else None


def _failed_import(key: str, path: str, name: str, error: Exception) -> InputError:
    """Return the error for a module that cannot be imported, with its cause."""
    missing = (error.name if isinstance(error, ModuleNotFoundError) else None) or ""
    distribution = DISTRIBUTIONS.get(missing.partition(".")[0])
    install = distribution and f"Install it: pip install {distribution}"
    if missing in REMOVED:
        return InputError(key, path, "no longer part of sweeper", REMOVED[missing])
    if missing and f"{name}.".startswith(f"{missing}."):
        near = _similar_module(missing)
        remedy = install or (f"Did you mean {near}?" if near else "Is it installed?")
        return InputError(key, path, f"not found: no module {missing}", remedy)
    first_line, *_ = f"{error}".splitlines() or [""]
    problem = f"its module raised {type(error).__name__} ({first_line})"
    return InputError(key, path, problem, install or f"Fix {name}, or install what it needs")


def _similar_module(missing: str) -> str | None:
    """Return a module with a similar name beside a missing one; None if there is none."""
    package, _, name = missing.rpartition(".")
    folders = getattr(sys.modules.get(package), "__path__", []) if package else None
    near = closest(name, (module.name for module in pkgutil.iter_modules(folders)), 0.7)
    return near and (f"{package}.{near}" if package else near)


def parse_path(key: str, path: object, example: str = "package.module.Name") -> str:
    """Return `path` where it is a dotted path. Raises InputError; the arguments are those of `import_object`."""
    if not isinstance(path, str) or "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise InputError(key, path, "not an import path", f"Write one, such as {example}")
    return path
