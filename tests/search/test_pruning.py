"""Pruners from the configuration, whose options count reports."""

from pathlib import Path

import optuna
import pytest
import yaml
from optuna import pruners
from optuna.trial import TrialState

from sweeper.importing import parse_target
from sweeper.search.pruning import build_pruner, set_up_brackets
from sweeper.types import InputError

CONF = Path(__file__).parents[2] / "conf" / "pruner"


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def named(name, **options):
    return {"_target_": f"optuna.pruners.{name}", **options}


def built(node, reports):
    return build_pruner(None if node is None else parse_target(node), reports)


def complete(values):
    return optuna.create_trial(value=values[-1], intermediate_values=dict(enumerate(values, start=1)))


def stopped_at(made, values, others=()):
    """After which report a trial with these values is stopped."""
    study = optuna.create_study(pruner=made)
    for other in others:
        study.add_trial(complete(other))
    trial = study.ask()
    for report, value in enumerate(values, start=1):
        trial.report(value, report)
        if trial.should_prune():
            return report
    return None


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_every_configured_pruner_can_be_made_and_prunes_nothing_at_the_first_report(name):
    bounds = {"upper": 9.5} if name == "threshold" else {}
    made = built({**yaml.safe_load((CONF / f"{name}.yaml").read_text()), **bounds}, 20)
    assert stopped_at(made, [9.0], [[1.0] * 20] * 9) is None


def test_no_pruner_never_prunes():
    assert isinstance(built(None, 4), pruners.NopPruner)
    assert stopped_at(built(None, 4), [9.0] * 4, [[1.0] * 4] * 9) is None


@pytest.mark.parametrize(("warmup", "expected"), [(0, 1), (1, 1), (3, 3), (4, 4)])
def test_the_median_is_of_complete_trials_at_the_same_report(warmup, expected):
    made = built(named("MedianPruner", n_startup_trials=2, n_warmup_steps=warmup), 4)
    others = [[1.0, 0.8, 0.6, 0.5]] * 3
    assert stopped_at(made, [2.0] * 4, others) == expected
    assert stopped_at(made, [2.0] * 4, others[:1]) is None
    assert stopped_at(made, [0.9, 0.7, 0.5, 0.4], others) is None


def test_successive_halving_has_its_rungs_at_reports():
    made = built(named("SuccessiveHalvingPruner", min_resource=2, reduction_factor=2), 8)
    study = optuna.create_study(pruner=made)
    stopped = []
    for value in (0.1, 0.9):
        trial = study.ask()
        for report in range(1, 9):
            trial.report(value, report)
            if trial.should_prune():
                stopped.append((value, report))
                break
    assert stopped == [(0.9, 2)]


def test_hyperband_knows_its_brackets_from_the_start():
    made = built(named("HyperbandPruner", min_resource=1, reduction_factor=3), 20)
    study = optuna.create_study(pruner=made, study_name="s")
    before = [made._get_bracket_id(study, optuna.create_trial(state=TrialState.RUNNING))]
    set_up_brackets(study)
    brackets = set()
    for _ in range(30):
        trial = study.ask()
        brackets.add(made._get_bracket_id(study, study.trials[trial.number]))
    assert before == [0]
    assert brackets == {0, 1, 2}
    assert made._max_resource == 20
    assert study.trials[0].system_attrs == {}


def test_hyperband_keeps_a_length_of_ones_own():
    assert built(named("HyperbandPruner", max_resource=9), 20)._max_resource == 9


def test_a_pruner_within_a_pruner():
    inner = named("ThresholdPruner", upper=1.0)
    made = built(named("PatientPruner", wrapped_pruner=inner, patience=1), 4)
    assert stopped_at(made, [2.0, 3.0, 4.0, 5.0]) == 3


@pytest.mark.parametrize(("percentile", "expected"), [(25.0, 1), (75.0, None)])
def test_the_percentile_keeps_the_best_share(percentile, expected):
    others = [[value] * 4 for value in (0.1, 0.3, 0.5, 0.7, 0.9)]
    made = built(named("PercentilePruner", percentile=percentile, n_startup_trials=2), 4)
    assert stopped_at(made, [0.4] * 4, others) == expected


def test_patience_waits_for_a_trial_that_improves():
    others = [[1.0, 0.8, 0.6, 0.5, 0.4, 0.3]] * 3
    configured = yaml.safe_load((CONF / "patient.yaml").read_text())
    configured["wrapped_pruner"] |= {"n_startup_trials": 2, "n_warmup_steps": 0}
    assert stopped_at(built(configured, 6), [2.0, 1.9, 1.8, 1.7, 1.6, 1.5], others) is None
    assert stopped_at(built(configured, 6), [2.0, 2.1, 2.2, 2.3, 2.4, 2.5], others) == 4
    assert stopped_at(built(configured["wrapped_pruner"], 6), [2.0, 1.9, 1.8, 1.7, 1.6, 1.5], others) == 1


@pytest.mark.parametrize(("bounds", "expected"), [({"upper": 2.0}, 3), ({"lower": 1.5}, 2), ({"upper": 9}, None)])
def test_a_threshold_stops_beyond_its_bounds(bounds, expected):
    assert stopped_at(built(named("ThresholdPruner", **bounds), 4), [1.9, 1.4, 2.1, 1.9]) == expected


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (named("Median"), r"pruner\._target_=optuna\.pruners\.Median: not found"),
        ({"_target_": "optuna.samplers.RandomSampler"}, r"pruner\._target_=.*: not a BasePruner"),
        (named("MedianPruner", n_warmup=4), r"pruner\.n_warmup=4: no such option of MedianPruner"),
        (named("MedianPruner", n_startup_trials=-1), r"pruner=MedianPruner: Number of startup trials cannot be neg"),
        (named("WilcoxonPruner"), r"pruner=WilcoxonPruner: compares instances"),
        (named("ThresholdPruner"), r"pruner=ThresholdPruner: has no bound\. Set pruner\.upper or pruner\.lower"),
        (named("ThresholdPruner", upper=1.0, lower=2.0), r"pruner=ThresholdPruner: lower should be smaller"),
        (
            named("PatientPruner", patience=1),
            r"pruner\.wrapped_pruner: missing, and patience alone would truncate good",
        ),
        (named("PatientPruner", wrapped_pruner=None, patience=1), r"pruner\.wrapped_pruner: missing"),
        (named("PatientPruner", wrapped_pruner=named("Nop"), patience=1), r"pruner\.wrapped_pruner\._target_=.*Nop"),
        (named("PatientPruner", wrapped_pruner=named("WilcoxonPruner"), patience=1), r"pruner\.wrapped_pruner=Wilcox"),
    ],
)
def test_what_cannot_be_a_pruner_is_named(node, said):
    with pytest.raises(InputError, match=said):
        built(node, 4)
