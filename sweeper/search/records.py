"""The trials in a journal as plain records, for tables and status; a sweep may be running meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper.search.importance import importances
from sweeper.search.journal import MARK, Journal
from sweeper.search.plan import StoredPlan
from sweeper.types import Record, State, TrialId, Value


class JournalReader:
    """A journal that is read while it grows; only what is new is read again. Writes nothing."""

    def __init__(self, journal: Path) -> None:
        """Raises FileNotFoundError if there is no such file, InputError if it is damaged."""
        self._journal = Journal(journal, read_only=True)
        self._storage = JournalStorage(self._journal)

    def refresh(self) -> bool:
        """Take in the rounds committed since; whether there were any. OSError if the file is another one now."""
        return self._journal.refresh()

    def plans(self) -> dict[str, StoredPlan]:
        """What each study was begun with: family, report_steps, ..."""
        return {study.study_name: study.user_attrs["plan"] for study in self._studies()}

    def trial_counts(self) -> dict[str, int]:
        """How many trials of each study count towards its limit: those begun, a failed one that is tried again not."""
        return {study.study_name: _count_trials(self._trials(study)) for study in self._studies()}

    def trials_at_stop(self) -> dict[str, int]:
        """Of each study that ended before its time (`search.stop`): after how many trials."""
        attrs = {study.study_name: study.user_attrs.get("stopped") for study in self._studies()}
        return {name: trials for name, trials in attrs.items() if trials is not None}

    def importances(self) -> dict[str, Mapping[str, float]]:
        """Of each study: how much each searched number matters; {} where too few trials say it."""
        return {
            study.study_name: importances(
                [trial for trial in self._trials(study) if trial.user_attrs.get("state") == "complete"],
                "minimize" if study.directions[0] == StudyDirection.MINIMIZE else "maximize",
            )
            for study in self._studies()
        }

    def records(self) -> list[Record]:
        """All trials that were begun, by family, study and number; one that a wider study took over stands there."""
        records = [
            record_of(study.study_name, study.user_attrs["plan"], trial)
            for study in self._studies()
            for trial in self._trials(study)
            if trial.state != TrialState.WAITING
        ]
        placed = _unique_records(records, self._extensions())
        return sorted(placed, key=lambda record: (record.family, record.study, record.number))

    def _extensions(self) -> dict[str, tuple[str, int]]:
        """Of each study that a wider one extends: the newest such, and how many trials it looked at."""
        found: dict[str, tuple[str, int]] = {}
        for study in sorted(self._studies(), key=lambda study: study._study_id):
            found |= {old: (study.study_name, seen) for old, seen in study.user_attrs.get("extends", {}).items()}
        return found

    def _studies(self) -> list[Any]:
        return [study for study in self._storage.get_all_studies() if "plan" in study.user_attrs]

    def _trials(self, study: Any) -> list[FrozenTrial]:
        return self._storage.get_all_trials(study._study_id, deepcopy=False)


def _unique_records(records: Iterable[Record], extensions: Mapping[str, tuple[str, int]]) -> Iterator[Record]:
    """Each trial once: what a wider study took over as its own, what lies outside its space as prior knowledge."""
    records = list(records)
    taken = {(record.study, record.origin) for record in records if record.origin is not None}
    for record in records:
        wider, seen = extensions.get(record.study, ("", 0))
        if record.number >= seen:
            yield record
        elif record.origin is None and (wider, record.trained_as) not in taken:
            yield replace(record, prior_of=wider)


def read(journal: Path) -> list[Record]:
    """All trials that were begun, by family, study and number. Writes nothing."""
    return JournalReader(journal).records()


def read_round(journal: Path) -> int:
    """The last committed round; 0 before the first. Writes nothing."""
    studies = JournalStorage(Journal(journal, read_only=True)).get_all_studies()
    return max((study.user_attrs.get(MARK, 0) for study in studies), default=0)


def _count_trials(trials: Sequence[FrozenTrial]) -> int:
    retries = sum("retry_of" in trial.user_attrs for trial in trials)
    return sum(trial.state != TrialState.WAITING for trial in trials) - retries


def record_of(study: str, plan: StoredPlan, trial: FrozenTrial) -> Record:
    """A trial that was begun, from what the journal holds of it. plan: what its study was begun with."""
    attrs = trial.user_attrs
    state: State = attrs.get("state", "running")
    values = [value for _, value in sorted(trial.intermediate_values.items())]
    measured = values[:-1] if state == "diverged" else values  # its last one is the penalty it was told with
    intermediate = tuple(zip(plan["report_steps"], measured, strict=False))
    clock = tuple(attrs.get("clock", ()))
    steps_done = attrs.get("step", intermediate[-1][0] if intermediate else 0)
    return Record(
        study=study,
        family=plan["family"],
        number=trial.number,
        state=state,
        params=_params(plan, trial),
        searched=tuple(trial.params),
        value=trial.value if state == "complete" else None,
        intermediate=intermediate,
        steps_done=steps_done,
        diverged_step=steps_done if state == "diverged" else None,
        reason=attrs.get("reason", ""),
        seconds=clock[-1] if clock else 0.0,
        clock=clock,
        seeds=tuple(attrs.get("seeds", ())),
        retry_of=attrs.get("retry_of"),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        measures=attrs.get("measures", {}),
        truncated=attrs.get("truncated", False),
        origin=TrialId(*attrs["origin"]) if "origin" in attrs else None,
    )


def _params(plan: StoredPlan, trial: FrozenTrial) -> dict[str, Value]:
    lists = plan["lists"]
    searched = {name: lists[name].get(value, value) if name in lists else value for name, value in trial.params.items()}
    return {name: _to_tuples(value) for name, value in {**plan["fixed"], **searched}.items()}


def _to_tuples(value: Any) -> Value:
    return tuple(map(_to_tuples, value)) if isinstance(value, list) else value
