"""What a configuration names by a dotted path, such as `torch.optim.SGD`: import it, with its options beside it."""

from __future__ import annotations

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
        path: A dotted path: the module's name, then the object's.
        example: A valid path, for the error about one that is not.

    Raises:
        InputError: `path` is not a dotted path, its module does not exist, the module raises an error of its own, or
            the module has no such name.
    """
    path = parse_path(key, path, example)
    name, _, attribute = path.rpartition(".")
    try:
        module = import_module(name)
    except Exception as error:
        missing = (error.name if isinstance(error, ModuleNotFoundError) else None) or ""
        distribution = DISTRIBUTIONS.get(missing.partition(".")[0])
        install = distribution and f"Install it: pip install {distribution}"
        if missing in REMOVED:
            raise InputError(key, path, "no longer part of sweeper", REMOVED[missing]) from error
        if missing and f"{name}.".startswith(f"{missing}."):
            raise InputError(key, path, f"not found: no module {missing}", install or "Is it installed?") from error
        first_line, *_ = f"{error}".splitlines() or [""]
        problem = f"its module raised {type(error).__name__} ({first_line})"
        raise InputError(key, path, problem, install or f"Fix {name}, or install what it needs") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        names = [each for each in dir(module) if not each.startswith("_")]
        near = closest(attribute, names)
        known = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
        remedy = f"Did you mean {name}.{near}?" if near else f"Choose one of {known}"
        raise InputError(key, path, f"not found: {name} has no {attribute}", remedy) from error


def parse_path(key: str, path: object, example: str = "package.module.Name") -> str:
    """Return `path` where it is a dotted path. Raises InputError; the arguments are those of `import_object`."""
    if not isinstance(path, str) or "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise InputError(key, path, "not an import path", f"Write one, such as {example}")
    return path
