"""The config files: conf/ of this package, and beside it the user's own config folders. Imports no Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from sweeper import conf
from sweeper.spec.moved import no_such_choice
from sweeper.types import InputError

NOT_IN_ALL = ("range_test", "knots", "wall_time")  # a measurement, a free form, and one that needs the user's budget
OF_HYDRA = ("defaults", "hydra")  # keys of config.yaml
SECTIONS = ("train", "objective", "keep", "search")
OF_OTHERS = ("experiment",)  # the group whose files set keys of other groups


@cache
def folder() -> Path:
    """Return conf/, wherever it is installed."""
    return Path(conf.__path__[0])


def groups() -> list[str]:
    """Return the config groups: the folders of conf/."""
    return sorted(path.name for path in folder().iterdir() if any(path.glob("*.yaml")))


def keys() -> list[str]:
    """Return the top-level keys of a configuration, those of config.yaml before those of the groups."""
    top = [key for key in read(folder() / "config.yaml") if key not in OF_HYDRA]
    return list(dict.fromkeys([*top, *(group for group in groups() if group not in OF_OTHERS)]))


def section_keys() -> list[str]:
    """Return the keys of config.yaml's sections that this package reads itself, such as train.steps."""
    top = read(folder() / "config.yaml")
    return [f"{section}.{key}" for section in SECTIONS for key in top[section]]


def choices(group: str, folders: Iterable[Path] = ()) -> list[str]:
    """Return the names of a group's files. folders: the user's own, beside conf/."""
    return sorted({path.stem for one in (folder(), *folders) for path in (one / group).glob("*.yaml")})


def find(group: str, name: str, folders: Iterable[Path] = ()) -> Path:
    """Return the file of a choice, conf/ before the user's folders, as Hydra searches them.

    Raises:
        InputError: if there is none.
    """
    if re.fullmatch(r"[\w.+-]+", name):
        for one in (folder(), *folders):
            path = one / group / f"{name}.yaml"
            if os.path.isfile(path):  # noqa: PTH113 # Path.is_file raises for a name that is too long
                return path
    options = [*choices(group, folders), *(["all"] if group == "schedule" else [])]
    raise no_such_choice(group, name, options)


def user_folder(key: str, path: str | Path) -> Path:
    """Return the user's own config folder, absolute.

    Raises:
        InputError: if there is none. `key` is how it was given.
    """
    if not os.path.isdir(path):  # noqa: PTH112 # Path.is_dir raises for a name that is too long
        raise InputError(key, path, "no such folder", "Name a folder with schedule/, optimizer/ ... in it")
    return Path(path).resolve()


def families(folders: Iterable[Path]) -> list[str]:
    """Return the families that `schedule=all` stands for: those of the `schedule/` folders, but the special ones."""
    paths = [path for one in folders for path in one.glob("schedule/*.yaml")]
    return sorted({path.stem for path in paths if is_family(path)} - set(NOT_IN_ALL))


def is_family(path: Path) -> bool:
    """Whether a file of `schedule/` is a family, with its own name as its key, and no list such as core."""
    return re.search(rf"^{re.escape(path.stem)}:", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def read(path: Path) -> dict[str, Any]:
    """Return a file as plain data, interpolations as they are written."""
    import yaml

    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
