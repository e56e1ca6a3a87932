"""K-FAC (Martens and Grosse 2015, arXiv 1503.05671): natural gradient with a Kronecker-factored Fisher matrix.

curvlinops computes the factors and their damped inverse, for linear and convolutional layers, including layers whose
weights are shared along a sequence. This module adds running averages of the factors, momentum and weight decay. Other
weights (embeddings, normalization) follow their plain gradient.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from sweeper.training.optimizers.descent import descend
from sweeper.training.optimizers.looking import Forward
from sweeper.types import InputError

FACTORS: Mapping[str, Literal["input_factor", "gradient_factor"]] = {  # name in curvlinops: name here
    "input_covariances": "input_factor",
    "gradient_covariances": "gradient_factor",
}


class LayerState(TypedDict, total=False):
    """The state of a layer.

    Attributes:
        updates: Updates that the averages cover.
        input_factor: Average of the input factor.
        gradient_factor: Average of the gradient factor.
    """

    updates: int
    input_factor: Tensor
    gradient_factor: Tensor


def _import_curvlinops() -> Any:
    with warnings.catch_warnings():  # one of its libraries uses torch.jit.script, which is deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("curvlinops")


curvlinops = _import_curvlinops()


class KFAC(torch.optim.Optimizer):
    """Natural gradient descent with Kronecker factors that are recomputed and averaged in every update.

    `step` does not change the weights without a `look`, or after a `look` at a loss that is not finite.

    Args:
        params: Parameters, or parameter groups.
        lr: The LR.
        damping: Damping, positive. It is split between the two factors of a layer as in section 6.3 of the paper.
        average: Largest share of the old factors in an average, at least 0 and below 1. Update t keeps at most 1 - 1/t.
        momentum: Momentum of the natural gradients.
        weight_decay: Decoupled weight decay.
        fisher: "mc": one label drawn for each example, as in the paper. "type-2": the exact sum over classes, with as
            many backward passes.

    Raises:
        ValueError: If an argument is out of range.
        InputError: In `look`, if curvlinops does not support the loss, or if the model has no linear and no
            convolutional layer.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        damping: float = 1e-2,
        average: float = 0.95,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        fisher: Literal["mc", "type-2"] = "mc",
    ) -> None:
        if damping <= 0:
            raise ValueError(f"damping={damping} must be positive")
        if not 0 <= average < 1:
            raise ValueError(f"average={average} must be at least 0 and below 1")
        if fisher not in ("mc", "type-2"):
            raise ValueError(f"fisher={fisher} must be mc or type-2")
        defaults = {"lr": lr, "damping": damping, "average": average, "momentum": momentum}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "fisher": fisher})
        self._loss: nn.Module | None = None
        self._weights: list[Tensor] = []
        self._inverse: Any = None

    def look(self, forward: Forward) -> None:
        """Compute the factors at these weights, on this batch, and average them with the earlier ones."""
        if not forward.loss_B.isfinite().all():
            return
        options = self.param_groups[0]
        trained = {weight for group in self.param_groups for weight in group["params"] if weight.requires_grad}
        by_layer = {
            name: [weight for weight in layer.parameters() if weight in trained]
            for name, layer in forward.model.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        }
        self._weights = [weight for weights in by_layer.values() for weight in weights]
        if not self._weights:
            problem = "the model has no linear and no convolutional layer to train"
            raise InputError("optimizer", "KFAC", problem, "Use optimizer=sgd")
        self._loss = self._loss or loss_of(forward)
        with preserve_buffers(forward.model):
            operator = kfac_operator(forward, self._loss, self._weights, options["fisher"])
        for name, weights in by_layer.items():
            if weights:
                average_factors(operator, f"model.{name}", self.state[weights[0]], options["average"])
        self._inverse = damped_inverse(operator, options["damping"])

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # no closure
        if self._inverse is None:
            return
        directions = {w: w.grad for group in self.param_groups for w in group["params"] if w.grad is not None}
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self._weights]
        directions |= zip(self._weights, self._inverse @ gradients, strict=True)
        descend(self, directions)
        self._inverse = None


