"""Temporary folders that hold the user's data. None outlives its process for long, however that ends.

A folder is removed when it is no longer needed, or when the process exits. What a killed process left is removed when
the next process starts. A folder's name says which process owns it, so that no living process loses its own.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from sweeper import owners

PREFIX = "sweeper-"


def make_folder() -> Path:
    """Make a folder that is removed when this process exits, at the latest."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owners.label()}-"))
    atexit.register(_remove_at_exit, folder, os.getpid())
    return folder


def remove(folder: Path) -> None:
    """Remove a folder with everything in it."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the folders of this user's processes that ended without removing them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        match = re.fullmatch(rf"{PREFIX}(?P<owner>{owners.LABEL})-\w+", folder.name)
        if match is not None and owners.is_dead(match["owner"]):
            remove(folder)  # fails without a trace if it is another user's


def _remove_at_exit(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork
        remove(folder)
