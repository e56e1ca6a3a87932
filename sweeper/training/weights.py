"""The weights of each family's best trials, kept on the disk, as many as a quota allows.

A trial's files are <study>/<trial>.<member>.pt, a model's state as torch.save writes it, and then <study>/<trial>.json,
which says that they are whole: its objective, and their size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.types import Direction, Ending, Job, Trainer

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

GIGABYTE = 10**9
OVERHEAD = 4096  # bytes of a file beside its numbers, about; some more for each tensor
A_TENSOR = 512


@dataclass(frozen=True)
class Entry:
    """A trial whose weights are kept. size: bytes, of all members."""

    study: str
    trial: int
    value: float
    size: int


class BestWeights:
    """Called with each trial that completes, before its trainer lets it go (sweeper.types.AtEnd).

    best: trials of each study. quota_gb: of the whole sweep; beyond it the last in their studies go first. Nothing is
    written before the first trial that is kept.
    """

    def __init__(self, folder: Path, best: int, quota_gb: float, direction: Direction) -> None:
        self._folder, self._best, self._quota = folder, best, quota_gb * GIGABYTE
        self._sign = 1 if direction == "minimize" else -1

    def __call__(self, ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None:
        if not self._best or ending.value is None:
            return
        before = [entry for entry in entries(self._folder) if (entry.study, entry.trial) != ending.trial]
        if not self._select([*before, Entry(*ending.trial, ending.value, 0)], ending):
            return  # before its weights are fetched
        weights = [trainer.weights(job.id) for job in jobs]
        new = Entry(*ending.trial, ending.value, sum(map(_file_size, weights)))
        kept = self._select([*before, new], ending)
        for entry in before:
            if entry not in kept:
                _remove(self._folder, entry)
        if new not in kept:
            _log.warning("weights of %s trial %d: beyond keep.quota_gb, not kept", *ending.trial)
            return
        try:
            _write_trial(self._folder, new, jobs, weights)
        except OSError as error:  # no reason to stop training
            _log.warning("weights of %s trial %d could not be written (%s)", *ending.trial, error)

    def _select(self, all_entries: list[Entry], ending: Ending) -> list[Entry]:
        """Those to keep: the best of each study, without the last ones that the quota has no room for.

        Empty where the trial that just ended is not among its study's best.
        """
        studies: dict[str, list[Entry]] = {}
        for entry in sorted(all_entries, key=lambda entry: (self._sign * entry.value, entry.trial)):
            studies.setdefault(entry.study, []).append(entry)
        of_study = studies[ending.trial.study][: self._best]
        if ending.trial.trial not in {entry.trial for entry in of_study}:
            return []
        ranked = [(place, entry) for kept in studies.values() for place, entry in enumerate(kept[: self._best])]
        room, kept_entries = self._quota, []
        for _, entry in sorted(ranked, key=lambda ranked: (ranked[0], ranked[1].study)):
            room -= entry.size
            if room < 0:
                break
            kept_entries.append(entry)
        return kept_entries


def entries(folder: Path) -> list[Entry]:
    """The trials whose weights are kept, whole, by study and number."""
    found = []
    for path in folder.glob("*/*.json"):
        said = json.loads(path.read_text(encoding="utf-8"))
        found.append(Entry(path.parent.name, int(path.stem), said["value"], said["bytes"]))
    return sorted(found, key=lambda entry: (entry.study, entry.trial))


def read_weights(folder: Path, study: str, trial: int, member: int = 0) -> dict[str, Tensor]:
    """The state of a kept model, on the CPU. Raises FileNotFoundError where it is not kept."""
    import torch

    _mark_path(folder, study, trial).stat()
    state: dict[str, Tensor] = torch.load(
        _weights_path(folder, study, trial, member), map_location="cpu", weights_only=True
    )
    return state


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """A model's state in one file, whole or not at all."""
    import torch

    partial = path.with_name(f"{path.name}.partial")
    torch.save(weights, partial)
    partial.replace(path)


def _write_trial(folder: Path, entry: Entry, jobs: Iterable[Job], weights: Iterable[dict[str, Tensor]]) -> None:
    mark = _mark_path(folder, entry.study, entry.trial)
    mark.parent.mkdir(parents=True, exist_ok=True)
    for job, state in zip(jobs, weights, strict=True):
        write_weights(_weights_path(folder, entry.study, entry.trial, job.id.member), state)
    partial = mark.with_suffix(".partial")
    partial.write_text(json.dumps({"value": entry.value, "bytes": entry.size}), encoding="utf-8")
    partial.replace(mark)


def _remove(folder: Path, entry: Entry) -> None:
    """The mark first: files without one are no weights."""
    mark = _mark_path(folder, entry.study, entry.trial)
    mark.unlink(missing_ok=True)
    for path in mark.parent.glob(f"{entry.trial}.*.pt"):
        path.unlink()


def _mark_path(folder: Path, study: str, trial: int) -> Path:
    return folder / study / f"{trial}.json"


def _weights_path(folder: Path, study: str, trial: int, member: int) -> Path:
    return folder / study / f"{trial}.{member}.pt"


def _file_size(weights: dict[str, Tensor]) -> int:
    """Bytes of the file, about."""
    return OVERHEAD + sum(value.numel() * value.element_size() + A_TENSOR for value in weights.values())
