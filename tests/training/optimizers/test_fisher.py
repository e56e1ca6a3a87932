"""Exact natural gradient against Fisher matrices made by hand: over all classes, gradients' outer products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.training.optimizers.fisher import LARGEST, NaturalGradient, damped_solution, fisher_root
from sweeper.training.optimizers.looking import Forward
from sweeper.types import InputError

INPUTS, CLASSES, EXAMPLES = 4, 3, 6


class Task:
    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def forward(self, model: nn.Module, inputs_B: Tensor) -> Tensor:
        output_B: Tensor = model(inputs_B)
        return output_B


def cross_entropy(output_B: Tensor, target_B: Tensor) -> Tensor:
    return functional.cross_entropy(output_B, target_B, reduction="none")


def squared_error(output_B: Tensor, target_B: Tensor) -> Tensor:
    return (output_B - target_B).square().sum(1)


def made(hidden: int = 5) -> tuple[nn.Module, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Linear(INPUTS, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw))
    x = torch.randn(EXAMPLES, INPUTS, generator=draw).double()
    return model, x, torch.randint(0, CLASSES, (EXAMPLES,), generator=draw)


def seen(model: nn.Module, x: Tensor, y: Tensor, loss: Any = cross_entropy) -> Forward:
    output = model(x)
    return Forward(Task(loss), model, x, y, output, loss(output, y), 0)  # type: ignore[arg-type]


def fisher_by_hand(model: nn.Module, x: Tensor) -> Tensor:
    """1/B sum_b sum_c p(c | x_b) d log p(c | x_b) d log p(c | x_b)^T, one backward pass for each."""
    weights = list(model.parameters())
    total = torch.zeros(sum(w.numel() for w in weights), dtype=torch.float64)
    fisher = torch.outer(total, total)
    for example in x:
        log_p = model(example[None]).log_softmax(1)[0]
        for c in range(CLASSES):
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(log_p[c], weights, retain_graph=True)])
            fisher += log_p[c].exp().detach() * torch.outer(gradient, gradient) / len(x)
    return fisher


def test_of_a_classifier_it_is_the_exact_sum_over_all_classes() -> None:
    model, x, y = made()
    root = fisher_root(seen(model, x, y), list(model.parameters()))
    torch.testing.assert_close(root.T @ root, fisher_by_hand(model, x), rtol=1e-10, atol=1e-12)


def test_of_a_regression_it_is_the_jacobians_square() -> None:
    """Squared error is -log of a normal density of variance 1/2: its Fisher matrix is 2 J^T J / B."""
    model, x, _ = made()
    target = torch.ones(EXAMPLES, CLASSES, dtype=torch.float64)
    root = fisher_root(seen(model, x, target, squared_error), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(model, p, (x,)))(dict(model.named_parameters()))
    flat = torch.cat([jacobian[name].reshape(EXAMPLES * CLASSES, -1) for name in names], dim=1).detach()
    torch.testing.assert_close(root.T @ root, 2 * flat.T @ flat / EXAMPLES, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hidden", [2, 9])  # fewer weights than rows, and more
def test_a_step_is_the_solution_with_the_matrix_made_by_hand(hidden: int) -> None:
    model, x, y = made(hidden)
    fisher, before = fisher_by_hand(model, x), torch.cat([w.detach().flatten() for w in model.parameters()])
    optimizer = NaturalGradient(model.parameters(), lr=0.3, damping=0.01, weight_decay=0.1)
    forward = seen(model, x, y)
    optimizer.look(forward)
    forward.loss_B.mean().backward()
    gradient = torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
    optimizer.step()
    after = torch.cat([w.detach().flatten() for w in model.parameters()])
    natural = torch.linalg.solve(fisher + 0.01 * torch.eye(len(fisher), dtype=torch.float64), gradient)
    torch.testing.assert_close(after, before * (1 - 0.3 * 0.1) - 0.3 * natural, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
def test_both_ways_to_solve_agree(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    root, gradient = torch.randn(shape, generator=draw).double(), torch.randn(shape[1], generator=draw).double()
    expected = torch.linalg.solve(root.T @ root + 0.1 * torch.eye(shape[1], dtype=torch.float64), gradient)
    torch.testing.assert_close(damped_solution(root, gradient, 0.1), expected)


def test_momentum_is_of_natural_gradients() -> None:
    model, x, y = made()
    optimizer = NaturalGradient(model.parameters(), lr=0.1, momentum=0.5)
    moved, natural = [], []
    for _ in range(2):
        before = torch.cat([w.detach().flatten() for w in model.parameters()])
        forward = seen(model, x, y)
        optimizer.look(forward)
        optimizer.zero_grad()
        forward.loss_B.mean().backward()
        gradient = torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
        natural.append(damped_solution(fisher_root(seen(model, x, y), list(model.parameters())), gradient, 1e-3))
        optimizer.step()
        moved.append(torch.cat([w.detach().flatten() for w in model.parameters()]) - before)
    torch.testing.assert_close(moved[1], -0.1 * (natural[1] + 0.5 * natural[0]), rtol=1e-8, atol=1e-10)


def test_a_loss_without_a_fisher_matrix_is_refused() -> None:
    model, x, y = made()
    weight = torch.tensor([1.0, 5.0, 1.0], dtype=torch.float64)

    def weighted(output_B: Tensor, target_B: Tensor) -> Tensor:
        return functional.cross_entropy(output_B, target_B, weight=weight, reduction="none")

    with pytest.raises(InputError, match="no Fisher matrix"):
        NaturalGradient(model.parameters()).look(seen(model, x, y, weighted))


def test_a_matrix_that_is_too_large_is_refused_before_it_is_made() -> None:
    wide = nn.Linear(INPUTS, 3000).double()
    x, y = torch.zeros(20, INPUTS, dtype=torch.float64), torch.zeros(20, dtype=torch.long)
    assert 20 * 3000 * wide.weight.numel() > LARGEST
    forward = seen(wide, x, y)._replace(output_B=wide(x))
    with pytest.raises(InputError, match="too large"):
        fisher_root(forward, list(wide.parameters()))


def test_at_a_loss_that_is_not_finite_the_weights_stay() -> None:
    model, x, y = made()
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer = NaturalGradient(model.parameters(), lr=1.0)
    forward = seen(model, x * float("nan"), y)
    optimizer.look(forward)
    forward.loss_B.mean().backward()
    optimizer.step()
    for weight, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, old)
