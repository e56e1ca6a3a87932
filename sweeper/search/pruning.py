"""Build the pruner that the configuration names. Its options count reports, whatever the number of updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    NopPruner,
    PatientPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from sweeper.importing import Target
from sweeper.search.target import build
from sweeper.types import InputError

KEY = "pruner"


def build_pruner(target: Target | None, reports: int) -> BasePruner:
    """Build the pruner that a study names.

    Args:
        target: The pruner's class and options; None never prunes.
        reports: How often a trial reports.

    Raises:
        InputError: The pruner cannot be built or used.
    """

    def complete(key: str, kind: type, target: Target) -> Mapping[str, Any]:
        options = target.options
        if issubclass(kind, WilcoxonPruner):
            raise InputError(
                key, kind.__name__, "compares instances of a problem, not reports", "Choose another pruner"
            )
        if issubclass(kind, ThresholdPruner) and options.get("lower") is options.get("upper") is None:
            raise InputError(
                key,
                kind.__name__,
                "has no bound",
                f"Set {key}.upper or {key}.lower to a value of the metric",
            )
        if issubclass(kind, PatientPruner) and options.get("wrapped_pruner") is None:
            raise InputError(
                f"{key}.wrapped_pruner",
                None,
                "missing, and patience alone would truncate good trials too",
                "Name the pruner whose decisions it delays, as in conf/pruner/patient.yaml",
            )
        if issubclass(kind, HyperbandPruner) and options.get("max_resource", "auto") == "auto":
            return {**options, "max_resource": reports}
        return options

    if target is None:
        return NopPruner()
    pruner: BasePruner = build(KEY, target, BasePruner, complete)
    return pruner


def set_up_brackets(study: Study) -> None:
    """Make Hyperband create its brackets now.

    It would do so at its first decision, and until then show a sampler the trials of all brackets. The first asks after
    a restart would then differ from those of an uninterrupted sweep. Optuna's samplers see the whole study in either
    case, but a user's sampler may not.
    """
    if isinstance(study.pruner, HyperbandPruner):
        study.pruner.prune(study, create_trial(state=TrialState.RUNNING))
