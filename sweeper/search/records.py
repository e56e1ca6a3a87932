"""Read the trials of a journal as plain records, for tables and status. A sweep may be running meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper.search.importance import importances
from sweeper.search.journal import Journal, replaying
from sweeper.search.plan import NO_VALUE, StoredPlan
from sweeper.search.tried import TriedPoints
from sweeper.types import Record, Replicate, State, TrialId, Value

OLD_NO_VALUE = re.compile(r"(?!\S+/loss ).+ is not finite")  # reason of such a trial in older journals: "diverged"


class JournalReader:
    """Reads a journal while it grows, each part once. It writes nothing."""

    def __init__(self, journal: Path, committed: int = 0, confirmation: int | None = None) -> None:
        """Open a journal.

        Args:
            journal: The file.
            committed: The last round that is known to be committed.
            confirmation: Read the studies of this confirmation (`confirm.seed`); None for those that search.

        Raises:
            InputError: The file is missing or damaged, or does not have that round.
        """
        self._journal = Journal(journal, committed=committed, read_only=True)
        with replaying(journal):
            self._storage = JournalStorage(self._journal)
        self._confirmation = confirmation

    @property
    def round(self) -> int:
        """The last committed round; 0 before the first."""
        return self._journal.round

    def refresh(self) -> bool:
        """Read the rounds committed since the last call, and return whether there were any.

        Raises:
            OSError: The file is shorter than before, so it is another journal.
        """
        return self._journal.refresh()

    def plans(self) -> dict[str, StoredPlan]:
        """Return the stored plan of each study."""
        return {study.study_name: study.user_attrs["plan"] for study in self._studies()}

    def trial_counts(self) -> dict[str, int]:
        """Return how many trials of each study count towards its limit. A failed trial that is retried does not."""
        return {study.study_name: _count_trials(self._trials(study)) for study in self._studies()}

    def given_up(self) -> list[TrialId]:
        """Return the failed trials that are not trained again, except those of studies that were extended."""
        extended = self._extensions()
        return [
            TrialId(study.study_name, trial.number)
            for study in self._studies()
            if study.study_name not in extended
            for trial in given_up_trials(self._trials(study))
        ]

    def unfinished_retries(self) -> list[TrialId]:
        """Return the retries of failed trials that are queued or running."""
        return [
            TrialId(study.study_name, trial.number)
            for study in self._studies()
            for trial in self._trials(study)
            if "retry_of" in trial.user_attrs and not trial.state.is_finished()
        ]

    def trials_at_stop(self) -> dict[str, int]:
        """Return, for each study that `search.stop` ended, after how many trials."""
        attrs = {study.study_name: study.user_attrs.get("stopped") for study in self._studies()}
        return {name: trials for name, trials in attrs.items() if trials is not None}

    def exhausted(self) -> dict[str, int]:
        """Return the number of points of each study that has tried all of them; without those that search nothing."""
        return {
            study.study_name: count for study in self._studies() if (count := _points_if_all_tried(self._trials(study)))
        }

    def importances(self) -> dict[str, Mapping[str, float]]:
        """Return the importance of each searched hyperparameter, by study. It is {} for a study with too few trials."""
        return {
            study.study_name: importances(
                [trial for trial in self._trials(study) if trial.user_attrs.get("state") == "complete"],
                "minimize" if study.directions[0] == StudyDirection.MINIMIZE else "maximize",
            )
            for study in self._studies()
        }

    def records(self) -> list[Record]:
        """Return all trials that were started, ordered by family, study and number.

        A trial that a wider study took over is listed once, in that study.
        """
        records = [
            record_of(study.study_name, study.user_attrs["plan"], trial)
            for study in self._studies()
            for trial in self._trials(study)
            if trial.state != TrialState.WAITING
        ]
        unique = _unique_records(records, self._extensions())
        return sorted(unique, key=lambda record: (record.family, record.study, record.number))

    def _extensions(self) -> dict[str, tuple[str, int]]:
        """Return, for each extended study, its newest extension and how many of its trials that one read."""
        extensions: dict[str, tuple[str, int]] = {}
        for study in sorted(self._studies(), key=lambda study: study._study_id):
            counts = study.user_attrs.get("extends", {})
            extensions |= {earlier: (study.study_name, count) for earlier, count in counts.items()}
        return extensions

    def extended(self) -> set[str]:
        """Return the studies whose trials a wider study took over."""
        return set(self._extensions())

    def starts(self) -> dict[str, list[dict[str, Value]]]:
        """Return the start points of each study."""
        attrs = {study.study_name: study.user_attrs for study in self._studies()}
        return {
            name: [_values(of_study["plan"], point) for point, _ in of_study.get("start", [])]
            for name, of_study in attrs.items()
        }

    def replicates(self) -> list[Record]:
        """Return all trainings of all confirmations and of final models, ordered by study and number."""
        records = [
            replicate_of(study.study_name, study.user_attrs["plan"], trial, tested(study.user_attrs, trial))
            for study in self._all_studies()
            if study.user_attrs["plan"].get("role") == "replicate"
            for trial in self._trials(study)
            if trial.state != TrialState.WAITING
        ]
        return sorted(records, key=lambda record: (record.study, record.number))

    def _studies(self) -> list[Any]:
        """Return the studies that search, or those of the confirmation."""
        suffix = None if self._confirmation is None else replicate_study("", self._confirmation)
        return [
            study
            for study in self._all_studies()
            if (study.user_attrs["plan"].get("role") is None if suffix is None else study.study_name.endswith(suffix))
        ]

    def _all_studies(self) -> list[Any]:
        return [study for study in self._storage.get_all_studies() if "plan" in study.user_attrs]

    def _trials(self, study: Any) -> list[FrozenTrial]:
        return self._storage.get_all_trials(study._study_id, deepcopy=False)


def _unique_records(records: Iterable[Record], extensions: Mapping[str, tuple[str, int]]) -> Iterator[Record]:
    """Yield each trial once: in the wider study that took it over, or, outside its space, as prior knowledge."""
    records = list(records)
    copies = {(record.study, record.origin) for record in records if record.origin is not None}
    for record in records:
        wider, count = extensions.get(record.study, ("", 0))
        if record.number >= count:
            yield record
        elif record.origin is None and (wider, record.trained_as) not in copies:
            yield replace(record, prior_of=wider)


def read(journal: Path) -> list[Record]:
    """Return all trials that were started, ordered by family, study and number. Writes nothing."""
    return JournalReader(journal).records()


def read_round(journal: Path) -> int:
    """Return the last committed round, or 0 before the first. Writes nothing."""
    return Journal(journal, read_only=True).round


def given_up_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the failed trials of a study that no other trial, queued or started, repeats."""
    repeated = {trial.user_attrs.get("retry_of") for trial in trials}
    return [trial for trial in trials if trial.user_attrs.get("state") == "failed" and trial.number not in repeated]


