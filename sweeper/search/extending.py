"""A family's space made wider: what its new study takes over from those of before, in the same sweep.

A trial of before that lies in the new space is added to the new study with its numbers, its curve and its end, as if
it had been sampled there; the copy says where it comes from (`origin`), and the trial is not trained again. One that
lies outside stays where it is: it is shown, not counted, and no sampler is told of it, since Optuna's take points of
their own space alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from sweeper.search.plan import StoredPlan
from sweeper.search.records import record_of
from sweeper.search.space import Axes, Scalar, point
from sweeper.types import InputError, Record, Value

SAME = ("family", "formula", "report_steps", "epoch")  # of the plan in the journal: what makes two trials comparable
OF_THE_STUDY = ("queued", "retry_of", "retries")  # attributes that mean something in the trial's own study alone


class EarlierStudy(NamedTuple):
    """A study of before. plan: what it was begun with."""

    name: str
    plan: StoredPlan
    trials: list[FrozenTrial]


def earlier_studies(storage: BaseStorage, name: str, plan: StoredPlan) -> list[EarlierStudy]:
    """The other studies of that family that trained the same formula as long, the oldest first."""
    studies = sorted(storage.get_all_studies(), key=lambda study: study._study_id)
    return [
        EarlierStudy(study.study_name, theirs, storage.get_all_trials(study._study_id, deepcopy=False))
        for study in studies
        if (theirs := study.user_attrs.get("plan")) is not None
        and study.study_name != name
        and all(theirs.get(what) == plan.get(what) for what in SAME)
    ]


def trials_within(study: EarlierStudy, axes: Axes) -> Iterator[tuple[FrozenTrial, Record, dict[str, Scalar]]]:
    """Its own trials that did not fail and lie in the new space, with their points as Optuna stores them there."""
    for trial in study.trials:
        if trial.state == TrialState.WAITING or "origin" in trial.user_attrs:
            continue
        record = record_of(study.name, study.plan, trial)
        stored = _point_of(axes, record.params)
        if stored is not None and record.state != "failed":
            yield trial, record, stored


def copy_trial(
    trial: FrozenTrial,
    origin: tuple[str, int],
    params: Mapping[str, Scalar],
    distributions: Mapping[str, BaseDistribution],
    *,
    state: TrialState,
) -> FrozenTrial:
    """An ended trial as one of another study. state: what the sampler there is told."""
    attrs = {name: value for name, value in trial.user_attrs.items() if name not in OF_THE_STUDY}
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=trial.value,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs={**attrs, "origin": list(origin)},
        system_attrs={},
        intermediate_values=trial.intermediate_values,
    )


def _point_of(axes: Axes, params: Mapping[str, Value]) -> dict[str, Scalar] | None:
    """The point of these numbers in that space; None where it has none."""
    if params.keys() != {*axes.searched, *axes.fixed}:
        return None
    try:
        return point(axes, params, "trial")
    except InputError:
        return None
