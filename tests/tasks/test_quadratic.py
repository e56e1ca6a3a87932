"""The noisy quadratic: its exact expected loss against many trainings, and the trainer that computes it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sweeper
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised
from sweeper.tasks.quadratic import BATCH, NOISE, UNTRAINED, Point, Quadratic, curvatures, expected_loss
from sweeper.training.expected import ExpectedTrainer
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.types import InputError

STEPS = 60


def test_the_first_update_by_hand():
    s_K, lr = curvatures(), 0.3
    noise = s_K.sum() + NOISE
    p_K = (1 - lr * s_K) ** 2 + lr**2 * s_K * noise / BATCH
    assert expected_loss(np.array([lr]))[0] == pytest.approx((s_K * p_K).sum() / 2, rel=1e-14)


def test_schedules_beside_each_other_are_computed_as_alone():
    lr_LS = np.random.default_rng(0).uniform(0.01, 1, (3, STEPS))
    assert expected_loss(lr_LS)[1] == pytest.approx(expected_loss(lr_LS[1]), rel=1e-12)


def test_too_high_an_lr_is_infinite_without_a_warning():
    assert expected_loss(np.full(2000, 50.0))[-1] == math.inf


def test_the_mean_of_many_trainings_is_the_expected_loss():
    """2,000 points side by side, trained by the model's own gradients."""
    runs, lr_S = 2000, np.linspace(0.8, 0.01, STEPS)
    generator, point = torch.Generator().manual_seed(0), Point().double()
    x_RK = torch.ones(runs, len(point.x), dtype=torch.float64)
    gradient = torch.func.vmap(
        torch.func.grad(lambda x, noise: torch.func.functional_call(point, {"x": x}, (noise,)).mean())
    )
    for lr in lr_S:
        x_RK = x_RK - lr * gradient(x_RK, torch.randn(runs, BATCH, x_RK.shape[1], generator=generator).double())
    loss_R = (x_RK**2 @ point.s) / 2
    error = float(loss_R.std()) / math.sqrt(runs)
    assert expected_loss(lr_S)[-1] == pytest.approx(float(loss_R.mean()), abs=4 * error)


def test_the_untrained_model_has_the_loss_that_the_task_states():
    task = Supervised(Quadratic(), Point)
    inputs, _ = task.fetch("valid", 0, torch.tensor([0]))
    assert task.forward(task.build(0), inputs).item() == pytest.approx(UNTRAINED, rel=1e-6)


def test_a_sweep_computes_its_trials(tmp_path):
    asked = {"experiment": "quadratic", "n_trials": 6, "tracking": "none", "root": tmp_path}
    sweep = sweeper.sweep(Supervised(Quadratic(), Point), ["constant", "linear"], **asked)
    best = sweep.best
    expected = expected_loss(sweep.lr(best))
    assert best["value"] == pytest.approx(math.log(expected[-1]), rel=1e-12)
    assert np.array_equal(sweep.trace(best)["train/loss"].dropna(), expected)


def test_it_refuses_other_tasks_and_optimizers():
    other, own = Supervised(Digits(), MLP), Supervised(Quadratic(), Point)
    sgd = OptimizerSpec("torch.optim.SGD", {"momentum": 0.9})
    with pytest.raises(InputError, match="trainer=expected: the expected loss of this task is not known"):
        ExpectedTrainer(other, Recipe(OptimizerSpec("torch.optim.SGD"), BATCH))
    with pytest.raises(InputError, match="the expected loss is that of plain SGD"):
        ExpectedTrainer(own, Recipe(sgd, BATCH))
    with pytest.raises(InputError, match="batch_size=32: the expected loss holds for 4 examples"):
        ExpectedTrainer(own, Recipe(OptimizerSpec("torch.optim.SGD"), 32))


def test_an_expected_loss_does_not_depend_on_the_others_beside_it():
    """To the last bit: equal trials of two families must stay equal."""
    lr_LS = np.geomspace(1e-3, 3, 17)[:, None] * np.linspace(1, 0.1, 60)
    alone_LS = np.stack([expected_loss(lr_S) for lr_S in lr_LS])
    np.testing.assert_array_equal(expected_loss(lr_LS), alone_LS)
