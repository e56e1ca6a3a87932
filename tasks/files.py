"""What is said of data files that are missing or damaged; each data set says where people get its files."""

from __future__ import annotations

from pathlib import Path


def missing_file(path: object, what: str, source: str) -> ValueError:
    """No file `what` at data.path."""
    return ValueError(f"data.path={path}: {what} is not there. Get it from {source}, and set data.path to its folder.")


def damaged_file(file: object, problem: str, source: str) -> ValueError:
    """A file that is not what its name says, or not the whole of it."""
    return ValueError(f"data.path={file}: the file is damaged, or not of this kind: {problem}. Get it from {source}.")


def root_of(path: object, what: str, source: str) -> Path:
    """data.path as a path that exists. Raises ValueError."""
    if path is None or str(path) == "":
        raise ValueError(
            f"data.path={path}: nothing is downloaded, {what} come from a folder of yours. "
            f"Get them from {source}, and set data.path to their folder."
        )
    root = Path(str(path)).expanduser()
    if not root.exists():
        raise missing_file(path, str(root), source)
    return root
