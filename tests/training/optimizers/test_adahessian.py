"""AdaHessian: on a bowl its estimate is the Hessian's diagonal itself; its signs are counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sweeper.training.optimizers.adahessian import AdaHessian
from sweeper.training.optimizers.looking import Forward

CURVATURES = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64)


class Bowl(nn.Module):
    """Half of CURVATURES w^2, and a sine that couples no weights; `unused` has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))


def seen(model: Bowl, key: int) -> Forward:
    loss_B = ((CURVATURES * model.w.square()).sum() / 2)[None]
    return Forward(None, model, None, torch.zeros(1), loss_B, loss_B, key)  # type: ignore[arg-type]


def test_on_a_bowl_the_estimate_is_exact_and_a_first_step_is_newtons() -> None:
    model = Bowl()
    before = model.w.detach().clone()
    optimizer = AdaHessian(model.parameters(), lr=0.1)
    forward = seen(model, 3)
    optimizer.look(forward)
    forward.loss_B.mean().backward()
    optimizer.step()
    # m / (1 - beta1) = g, and sqrt(v / (1 - beta2)) = |h|: the step is LR g / |h| = LR w.
    torch.testing.assert_close(model.w.detach(), before - 0.1 * before)
    assert torch.equal(model.unused.detach(), torch.ones(2, dtype=torch.float64))


def test_the_signs_are_a_function_of_the_key_and_draw_from_no_generator() -> None:
    class Coupled(Bowl):
        def forward(self) -> Tensor:
            return self.w.prod()[None]

    def estimate(key: int) -> Tensor:
        model = Coupled()
        loss_B = model()
        optimizer = AdaHessian(model.parameters())
        optimizer.look(Forward(None, model, None, torch.zeros(1), loss_B, loss_B, key))  # type: ignore[arg-type]
        loss_B.mean().backward()
        optimizer.step()
        found: Tensor = optimizer.state[model.w]["hessian"]
        return found

    state = torch.get_rng_state()
    found = [estimate(key) for key in range(64)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(estimate(5), found[5])
    assert len({tuple(one.tolist()) for one in found}) > 1
    mean = torch.stack(found).mean(0)  # the diagonal of a product is 0; an entry is at most 4 wide, or 0.5 of spread
    torch.testing.assert_close(mean, torch.zeros(3, dtype=torch.float64), atol=1.5, rtol=0)


@pytest.mark.parametrize("period", [1, 3])
def test_estimates_are_renewed_as_often_as_asked(period: int) -> None:
    model = Bowl()
    optimizer = AdaHessian(model.parameters(), update_period=period)
    renewed = []
    for update in range(6):
        forward = seen(model, update)
        optimizer.look(forward)
        renewed.append(optimizer._hessian is not None)
        optimizer.zero_grad()
        forward.loss_B.mean().backward()
        optimizer.step()
    assert renewed == [update % period == 0 for update in range(6)]
