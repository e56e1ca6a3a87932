"""Averaged SGD: torch's at a constant LR, its own time's LR at a changing one, and averages to evaluate."""

from __future__ import annotations

import numpy as np
import torch

from sweeper.training.optimizers.asgd import ASGD


def descend(optimizer: torch.optim.Optimizer, weight: torch.Tensor, lrs: list[float]) -> list[float]:
    seen = []
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = weight.detach() * 0.5
        optimizer.step()
        seen.append(weight.item())
    return seen


def one() -> torch.Tensor:
    return torch.ones(1, dtype=torch.float64, requires_grad=True)


def test_at_a_constant_lr_it_is_torchs() -> None:
    """But torch uses a share one update late in its average too, so its t0 is one less."""
    mine, theirs = one(), one()
    options = {"lambd": 0.01, "weight_decay": 0.1}
    ours = ASGD([mine], lr=0.25, t0=3, **options)
    torchs = torch.optim.ASGD([theirs], lr=0.25, t0=2, **options, foreach=False)
    found, expected = descend(ours, mine, [0.25] * 6), descend(torchs, theirs, [0.25] * 6)
    np.testing.assert_allclose(found, expected, rtol=1e-7)  # torch keeps its LR in float32
    torch.testing.assert_close(ours.state[mine]["average"], torchs.state[theirs]["ax"], rtol=1e-7, atol=0)


def test_each_update_uses_the_lr_of_its_time() -> None:
    weight = one()
    found = descend(ASGD([weight], lambd=0.0), weight, [0.5, 0.0, 0.2])
    np.testing.assert_allclose(found, [0.75, 0.75, 0.75 * 0.9], rtol=1e-15)


def test_what_is_evaluated_is_the_mean_of_all_weights_since_t0() -> None:
    weight = one()
    optimizer = ASGD([weight], lambd=0.0, t0=1)
    found = descend(optimizer, weight, [0.5, 0.4, 0.3, 0.2])
    optimizer.eval()
    torch.testing.assert_close(weight.item(), sum(found[1:]) / 3)
    optimizer.train()
    assert weight.item() == found[-1]