def kfac_operator(forward: Forward, loss: nn.Module, weights: Sequence[Tensor], fisher: str) -> Any:
    """Return the operator of curvlinops with its Kronecker factors computed.

    Args:
        forward: The forward pass. Its key seeds the labels that are drawn.
        loss: The equivalent loss of torch (`loss_of`).
        weights: Weights of linear and convolutional layers.
        fisher: "mc" or "type-2" (`KFAC`).
    """
    model = _TaskModel(forward)
    output = model(forward.inputs_B).detach()
    # Only the shape of the labels matters: the Fisher matrix is that of the model's own predictions.
    labels = output.new_zeros(len(output)).long() if isinstance(loss, nn.CrossEntropyLoss) else torch.zeros_like(output)
    operator = curvlinops.KFACLinearOperator(
        model,
        loss,
        list(weights),
        [(forward.inputs_B, labels)],
        check_deterministic=False,
        seed=forward.key,
        fisher_type=fisher,
        separate_weight_and_bias=False,
        num_data=len(forward.target_B),
        batch_size_fn=lambda _inputs: len(forward.target_B),
    )
    operator.compute_kronecker_factors()
    return operator


@torch.no_grad()
def average_factors(operator: Any, layer: str, state: LayerState, average: float) -> None:
    """Replace the factors of a layer in the operator by their running averages, and store these in `state`.

    Args:
        operator: What `kfac_operator` returns.
        layer: Name of the layer in the operator.
        state: The averages so far.
        average: Largest share of the old factors.
    """
    update = state["updates"] = state.get("updates", 0) + 1
    for their_name, name in FACTORS.items():
        factor = operator.state_dict()[their_name].get(layer)
        if factor is None:  # the weight of the layer is frozen
            continue
        if name in state:
            factor.lerp_(state[name], min(average, 1 - 1 / update))
        state[name] = factor.clone()


def damped_inverse(operator: Any, damping: float) -> Any:
    """Return the inverse of (A + pi sqrt(damping) I) x (G + sqrt(damping) / pi I), layer by layer.

    A and G are the factors of a layer, x the Kronecker product, and pi splits the damping between the two factors.
    """
    return curvlinops.KFACInverseLinearOperator(operator, damping=damping, use_heuristic_damping=True)


def loss_of(forward: Forward) -> nn.Module:
    """Return the loss of curvlinops that is equivalent to the task's. Integer targets, or else its value, show which.

    Raises:
        InputError: If there is none.
    """
    if not forward.target_B.is_floating_point():
        return nn.CrossEntropyLoss()
    output, target = _rows(forward.output_B), _rows(forward.target_B.view_as(forward.output_B))
    mean = forward.loss_B.mean()
    for loss in (nn.MSELoss(), nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()):
        if torch.isclose(loss(output, target), mean, rtol=1e-3):
            return loss
    problem = "the loss is not cross-entropy, squared error or binary cross-entropy"
    raise InputError("optimizer", "KFAC", problem, "Use another loss, or optimizer=natural_gradient")


class _TaskModel(nn.Module):
    """The task's forward pass as a module, which curvlinops needs. Its outputs are rows [N, K]."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.model, self._task = forward.model, forward.task

    def forward(self, inputs_B: Any) -> Tensor:
        return _rows(self._task.forward(self.model, inputs_B))


def _rows(output: Tensor) -> Tensor:
    """Return outputs [B, ..., K] as [N, K]."""
    return output.flatten(0, -2) if output.dim() > 1 else output[:, None]


@contextlib.contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Restore all buffers at the end, so that running statistics do not count a batch twice."""
    copies = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in copies:
                buffer.data.copy_(value)  # .data hides it from autograd, because the backward pass is still to come
