"""Extend the space of a family: find the earlier trials that a new study takes over, in the same sweep.

An earlier trial inside the new space is copied to the new study, with its values and its end, as if it had been
sampled there. The copy names the trial that was trained (`origin`), and nothing is trained again. An earlier trial
outside the new space stays in its study. Tables show it but do not count it, and no sampler learns from it: Optuna's
samplers accept only points of their own space.
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

SAME = ("family", "formula", "report_steps", "epoch", "role")  # keys of the stored plan that comparable trials share
STUDY_ATTRS = ("queued", "retry_of", "retries")  # attributes that mean nothing in another study


class EarlierStudy(NamedTuple):
    """An earlier study of the same family.

    Attributes:
        name: Its name.
        plan: Its stored plan.
        trials: All its trials.
    """

    name: str
    plan: StoredPlan
    trials: list[FrozenTrial]


def earlier_studies(storage: BaseStorage, name: str, plan: StoredPlan) -> list[EarlierStudy]:
    """Return the other studies of the family with the same formula and the same reports, the oldest first."""
    studies = sorted(storage.get_all_studies(), key=lambda study: study._study_id)
    return [
        EarlierStudy(study.study_name, stored, storage.get_all_trials(study._study_id, deepcopy=False))
        for study in studies
        if (stored := study.user_attrs.get("plan")) is not None
        and study.study_name != name
        and all(stored.get(key) == plan.get(key) for key in SAME)
    ]


def trials_within(study: EarlierStudy, axes: Axes) -> Iterator[tuple[FrozenTrial, Record, dict[str, Scalar]]]:
    """Yield the trials that a study takes over: inside the new space, and not failed.

    Yields:
        The trial, its record, and its point as Optuna stores it in the new space.
    """
    for trial in study.trials:
        if trial.state == TrialState.WAITING or "origin" in trial.user_attrs:
            continue
        record = record_of(study.name, study.plan, trial)
        new_point = _point_of(axes, record.params)
        if new_point is not None and record.state != "failed":
            yield trial, record, new_point


def copy_trial(
    trial: FrozenTrial,
    origin: tuple[str, int],
    params: Mapping[str, Scalar],
    distributions: Mapping[str, BaseDistribution],
    *,
    state: TrialState,
) -> FrozenTrial:
    """Return a copy of a trial, for another study.

    Args:
        trial: A trial that ended.
        origin: Its study and number.
        params: Its point, as the other study stores it.
        distributions: The distributions of the other study.
        state: The state that the sampler of the other study sees.
    """
    attrs = {name: value for name, value in trial.user_attrs.items() if name not in STUDY_ATTRS}
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
    """Return the point of a trial in a space, or None if the space does not contain it."""
    if params.keys() != {*axes.searched, *axes.fixed}:
        return None
    try:
        return point(axes, params, "trial")
    except InputError:
        return None
