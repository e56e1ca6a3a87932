"""The sorted percentile pruner decides as Optuna's own, report by report."""

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import MedianPruner, PercentilePruner

from sweeper.search.percentile import Percentile

REPORTS = 6
VALUES = st.sampled_from([-1.0, 0.0, 0.1, 0.3, 1.0, 1.0 / 3.0, 2.5, 7.0, float("inf")])
CURVES = st.lists(st.lists(VALUES, min_size=1, max_size=REPORTS), min_size=1, max_size=14)
PRUNERS = st.builds(
    PercentilePruner,
    st.sampled_from([0.0, 10.0, 25.0, 50.0, 66.6, 90.0, 100.0]),
    n_startup_trials=st.integers(0, 4),
    n_warmup_steps=st.integers(0, 4),
    interval_steps=st.integers(1, 3),
    n_min_trials=st.integers(1, 4),
) | st.builds(MedianPruner, n_startup_trials=st.integers(0, 4), n_warmup_steps=st.integers(0, 4))


@settings(max_examples=150)
@given(curves=CURVES, pruner=PRUNERS, direction=st.sampled_from(["minimize", "maximize"]))
def test_it_decides_as_optuna_does(curves, pruner, direction):
    ours = Percentile(pruner)
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    for curve in curves:
        trial = study.ask()
        for report, value in enumerate(curve, start=1):
            trial.report(value, report)
            frozen = study._storage.get_trial(trial._trial_id)
            with np.errstate(invalid="ignore"):  # of inf - inf, where Optuna interpolates
                expected = pruner.prune(study, frozen)
            assert ours.prune(study, frozen) == expected
        study.tell(trial, curve[-1])


@pytest.mark.parametrize("pruner", [MedianPruner(n_startup_trials=0), PercentilePruner(25.0, n_startup_trials=1)])
def test_a_trial_without_a_report_and_a_study_without_a_trial(pruner):
    study = optuna.create_study()
    trial = study.ask()
    assert not Percentile(pruner).prune(study, study._storage.get_trial(trial._trial_id))
