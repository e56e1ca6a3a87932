"""What separates better trials from others, on trials whose objective is known."""

import subprocess
import sys

import numpy as np
import optuna
import pytest

from sweeper.search.importance import LEAST, importances

SPACE = {
    "peak_lr": optuna.distributions.FloatDistribution(1e-3, 3.0, log=True),
    "decay": optuna.distributions.FloatDistribution(0.0, 0.5),
    "warmup": optuna.distributions.CategoricalDistribution([0, 0.05, 0.1]),
}


def trials(count, value):
    draw = np.random.default_rng(0)
    points = [
        {"peak_lr": 10 ** draw.uniform(-3, 0.4), "decay": draw.uniform(0, 0.5), "warmup": draw.choice([0, 0.05, 0.1])}
        for _ in range(count)
    ]
    return [optuna.create_trial(params=point, distributions=SPACE, value=value(point)) for point in points]


def bowl(point):
    return (np.log10(point["peak_lr"]) + 1) ** 2 + 0.1 * point["decay"]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_the_objective_hangs_on_comes_first(sign):
    of_number = importances(trials(40, lambda point: sign * bowl(point)), "minimize" if sign == 1 else "maximize")
    assert next(iter(of_number)) == "peak_lr"
    assert of_number["peak_lr"] > 0.8
    assert sum(of_number.values()) == pytest.approx(1)
    assert list(of_number.values()) == sorted(of_number.values(), reverse=True)


def test_the_worse_half_is_another_question():
    assert importances(trials(40, bowl), "maximize") != importances(trials(40, bowl), "minimize")


def test_too_few_trials_say_nothing_and_neither_do_equal_ones():
    assert importances(trials(LEAST - 1, bowl), "minimize") == {}
    assert importances(trials(LEAST, bowl), "minimize") != {}
    assert importances(trials(20, lambda _: 1.0), "minimize") == {}


def test_with_nothing_searched_nothing_matters():
    assert importances([optuna.create_trial(value=1.0)] * 20, "minimize") == {}


D = optuna.distributions
KINDS = {
    "float": D.FloatDistribution(-1.0, 2.0),
    "log": D.FloatDistribution(1e-4, 1.0, log=True),
    "stepped": D.FloatDistribution(0.0, 0.5, step=0.05),
    "whole": D.IntDistribution(1, 9),
    "wide": D.IntDistribution(1, 900),
    "whole log": D.IntDistribution(1, 4096, log=True),
    "choice": D.CategoricalDistribution(["a", "b", "c", "d"]),
    "one": D.CategoricalDistribution(["only"]),
    "fixed": D.FloatDistribution(0.5, 0.5),
}


@pytest.mark.filterwarnings("ignore")  # Optuna's own, of ranges whose last step does not end at their end
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("count", [LEAST, 37, 400])
def test_shares_are_those_of_optuna(count, direction, seed):
    """Values of half a digit, so that some are equal; some hyperparameters matter and others do not."""
    draw = np.random.default_rng(seed)
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(count):
        trial = study.ask(KINDS)
        point = trial.params
        value = abs(point["float"] - 0.3) + 0.2 * (point["choice"] == "b") + np.log10(point["log"]) * draw.normal()
        study.tell(trial, round(2 * value) / 2 + point["whole"] / 10)
    own = importances(study.trials, direction)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
    theirs = evaluator.evaluate(study, params=list(KINDS))
    total = sum(theirs.values())
    assert own == pytest.approx({name: value / total for name, value in theirs.items()}, abs=1e-9)
    assert list(own.values()) == sorted(own.values(), reverse=True)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from sweeper.search.importance import importances\n"
        "import optuna; study = optuna.create_study()\n"
        "study.optimize(lambda trial: trial.suggest_float('x', 0, 1), n_trials=20)\n"
        "assert importances(study.trials, 'minimize') == {'x': 1.0}\n"
        "assert not {'sklearn', 'scipy.stats'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
