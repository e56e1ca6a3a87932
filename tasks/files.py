"""Errors about data files that are missing or damaged. Each data set names the source of its files."""

from __future__ import annotations

from pathlib import Path


def missing_file(path: object, what: str, source: str) -> ValueError:
    """Return the error about a file that does not exist.

    Args:
        path: `data.path`.
        what: The file.
        source: Where to get it.
    """
    return ValueError(f"data.path={path}: {what} not found. Get it from {source}, and set data.path to its folder")


def damaged_file(file: object, problem: str, source: str) -> ValueError:
    """Return the error about a file that is damaged, incomplete or of another kind.

    Args:
        file: The file.
        problem: What is wrong with it.
        source: Where to get it.
    """
    return ValueError(f"data.path={file}: damaged, or a file of another kind: {problem}. Get it from {source}")


def root_of(path: object, what: str, source: str) -> Path:
    """Return `data.path` as an existing path.

    Args:
        path: `data.path`.
        what: What the data set needs, a plural noun for the error.
        source: Where to get it.

    Raises:
        ValueError: If the path is null, or does not exist.
    """
    if path is None or str(path) == "":
        raise ValueError(
            f"data.path={path}: {what} are not downloaded automatically. "
            f"Get them from {source}, and set data.path to their folder"
        )
    root = Path(str(path)).expanduser()
    if not root.exists():
        raise missing_file(path, str(root), source)
    return root
