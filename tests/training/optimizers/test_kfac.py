"""K-FAC: exact where its assumption holds; its averages, its draws, what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.training.optimizers.fisher import fisher_root
from sweeper.training.optimizers.kfac import KFAC, average_factors, damped_inverse, kfac_operator, loss_of
from sweeper.training.optimizers.looking import Forward
from sweeper.types import InputError

EXAMPLES, CLASSES = 16, 3


class Task:
    def forward(self, model: nn.Module, inputs_B: Tensor) -> Tensor:
        output_B: Tensor = model(inputs_B)
        return output_B

    def loss(self, output_B: Tensor, target_B: Tensor) -> Tensor:
        return functional.cross_entropy(output_B, target_B, reduction="none")


def seen(model: nn.Module, x: Tensor, key: int = 1) -> Forward:
    y = torch.arange(len(x)) % CLASSES
    output = model(x)
    return Forward(Task(), model, x, y, output, functional.cross_entropy(output, y, reduction="none"), key)  # type: ignore[arg-type]


def classifier(*before: nn.Module, inputs: int = 4) -> nn.Module:
    model = nn.Sequential(*before, nn.Linear(inputs, CLASSES)).double()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw))
    return model


def inputs(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).double()


def test_equal_inputs_of_one_layer_make_the_kronecker_product_the_fisher_matrix() -> None:
    """Input and output gradient are then independent, which is all that K-FAC assumes of a single layer."""
    model = classifier()
    x = inputs(1, 4).expand(EXAMPLES, 4).contiguous()
    forward = seen(model, x)
    root = fisher_root(forward, list(model.parameters()))
    factors = kfac_operator(forward, nn.CrossEntropyLoss(), list(model.parameters()), "type-2").state_dict()
    a, g = factors["input_covariances"]["model.0"], factors["gradient_covariances"]["model.0"]
    product = torch.einsum("ij,kl->ikjl", g, a)  # by output and by input and bias
    fisher = (root.T @ root).detach()
    by_weight = product[:, :4, :, :4].reshape(12, 12)
    torch.testing.assert_close(by_weight, fisher[:12, :12], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(product[:, 4, :, 4], fisher[12:, 12:], rtol=1e-9, atol=1e-12)


def test_a_first_step_is_the_damped_inverse_of_the_factors_by_hand() -> None:
    model, x = classifier(nn.Linear(4, 4), nn.Tanh()), inputs(EXAMPLES, 4)
    forward = seen(model, x)
    operator = kfac_operator(forward, nn.CrossEntropyLoss(), list(model.parameters()), "type-2")
    a = operator.state_dict()["input_covariances"]["model.2"]
    g = operator.state_dict()["gradient_covariances"]["model.2"]
    pi = ((a.trace() / len(a)) / (g.trace() / len(g))).sqrt()
    optimizer = KFAC(model.parameters(), lr=0.2, damping=0.01, momentum=0.0, fisher="type-2")
    last = model[2]  # type: ignore[index]
    before = torch.cat([last.weight, last.bias[:, None]], dim=1).detach().clone()
    optimizer.look(forward)
    forward.loss_B.mean().backward()
    gradient = torch.cat([last.weight.grad, last.bias.grad[:, None]], dim=1)
    optimizer.step()
    damped_a = a + pi * 0.1 * torch.eye(len(a), dtype=a.dtype)
    damped_g = g + 0.1 / pi * torch.eye(len(g), dtype=g.dtype)
    natural = torch.linalg.solve(damped_g, gradient) @ torch.linalg.inv(damped_a)
    after = torch.cat([last.weight, last.bias[:, None]], dim=1).detach()
    torch.testing.assert_close(after, before - 0.2 * natural, rtol=1e-8, atol=1e-10)


def test_factors_are_averages_over_all_updates_then_running_ones() -> None:
    model, x = classifier(), inputs(EXAMPLES, 4)
    found, state = [], {}  # type: ignore[var-annotated]
    for update in range(4):
        operator = kfac_operator(seen(model, x + update), nn.CrossEntropyLoss(), list(model.parameters()), "type-2")
        found.append(operator.state_dict()["input_covariances"]["model.0"].clone())
        average_factors(operator, "model.0", state, average=0.6)
    mean = (found[0] + found[1]) / 2
    running = 0.6 * (0.6 * mean + 0.4 * found[2]) + 0.4 * found[3]
    torch.testing.assert_close(state["input_factor"], running)


def test_drawn_labels_are_counted_by_the_key() -> None:
    model, x = classifier(), inputs(EXAMPLES, 4)

    def drawn(key: int) -> Tensor:
        operator = kfac_operator(seen(model, x, key), nn.CrossEntropyLoss(), list(model.parameters()), "mc")
        factor: Tensor = operator.state_dict()["gradient_covariances"]["model.0"]
        return factor

    torch.manual_seed(1)
    one = drawn(7)
    state = torch.get_rng_state()
    assert torch.equal(drawn(7), one)
    assert not torch.equal(drawn(8), one)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_weights_follow_their_gradient_and_statistics_are_left_alone() -> None:
    model, x = classifier(nn.Linear(4, 4), nn.BatchNorm1d(4)), inputs(EXAMPLES, 4)
    forward = seen(model, x)
    norm = model[1]  # type: ignore[index]
    mean, before = norm.running_mean.clone(), norm.weight.detach().clone()
    optimizer = KFAC(model.parameters(), lr=0.2, momentum=0.0)
    optimizer.look(forward)
    assert torch.equal(norm.running_mean, mean)
    forward.loss_B.mean().backward()
    optimizer.step()
    torch.testing.assert_close(norm.weight.detach(), before - 0.2 * norm.weight.grad)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()], ids=str)
def test_a_loss_is_known_by_its_value(loss: Any) -> None:
    model, x = classifier(), inputs(EXAMPLES, 4)
    output = model(x)
    target = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(EXAMPLES) % CLASSES]
    forward = seen(model, x)._replace(target_B=target, loss_B=loss(output, target)[None])
    assert type(loss_of(forward)) is type(loss)
    with pytest.raises(InputError, match="cross-entropy"):
        loss_of(forward._replace(loss_B=torch.full((1,), 123.0).double()))


def test_sequences_share_their_layers_weights() -> None:
    model, x = classifier(nn.Linear(4, 4), nn.Tanh()), inputs(EXAMPLES, 5, 4)
    y = torch.zeros(EXAMPLES, 5, dtype=torch.long)
    output = model(x)
    loss_B = functional.cross_entropy(output.flatten(0, 1), y.flatten(), reduction="none").view(EXAMPLES, 5).mean(1)
    forward = Forward(Task(), model, x, y, output, loss_B, 1)  # type: ignore[arg-type]
    operator = kfac_operator(forward, nn.CrossEntropyLoss(), list(model.parameters()), "type-2")
    gradients = torch.autograd.grad(loss_B.mean(), list(model.parameters()))
    natural = damped_inverse(operator, 1e-2) @ list(gradients)
    assert sum((one * other).sum() for one, other in zip(natural, gradients, strict=True)) > 0
    assert [one.shape for one in natural] == [other.shape for other in gradients]


def test_a_model_without_such_layers_is_refused() -> None:
    model = nn.LayerNorm(CLASSES).double()
    with pytest.raises(InputError, match="no linear"):
        KFAC(model.parameters()).look(seen(model, inputs(EXAMPLES, CLASSES)))


@pytest.mark.parametrize("options", [{"damping": 0.0}, {"average": 1.0}, {"fisher": "exact"}])
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        KFAC(nn.Linear(2, 2).parameters(), **options)
