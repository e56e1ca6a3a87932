"""Samplers and pruners are tried on a short study, so that what fails in use fails before anything is written."""

import optuna
import pytest

from sweeper.importing import parse_target
from sweeper.schedules import family
from sweeper.search.objective import Objective
from sweeper.search.plan import StudyPlan, Terms
from sweeper.search.study import build_studies
from sweeper.search.tryout import try_out
from sweeper.types import InputError

COSINE = family("cosine", {"factor": "cosine", "peak_lr": {"low": 1e-3, "high": 1, "log": True}, "decay": 0.1})
TERMS = Terms(seed=0, report_steps=(2, 4, 6, 8), concurrent=2, objective=Objective(), untrained_loss=2.3)
TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2}


class Sampler(optuna.samplers.RandomSampler):
    """It fails at its third trial."""

    def sample_relative(self, study, trial, search_space):
        if len(study.trials) > 2:
            raise RuntimeError("too many trials")
        return super().sample_relative(study, trial, search_space)


class Pruner(optuna.pruners.NopPruner):
    """It fails at its first decision."""

    def prune(self, study, trial):
        raise KeyError("report")


def tried(sampler=TPE, pruner=None):
    named = None if pruner is None else parse_target(pruner)
    try_out(build_studies([StudyPlan("cosine-1", COSINE, parse_target(sampler), named, 4)], TERMS))


@pytest.mark.parametrize("name", ["MedianPruner", "HyperbandPruner", "SuccessiveHalvingPruner", "NopPruner"])
def test_what_works_passes(name):
    tried(pruner={"_target_": f"optuna.pruners.{name}"})


@pytest.mark.parametrize(
    ("sampler", "pruner", "told"),
    [
        ({"_target_": f"{__name__}.Sampler"}, None, r"search\.sampler=Sampler: fails in use \(RuntimeError: too many"),
        ({"_target_": f"{__name__}.Sampler"}, {"_target_": f"{__name__}.Pruner"}, r"pruner=Pruner: fails in use \(Key"),
        (
            TPE,
            {"_target_": "optuna.pruners.HyperbandPruner", "reduction_factor": 1},
            "pruner=HyperbandPruner: fails in",
        ),
        (
            TPE,
            {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 0},
            "pruner=HyperbandPruner: fails in use",
        ),
    ],
)
def test_what_fails_in_use_is_told(sampler, pruner, told):
    with pytest.raises(InputError, match=told):
        tried(sampler, pruner)


def test_the_verbosity_of_optuna_stays():
    before = optuna.logging.get_verbosity()
    tried()
    assert optuna.logging.get_verbosity() == before
