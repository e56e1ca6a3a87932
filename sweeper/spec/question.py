"""The identity of a sweep (its question), and its folder with the stored configuration.

The same question under the same name resumes the sweep. Another question under that name is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from sweeper.files import of_another_user, replace_file
from sweeper.spec import config_text
from sweeper.spec.moved import with_current_paths
from sweeper.types import At, Direction, InputError

SHOWN_DIFFERENCES = 4
MILLISECOND = 1_000_000  # nanoseconds
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
LONGEST_NAME = 200  # characters: a file system allows 255 bytes, and files of a study have a suffix


def digest(plain: object, length: int = 8) -> str:
    """Return a short hash of plain data (mappings, lists, numbers, text). The order of keys does not matter."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode()).hexdigest()[:length]


def node_name(node: Mapping[str, object] | None) -> str:
    """Return the name of the class or function that a node names; "" if it names none."""
    return str((node or {}).get("_target_", "")).rpartition(".")[2]


class TrainQuestion(TypedDict):
    """How trials train. `clip`, `accumulate` and `ema` are stored only if they change an update."""

    steps: int
    batch_size: int
    precision: str
    clip: NotRequired[float]
    accumulate: NotRequired[int]
    ema: NotRequired[float]


class ObjectiveQuestion(TypedDict):
    """What trials are judged by."""

    metric: str
    direction: Direction
    at: At
    k: int


class SearchQuestion(TypedDict):
    """What all trials of a sweep share."""

    concurrent_trials: int
    reports: int
    seed: int
    seeds: int


class Question(TypedDict):
    """What identifies a sweep, as it is stored. Nodes of optimizer, data, model and task are as the user wrote them."""

    fingerprint: str
    optimizer: dict[str, Any]
    train: TrainQuestion
    objective: ObjectiveQuestion
    search: SearchQuestion
    data: NotRequired[dict[str, Any]]
    model: NotRequired[dict[str, Any]]
    task: NotRequired[dict[str, Any] | None]
    schedule_unit: NotRequired[str]
    epoch_steps: NotRequired[float]
    folds: NotRequired[int]


class StoredStudy(TypedDict):
    """A study as it is stored: its limits, and its nodes as the user wrote them."""

    family: str
    trials: int
    stop: NotRequired[int]
    schedule: dict[str, Any]
    sampler: dict[str, Any]
    pruner: dict[str, Any] | None


class StoredConfirmation(TypedDict):
    """A confirmation as it is stored when it begins.

    Attributes:
        settings: Its options.
        candidates: "study:trial" of each family's candidates.
        added: Families that were added after a first verdict.
        vary: Factors ("x2") and values of each key under which the comparison was repeated.
    """

    settings: dict[str, Any]
    candidates: dict[str, list[str]]
    added: list[str]
    vary: NotRequired[dict[str, list[str | float | int]]]


class StoredConfig(TypedDict, total=False):
    """The stored configuration of a sweep; empty before its first run.

    Confirmations go by their number (`confirm.seed`) as text.
    """

    format: int
    name: str
    id: str
    version: str
    question: Question
    target: float | None
    no_skill: float | None
    trainer: dict[str, Any]
    machines: list[dict[str, str]]
    studies: dict[str, StoredStudy]
    confirmations: dict[str, StoredConfirmation]


@dataclass(frozen=True)
class Home:
    """The folder of one sweep."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def traces(self) -> Path:
        return self.path / "traces"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def weights(self) -> Path:
        return self.path / "weights"

    @property
    def tables(self) -> Path:
        return self.path / "tables"

    @property
    def range_test(self) -> Path:
        """The interval that `optimizer.peak_lr=auto` found, in JSON."""
        return self.path / "range.json"

    def verdict(self, seed: int = 0) -> Path:
        """The verdict of a confirmation, in JSON."""
        return self.path / ("confirm.json" if seed == 0 else f"confirm-{seed}.json")

    def family_verdict(self, seed: int = 0) -> Path:
        """The verdict on families, in JSON."""
        return self.path / ("confirm-families.json" if seed == 0 else f"confirm-families-{seed}.json")

    def searches(self, seed: int = 0) -> Path:
        """The folder of the new searches from which that verdict follows, a sweep each: 1, 2, ..."""
        return self.path / ("searches" if seed == 0 else f"searches-{seed}")

    @property
    def final(self) -> Path:
        """What was found of the final models, in JSON."""
        return self.path / "final.json"

    def final_weights(self, study: str, trial: int) -> Path:
        """The folder of the weights of one trial's final models."""
        return self.path / "final" / f"{study}-{trial}"

    @property
    def retune(self) -> Path:
        """How the winner of an earlier sweep compares with this one's, in JSON."""
        return self.path / "retune.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def crash(self) -> Path:
        return self.path / "crash.txt"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def is_stored(self) -> bool:
        """Whether a sweep was started here: it has a configuration, or results whose configuration is lost."""
        parts = (self.config, self.journal, self.spool, self.traces, self.checkpoint, self.weights)
        stored = filter(os.path.exists, parts)  # Path.exists raises for a typed name that is too long
        return any(path != self.journal or path.stat().st_size > 0 for path in stored)

    def read(self) -> StoredConfig:
        """Return the stored configuration; {} before the first run.

        Raises:
            InputError: It is damaged, or it is missing next to results.
        """
        if not self.is_stored:
            return {}
        stored: StoredConfig = with_current_paths(config_text.load(self.config))
        return stored

    def write(self, config: Mapping[str, object]) -> None:
        """Store the configuration, atomically."""
        replace_file(self.config, config_text.dump(config), durable=True)
        _make_newest(self.config)


