"""TPE of many trials: few others give the picture that all of them give."""

import itertools
import math
import statistics

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from sweeper.search.tpe import BEST, TPE, select_trials

SPACE = {
    "peak_lr": optuna.distributions.FloatDistribution(1e-4, 10, log=True),
    "decay": optuna.distributions.FloatDistribution(1e-3, 1, log=True),
}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def loss(params):
    return (math.log10(params["peak_lr"]) + 1) ** 2 + 0.3 * (math.log10(params["decay"]) + 2) ** 2


def study_of(count, seed=0):
    """So many random trials, every seventh pruned."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for number in range(count):
        trial = study.ask(SPACE)
        if number % 7:
            study.tell(trial, loss(trial.params))
        else:
            trial.report(loss(trial.params), 1)
            study.tell(trial, state=TrialState.PRUNED)
    return study


def proposed(study, sampler, count):
    study.sampler = sampler
    return [study.ask(SPACE).params for _ in range(count)]


def trials(count, running=(), pruned=()):
    """Each worse than the one before."""
    made = [create_trial(value=float(number), params={}) for number in range(count)]
    for number, trial in enumerate(made):
        trial.number = number
        trial.state = TrialState.RUNNING if number in running else TrialState.COMPLETE
        if number in pruned:
            trial.state, trial.value = TrialState.PRUNED, None
    return made


def numbers(found):
    return [trial.number for trial in found]


@pytest.mark.parametrize("count", [1, 3, 39, 40, 65, 66, 999, 1000, 1001, 12_345])
def test_what_is_shown_is_the_best_and_an_even_spread_with_the_newest(count):
    shown = numbers(select_trials(trials(count), StudyDirection.MINIMIZE, others=40))
    assert shown == sorted(set(shown))
    assert shown[-1] == count - 1
    if count <= BEST + 40:
        assert shown == list(range(count))
        return
    assert shown[:BEST] == list(range(BEST))
    gaps = {after - before for before, after in itertools.pairwise(place for place in shown if place >= BEST)}
    assert gaps <= {count // 40, -(-count // 40)}
    assert set(numbers(select_trials(trials(count), StudyDirection.MAXIMIZE, others=40))) >= set(
        range(count - BEST, count)
    )


def test_trials_that_run_are_shown_and_pruned_ones_are_among_the_others():
    shown = numbers(
        select_trials(trials(500, running={0, 7, 499}, pruned=range(100, 500)), StudyDirection.MINIMIZE, others=40)
    )
    assert shown == sorted(shown)
    assert {0, 7, 499} <= set(shown)
    assert {1, 2, 3, *range(8, BEST + 2)} <= set(shown)
    assert 30 <= sum(number >= 100 for number in shown) <= 33


def test_without_enough_complete_trials_all_are_shown():
    given = trials(500, pruned=range(BEST - 1, 500))
    assert select_trials(given, StudyDirection.MINIMIZE, others=40) == given


def test_a_study_that_is_not_large_is_searched_as_optuna_does(monkeypatch):
    options = {"multivariate": True, "seed": 3}
    reference = proposed(study_of(200), TPESampler(**options), 5)
    assert proposed(study_of(200), TPE(**options), 5) == reference
    monkeypatch.setattr(select_trials, "__defaults__", (100,))
    assert proposed(study_of(200), TPE(**options), 5) != reference


@pytest.mark.slow
def test_a_large_study_proposes_points_as_good_as_optunas():
    """The median loss of 60 proposals after 4,000 random trials, over three studies; a random point's is about 2.

    Those of Optuna's TPE are a little nearer: 0.013 against 0.02.
    """
    ratios = []
    for seed in range(3):
        medians = [
            statistics.median(
                loss(point) for point in proposed(study_of(4500, seed), kind(multivariate=True, seed=0), 60)
            )
            for kind in (TPE, TPESampler)
        ]
        assert medians[0] < 0.1
        ratios.append(medians[0] / medians[1])
    assert 0.5 < statistics.geometric_mean(ratios) < 2