def _count_trials(trials: Sequence[FrozenTrial]) -> int:
    retries = sum("retry_of" in trial.user_attrs for trial in trials)
    return sum(trial.state != TrialState.WAITING for trial in trials) - retries


def _points_if_all_tried(trials: Sequence[FrozenTrial]) -> int | None:
    """Return the number of points of a study's space; None if some are left, queued, or it searches nothing."""
    if not trials or not trials[0].distributions or any(trial.state == TrialState.WAITING for trial in trials):
        return None
    points = TriedPoints(trials[0].distributions)
    if points.count is None or points.count > len(trials):
        return None
    for trial in trials:
        points.add(trial.params)
    return None if points.left else points.count


def record_of(study: str, plan: StoredPlan, trial: FrozenTrial) -> Record:
    """Return the record of a trial that was started.

    Args:
        study: Name of its study.
        plan: The study's stored plan.
        trial: The trial in the journal.
    """
    attrs = trial.user_attrs
    stored: State = attrs.get("state", "running")
    has_no_value = NO_VALUE in attrs or (stored == "diverged" and OLD_NO_VALUE.fullmatch(attrs["reason"]) is not None)
    state: State = "failed" if has_no_value else stored
    values = [value for _, value in sorted(trial.intermediate_values.items())]
    measured = values[:-1] if stored == "diverged" else values  # the last value is the penalty
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
        has_no_value=has_no_value,
        origin=TrialId(*attrs["origin"]) if "origin" in attrs else None,
    )


def replicate_of(study: str, plan: StoredPlan, trial: FrozenTrial, tested: Mapping[str, float]) -> Record:
    """Return the record of a training of a confirmation.

    Args:
        study: Name of its study.
        plan: The study's stored plan.
        trial: The trial in the journal.
        tested: Its metrics of the test part.
    """
    return replace(
        record_of(study, plan, trial),
        replicate=Replicate(*trial.user_attrs["replicate"]),
        member_values=tuple(trial.user_attrs.get("member_values", ())),
        tested=tested,
    )


def replicate_study(study: str, confirmation: int) -> str:
    """Return the name of the study that repeats trials of a study."""
    return f"{study}.confirm-{confirmation}"


def final_study(study: str) -> str:
    """Return the name of the study that trains trials of a study on all data (`final`)."""
    return f"{study}.final"


def searched_study(study: str) -> str:
    """Return the study whose trials a study repeats; the study itself if it searches."""
    return re.sub(r"\.(confirm-\d+(\.[\w.]+=.+)?|final)$", "", study)  # with the change (`confirm.vary`)


def tested(attrs: Mapping[str, object], trial: FrozenTrial) -> Mapping[str, float]:
    """Return the metrics of the test part of a training, from the attributes of its study."""
    metrics = attrs.get(tested_key(trial.number), {})
    assert isinstance(metrics, dict)
    return metrics


def tested_key(number: int) -> str:
    """Return the attribute of a study with the metrics of the test part of a trial."""
    return f"tested/{number}"


def _params(plan: StoredPlan, trial: FrozenTrial) -> dict[str, Value]:
    return {**{name: _to_tuples(value) for name, value in plan["fixed"].items()}, **_values(plan, trial.params)}


def _values(plan: StoredPlan, stored: Mapping[str, object]) -> dict[str, Value]:
    """Return searched hyperparameters from what Optuna holds."""
    lists = plan["lists"]
    return {
        name: _to_tuples(lists[name].get(str(value), value) if name in lists else value)
        for name, value in stored.items()
    }


def _to_tuples(value: Any) -> Value:
    return tuple(map(_to_tuples, value)) if isinstance(value, list) else value
