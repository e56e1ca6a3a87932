"""What separates better trials from others, on trials whose objective is known."""

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