def _make_newest(config: Path) -> None:
    """Make a configuration the newest, as `homes` sorts them, even if the clock was set back."""
    others = (path.stat().st_mtime_ns for path in config.parent.parent.glob("*/config.yaml") if path != config)
    newest = max(others, default=0)
    if config.stat().st_mtime_ns <= newest:
        os.utime(config, ns=(newest + MILLISECOND, newest + MILLISECOND))


def homes(root: Path) -> list[Home]:
    """Return all sweeps in `root`, the one used last at the end."""
    with suppress(OSError):
        stored = [home for home in map(Home, root.iterdir()) if home.is_stored]
        return sorted(stored, key=lambda home: (_used(home), home.path))
    return []


def _used(home: Home) -> float:
    """Return when a sweep was used last: every command writes its configuration, unless that is lost."""
    return (home.config if home.config.exists() else home.path).stat().st_mtime


def find(root: Path, name: str | None) -> Home:
    """Find a stored sweep.

    Args:
        root: The folder of the sweeps.
        name: Its name (the newest fresh start of it) or its folder; None for the one used last.

    Raises:
        InputError: If there is none, or this user may not read it.
    """
    known = homes(root)
    if name is None:
        if not known:
            _refuse_private(root)
            raise InputError("sweep", None, f"there is no sweep in {root}/ yet", "Run one: python -m sweeper")
        return known[-1]
    if Home(Path(name)).is_stored:
        return Home(Path(name))
    starts = _starts(root, name)
    if starts:
        return starts[-1]
    _refuse_private(Path(name), root / name, root)
    names = ", ".join(home.name for home in known) or "none"
    raise InputError("sweep", name, f"no such sweep in {root}/", f"There are: {names}")


def _refuse_private(*folders: Path) -> None:
    """Refuse a folder that exists and may not be entered, because it would look empty. Raises InputError."""
    for folder in folders:
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112 # a long name is no error
            raise of_another_user(folder)


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


def settle(root: Path, name: str, question: Mapping[str, object], *, fresh: bool) -> Home:
    """Return the folder of the sweep to resume, or of a new one. Writes nothing.

    Fresh starts are called name.2, name.3, ... and the newest is resumed.

    Args:
        root: The folder of the sweeps.
        name: The sweep's name.
        question: Its identity.
        fresh: Whether to start over.

    Raises:
        InputError: If the name cannot be a folder's, or the stored sweep is damaged or has another identity.
    """
    check_name("name", name)
    starts = _starts(root, name)
    if not starts:
        return Home(root / name)
    if fresh:
        stem, count = _stem(starts[-1].name)
        return Home(root / f"{stem}.{count + 1}")
    other = differences(starts[-1].read()["question"], question)
    if other:
        shown = "; ".join(other[:SHOWN_DIFFERENCES]) + ("; ..." if len(other) > SHOWN_DIFFERENCES else "")
        raise InputError(
            "name",
            name,
            f"the stored sweep has other settings ({shown})",
            "Choose another name, leave the name out, or start over with fresh=true",
        )
    return starts[-1]


def is_stored(root: Path, name: str, question: Mapping[str, object]) -> bool:
    """Whether the newest start of the sweep of that name has this identity."""
    starts = _starts(root, name)
    return bool(starts) and not differences(starts[-1].read()["question"], question)


def _starts(root: Path, name: str) -> list[Home]:
    """Return the stored sweeps called `name`, `name.2`, `name.3`, ... in order; only one if `name` is such a start."""
    starts = [home for home in homes(root) if home.name == name or _stem(home.name)[0] == name]
    return sorted(starts, key=lambda home: 1 if home.name == name else _stem(home.name)[1])


def _stem(name: str) -> tuple[str, int]:
    """Return ("digits", 3) for "digits.3", and ("digits", 1) for "digits"."""
    match = re.fullmatch(r"(.+)\.([1-9]\d*)", name)
    return (match[1], int(match[2])) if match else (name, 1)


def differences(stored: Mapping[str, object], current: Mapping[str, object]) -> list[str]:
    """Return what differs, such as "train.steps: 1000 there, 500 here"."""
    left, right = dict(_leaves(_plain(stored))), dict(_leaves(_plain(current)))
    return [
        f"{key}: {left.get(key, 'nothing')} there, {right.get(key, 'nothing')} here"
        for key in sorted(left.keys() | right.keys())
        if key not in left or key not in right or left[key] != right[key]
    ]


def seeds_and_folds(question: Question) -> tuple[int, int]:
    """Return the number of seeds and of folds of each trial. Their product is its number of members."""
    return question["search"]["seeds"], question.get("folds", 1)


def _plain(tree: object) -> Any:
    """Return data as JSON returns them: tuples become lists, keys text."""
    return json.loads(json.dumps(tree))


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
