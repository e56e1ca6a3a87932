"""What a trainer does for optimizers that want more than step()."""

from __future__ import annotations

from typing import Any

import pytorch_optimizer
import torch
from torch import nn

from sweeper.training.optimizers.looking import evaluated_weights, has_model_argument
from sweeper.training.optimizers.muon import Muon


def test_weights_to_evaluate_leave_the_training_where_it_was() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = pytorch_optimizer.ScheduleFreeSGD([weight], lr=0.1)
    with evaluated_weights(optimizer, [weight]):  # before the first update
        assert weight.tolist() == [1.0, 2.0]
    trained = []
    for _ in range(5):
        weight.grad = weight.detach().clone()
        optimizer.step()
        trained.append(weight.detach().clone())
    state = optimizer.state[weight]["z"].clone()
    with evaluated_weights(optimizer, [weight]):
        z = optimizer.state[weight]["z"]
        # y = 0.9 x + 0.1 z: the average is (y - 0.1 z) / 0.9
        torch.testing.assert_close(weight.detach(), (trained[-1] - 0.1 * z) / 0.9)
    assert torch.equal(weight, trained[-1])
    assert torch.equal(optimizer.state[weight]["z"], state)
    assert all(group["train_mode"] for group in optimizer.param_groups)


def test_others_evaluate_their_weights_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(2))
    with evaluated_weights(torch.optim.SGD([weight]), [weight]):
        assert weight.tolist() == [1.0, 1.0]


def test_a_constructor_that_asks_for_the_model_is_told_apart() -> None:
    def own(model: Any, lr: float) -> None: ...

    assert [has_model_argument(target) for target in (Muon, torch.optim.SGD, own)] == [True, False, True]
