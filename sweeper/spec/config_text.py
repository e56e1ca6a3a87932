"""The text of a sweep's stored configuration: YAML below a checksum, and what is wrong with a damaged one."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

from sweeper.files import of_another_user
from sweeper.types import InputError

FORMAT = 1  # of the sweep's folder
HEAD = "# Written by sweeper. CRC-32 of the lines below: "
NEEDED = ("question", "studies", "trainer")
RESTORE = "Restore it from a backup, or start over with fresh=true"


def dump(config: Mapping[str, object]) -> str:
    """Return the text of a configuration."""
    import yaml

    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return f"{HEAD}{_checksum(text)}\n{text}"


def load(path: Path) -> Mapping[str, object]:
    """Return the configuration in a file, of this version or an earlier one, which wrote no checksum.

    Raises:
        InputError: The file cannot be read, is damaged, or has another format.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _damaged(path, "missing, so the model and data of the results beside it are unknown") from None
    except PermissionError as error:
        raise of_another_user(path) from error
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not text in UTF-8") from error
    head, _, body = text.partition("\n")
    if head.startswith(HEAD) and head != HEAD + _checksum(body):
        raise _damaged(path, "its checksum differs", "If you changed it on purpose, delete its first line")
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _damaged(path, "it is not YAML") from error
    if not isinstance(config, Mapping):
        raise _damaged(path, "it is empty" if config is None else "it is not a mapping")
    if config.get("format", FORMAT) != FORMAT:
        problem = f"this version reads format {FORMAT} only"
        raise InputError(f"{path}: format", config["format"], problem, "Use the version of sweeper that wrote it")
    missing = [key for key in NEEDED if not isinstance(config.get(key), Mapping)]
    if missing:
        raise _damaged(path, f"it has no {' and no '.join(missing)}")
    return config


def _damaged(path: Path, problem: str, more: str = "") -> InputError:
    return InputError("config", path, problem, f"{RESTORE}. {more}" if more else RESTORE)


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
