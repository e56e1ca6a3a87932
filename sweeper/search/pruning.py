"""Which trial to stop: the pruner a configuration names. Its options count reports, whatever the horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from sweeper.importing import Target
from sweeper.search.percentile import Percentile
from sweeper.search.target import build
from sweeper.types import InputError

KEY = "pruner"


def build_pruner(target: Target | None, reports: int) -> BasePruner:
    """Build the pruner that a study names; None never prunes.

    reports: of a trial. Raises InputError for one that cannot be made or used.
    """

    def complete(key: str, kind: type, target: Target) -> Mapping[str, Any]:
        options = target.options
        if issubclass(kind, WilcoxonPruner):
            raise InputError(
                key, kind.__name__, "compares instances of a problem, and reports are none", "Choose another pruner"
            )
        if issubclass(kind, ThresholdPruner) and options.get("lower") is options.get("upper") is None:
            raise InputError(
                key,
                kind.__name__,
                "has no bound",
                f"Give one of the metric's values: {key}.upper=3, or {key}.lower=0.5",
            )
        if issubclass(kind, PatientPruner) and options.get("wrapped_pruner") is None:
            raise InputError(
                f"{key}.wrapped_pruner",
                None,
                "missing, and patience alone would stop good trials too, whose schedule is then another one",
                "Give the pruner whose decisions it delays, as conf/pruner/patient.yaml does",
            )
        if issubclass(kind, HyperbandPruner) and options.get("max_resource", "auto") == "auto":
            return {**options, "max_resource": reports}
        return options

    if target is None:
        return NopPruner()
    pruner: BasePruner = build(KEY, target, BasePruner, complete)
    return Percentile(pruner) if type(pruner) is MedianPruner or type(pruner) is PercentilePruner else pruner


def set_up_brackets(study: Study) -> None:
    """Let Hyperband lay out its brackets now.

    It would do so at its first decision and until then show a sampler the trials of all brackets, so that the first
    asks after a restart would differ from those of a sweep that ran through. (Of Optuna's samplers none looks: they
    see the whole study in either case. One's own may.)
    """
    if isinstance(study.pruner, HyperbandPruner):
        study.pruner.prune(study, create_trial(state=TrialState.RUNNING))
