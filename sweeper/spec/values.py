"""Check one value of the configuration: a number, the name of a folder. Errors name the key."""

from __future__ import annotations

import re
from math import isfinite

from sweeper.types import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
LONGEST_NAME = 200  # characters: a file system allows 255 bytes, and files of a study have a suffix


def check_name(key: str, name: str) -> str:
    """Return a name that a folder can have, so that no name is a path.

    Raises:
        InputError: If it cannot be a folder's name.
    """
    if not NAME.fullmatch(name):
        remedy = "Use letters, digits and . _ - + =, starting with a letter or digit"
        raise InputError(key, name, "not a folder name", remedy)
    if len(name) > LONGEST_NAME:
        problem = f"{len(name)} characters, too long for the name of a folder"
        raise InputError(key, name, problem, f"Use at most {LONGEST_NAME}")
    return name


def as_name(text: str) -> str:
    """Return a text without the characters that a folder's name here cannot have."""
    return re.sub(r"[^A-Za-z0-9._+=-]", "", text).lstrip("._+=-") or "own"


def is_number(value: object) -> bool:
    """Whether a value is a finite number; true and false are not."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and isfinite(value))
