"""The weights of each family's best trials on disk, as many as a quota allows.

A trial has the files <study>/<trial>.<member>.pt, written by torch.save, and then <study>/<trial>.json with its
objective and their size. Without the latter, the files are incomplete.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.files import replace_file, writing
from sweeper.training import torch_files
from sweeper.types import Direction, Ending, Job, Trainer

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

GIGABYTE = 10**9
OVERHEAD = 4096  # bytes of a file without its tensors, about
A_TENSOR = 512  # bytes more for each tensor, about


@dataclass(frozen=True)
class Entry:
    """A trial whose weights are kept.

    Attributes:
        study: Name of its study.
        trial: Its number in the study.
        value: The objective.
        size: Bytes of all members.
    """

    study: str
    trial: int
    value: float
    size: int


class BestWeights:
    """Keeps the weights of the best trials. Called with each trial that completes (sweeper.types.AtEnd).

    Args:
        folder: Where the weights are. It is created for the first trial that is kept.
        best: Trials to keep of each study.
        quota_gb: Gigabytes of the whole sweep. If it is exceeded, the lowest-ranked trials are removed first.
        direction: Which objective is better.
    """

    def __init__(self, folder: Path, best: int, quota_gb: float, direction: Direction) -> None:
        self._folder, self._best, self._quota = folder, best, quota_gb * GIGABYTE
        self._sign = 1 if direction == "minimize" else -1

    def __call__(self, ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None:
        if not self._best or ending.value is None:
            return
        before = [entry for entry in entries(self._folder) if (entry.study, entry.trial) != ending.trial]
        if not self._select([*before, Entry(*ending.trial, ending.value, 0)], ending):
            return  # without fetching its weights
        weights = [trainer.weights(job.id) for job in jobs]
        new = Entry(*ending.trial, ending.value, sum(map(_file_size, weights)))
        selected = self._select([*before, new], ending)
        for entry in before:
            if entry not in selected:
                _remove(self._folder, entry)
        if new not in selected:
            _log.warning("weights of %s trial %d are not kept: no room in keep.quota_gb", *ending.trial)
            return
        try:
            _write_trial(self._folder, new, jobs, weights)
        except OSError as error:  # a full disk does not stop training
            _log.warning("weights of %s trial %d could not be written (%s)", *ending.trial, error)

    def _select(self, all_entries: list[Entry], ending: Ending) -> list[Entry]:
        """Return the trials to keep: the best of each study, as far as the quota allows.

        Empty if the trial that just ended is not among the best of its study.
        """
        studies: dict[str, list[Entry]] = {}
        for entry in sorted(all_entries, key=lambda entry: (self._sign * entry.value, entry.trial)):
            studies.setdefault(entry.study, []).append(entry)
        of_study = studies[ending.trial.study][: self._best]
        if ending.trial.trial not in {entry.trial for entry in of_study}:
            return []
        ranked = [(place, entry) for study in studies.values() for place, entry in enumerate(study[: self._best])]
        room, selected = self._quota, []
        for _, entry in sorted(ranked, key=lambda ranked: (ranked[0], ranked[1].study)):
            room -= entry.size
            if room < 0:
                break
            selected.append(entry)
        return selected


def entries(folder: Path) -> list[Entry]:
    """Return the trials whose weights are complete, sorted by study and number. A damaged mark counts as none."""
    complete = []
    for path in folder.glob("*/*.json"):
        with suppress(OSError, LookupError, TypeError, ValueError):
            mark = json.loads(path.read_bytes())
            complete.append(Entry(path.parent.name, int(path.stem), float(mark["value"]), int(mark["bytes"])))
    return sorted(complete, key=lambda entry: (entry.study, entry.trial))


def read_weights(folder: Path, study: str, trial: int, member: int = 0) -> dict[str, Tensor]:
    """Return the state of a kept model, on the CPU.

    Args:
        folder: Folder of the weights.
        study: Name of the study.
        trial: Number of the trial.
        member: Which seed or fold.

    Raises:
        FileNotFoundError: If its weights are not kept.
        DamagedError: If the file is damaged.
    """
    _mark_path(folder, study, trial).stat()
    state: dict[str, Tensor] = torch_files.load(_weights_path(folder, study, trial, member))
    return state


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a model's state to one file, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    with writing(path):
        torch_files.save(weights, partial)
        partial.replace(path)


def write_final(path: Path, weights: dict[str, Tensor]) -> Path | None:
    """Write the weights of a final model to `<path>.safetensors`; without safetensors to `<path>.pt`, as torch does.

    Returns:
        The file; None if there are no weights.

    Raises:
        StorageError: It cannot be written.
    """
    if not weights:
        return None
    save = _safetensors()
    file = path.with_name(f"{path.name}.{'pt' if save is None else 'safetensors'}")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    if save is None:
        write_weights(file, weights)
    else:
        replace_file(file, save({name: value.contiguous() for name, value in weights.items()}), durable=True)
    return file


def read_final(path: Path) -> dict[str, Tensor]:
    """Return the weights that `write_final` wrote, on the CPU.

    Raises:
        DamagedError: If the file is damaged.
        FileNotFoundError: If there is none.
    """
    if path.suffix != ".safetensors":
        return dict(torch_files.load(path))
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise torch_files.DamagedError(str(error)) from error


def _safetensors() -> Callable[[dict[str, Tensor]], bytes] | None:
    """Return what makes the bytes of a file of safetensors; None if that is not installed."""
    try:
        from safetensors.torch import save
    except ImportError:
        return None
    return save


def _write_trial(folder: Path, entry: Entry, jobs: Iterable[Job], weights: Iterable[dict[str, Tensor]]) -> None:
    mark = _mark_path(folder, entry.study, entry.trial)
    mark.parent.mkdir(parents=True, exist_ok=True)
    for job, state in zip(jobs, weights, strict=True):
        write_weights(_weights_path(folder, entry.study, entry.trial, job.id.member), state)
    replace_file(mark, json.dumps({"value": entry.value, "bytes": entry.size}))


def _remove(folder: Path, entry: Entry) -> None:
    """Remove a trial's weights, the mark first: files without one are incomplete."""
    mark = _mark_path(folder, entry.study, entry.trial)
    mark.unlink(missing_ok=True)
    for path in mark.parent.glob(f"{entry.trial}.*.pt"):
        path.unlink()


def _mark_path(folder: Path, study: str, trial: int) -> Path:
    return folder / study / f"{trial}.json"


def _weights_path(folder: Path, study: str, trial: int, member: int) -> Path:
    return folder / study / f"{trial}.{member}.pt"


def _file_size(weights: dict[str, Tensor]) -> int:
    """Return the approximate bytes of the file."""
    return OVERHEAD + sum(value.numel() * value.element_size() + A_TENSOR for value in weights.values())
