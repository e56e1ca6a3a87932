"""Measure how well K-FAC's step agrees with the exact natural gradient: python benchmarks/natural_gradient.py

Each of the two trains a small classifier of digits. At some updates, the direction (F + damping I)^-1 g is computed at
the same weights and on the same batch: with the exact Fisher matrix, and with K-FAC's factors of that batch alone, by
the exact sum over classes and by one drawn label. The output is the cosine of the angle between each and the exact
direction. The cosine of the plain gradient is printed for comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised
from sweeper.training.optimizers.fisher import NaturalGradient, damped_solution, fisher_root
from sweeper.training.optimizers.kfac import KFAC, damped_inverse, kfac_operator
from sweeper.training.optimizers.looking import Forward
from sweeper.training.randomness import batches

WIDTH, DEPTH, BATCH, UPDATES = 16, 2, 64, 100
LOOKS = (0, 10, 30, 100)
DAMPINGS = (1e-1, 1e-2, 1e-3)


def main() -> None:
    torch.set_num_threads(1)
    task = Supervised(Digits(), lambda inputs, outputs: MLP(inputs, outputs, width=WIDTH, depth=DEPTH))
    print("cosine to the exact natural gradient")
    print(
        f"{'trained by':>16} {'update':>7} {'loss':>7} {'damping':>8} {'K-FAC, exact':>13} {'drawn':>7} {'gradient':>9}"
    )
    for name, make in (
        ("exact Fisher", lambda weights: NaturalGradient(weights, lr=0.1, damping=1e-2)),
        ("K-FAC", lambda weights: KFAC(weights, lr=0.01, damping=1e-2)),
    ):
        model = task.build(0).double()
        optimizer = make(model.parameters())
        for update, index_B in enumerate(batches(0, 0, UPDATES + 1, BATCH, task.size("train", 0))):
            forward = run_forward(task, model, torch.from_numpy(index_B), update)
            if update in LOOKS:
                for damping in DAMPINGS:
                    exact, drawn, plain = cosines(forward, damping)
                    loss = forward.loss_B.mean().item()
                    print(f"{name:>16} {update:7d} {loss:7.3f} {damping:8g} {exact:13.2f} {drawn:7.2f} {plain:9.2f}")
            optimizer.look(forward)
            optimizer.zero_grad()
            forward.loss_B.mean().backward()
            optimizer.step()


def run_forward(task: Supervised, model: nn.Module, index_B: Tensor, key: int) -> Forward:
    """Run the forward pass of an update in float64."""
    inputs_B, target_B = task.fetch("train", 0, index_B)
    inputs_B = inputs_B.double()
    output_B = task.forward(model, inputs_B)
    return Forward(task, model, inputs_B, target_B, output_B, task.loss(output_B, target_B), key)


def cosines(forward: Forward, damping: float) -> tuple[float, float, float]:
    """Return the cosines of three directions to the exact one.

    The directions are K-FAC's with the exact sum over classes, K-FAC's with drawn labels, and the gradient.
    """
    weights = list(forward.model.parameters())
    gradients = torch.autograd.grad(forward.loss_B.mean(), weights, retain_graph=True)
    gradient_P = flat(gradients)
    exact_P = damped_solution(fisher_root(forward, weights), gradient_P, damping)
    directions = [gradient_P]
    for fisher in ("mc", "type-2"):
        operator = kfac_operator(forward, nn.CrossEntropyLoss(), weights, fisher)
        directions.insert(0, flat(damped_inverse(operator, damping) @ list(gradients)))
    exact, drawn, plain = (torch.cosine_similarity(one, exact_P, dim=0).item() for one in directions)
    return exact, drawn, plain


def flat(tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


if __name__ == "__main__":
    main()
