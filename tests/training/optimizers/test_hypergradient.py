"""Hypergradient descent against its formula, written out by hand; with hyper_lr=0 it is the optimizer itself."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sweeper.training.optimizers.hypergradient import adam, sgd

STEPS = 12
LRS = np.linspace(0.1, 0.02, STEPS)


def weights() -> list[Tensor]:
    return [torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.tensor([[0.3]], dtype=torch.float64)]


def gradient(weight: Tensor, update: int) -> Tensor:
    """Of a bowl, with a disturbance that changes with the update."""
    return weight * torch.tensor(0.5 + 0.2 * np.sin(update))


def run(make: Any, **options: Any) -> tuple[list[Tensor], list[float]]:
    mine = [weight.requires_grad_() for weight in weights()]
    optimizer, multipliers = make(mine, lr=1.0, **options), []
    for update, lr in enumerate(LRS):
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        for weight in mine:
            weight.grad = gradient(weight.detach(), update)
        optimizer.step()
        if hasattr(optimizer, "multiplier"):
            multipliers.append(float(optimizer.multiplier()))
    return [weight.detach() for weight in mine], multipliers


@pytest.mark.parametrize("hyper_lr", [0.01, 0.3])
def test_sgd_hd_is_the_papers_multiplicative_rule(hyper_lr: float) -> None:
    """Without momentum the last step was -LR g_{t-1}, so m_t = m_{t-1} (1 + hyper_lr cos(g_t, g_{t-1}))."""
    flat = torch.cat([weight.flatten() for weight in weights()])
    m, last, expected = 1.0, None, []
    for update, lr in enumerate(LRS):
        g = gradient(flat, update)
        if last is not None:
            m *= 1 + hyper_lr * float(torch.cosine_similarity(g, last, dim=0))
        flat, last = flat - lr * m * g, g
        expected.append(m)
    found, multipliers = run(sgd, hyper_lr=hyper_lr)
    np.testing.assert_allclose(multipliers, expected, rtol=1e-10)
    torch.testing.assert_close(torch.cat([weight.flatten() for weight in found]), flat, rtol=1e-10, atol=1e-12)
    assert multipliers[-1] > 1  # the bowl goes on: longer steps are better


@pytest.mark.parametrize(
    ("make", "plain", "options"),
    [
        (sgd, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (adam, torch.optim.AdamW, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    ],
)
def test_with_hyper_lr_0_it_is_the_optimizer_inside(make: Any, plain: Any, options: dict[str, Any]) -> None:
    found, multipliers = run(make, hyper_lr=0.0, **options)
    expected, _ = run(plain, **options)
    assert multipliers == [1.0] * STEPS
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_a_gradient_that_turns_shortens_the_steps() -> None:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = sgd([weight], lr=0.1, hyper_lr=0.1)
    for update in range(5):
        weight.grad = torch.tensor([(-1.0) ** update], dtype=torch.float64)
        optimizer.step()
    assert float(optimizer.multiplier()) == pytest.approx(0.9**4)


def test_a_restored_state_goes_on_alike() -> None:
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    one = adam([weight], lr=0.1)
    for update in range(3):
        weight.grad = gradient(weight.detach(), update)
        one.step()
    twin = weight.detach().clone().requires_grad_()
    other = adam([twin], lr=0.1)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for mine, optimizer in ((weight, one), (twin, other)):
        mine.grad = gradient(mine.detach(), 3)
        optimizer.step()
    assert torch.equal(weight, twin)
    assert torch.equal(one.multiplier(), other.multiplier())


def test_a_hyper_lr_that_could_turn_the_lr_around_is_refused() -> None:
    with pytest.raises(ValueError, match="hyper_lr"):
        sgd([torch.zeros(1, requires_grad=True)], lr=0.1, hyper_lr=1.0)
