"""K-FAC (Martens and Grosse 2015, arXiv 1503.05671): natural gradient with a Kronecker-factored Fisher matrix.

The factors and their damped inverse are those of curvlinops, for linear and convolutional layers, also those that
share their weights along a sequence; here are their running averages, momentum and weight decay. Other weights
(embeddings, normalisation) follow their plain gradient.
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

FACTORS: Mapping[str, Literal["input_factor", "gradient_factor"]] = {  # curvlinops' names: ours
    "input_covariances": "input_factor",
    "gradient_covariances": "gradient_factor",
}


class LayerState(TypedDict, total=False):
    """What the optimizer keeps of a layer: averages of its factors, and the updates that they are of."""

    updates: int
    input_factor: Tensor
    gradient_factor: Tensor


def _curvlinops() -> Any:
    with warnings.catch_warnings():  # one of its libraries uses torch.jit.script, which torch calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("curvlinops")


curvlinops = _curvlinops()


class KFAC(torch.optim.Optimizer):
    """Natural gradient descent with Kronecker factors that are renewed, and averaged, in every update.

    damping: split between the two factors of a layer as the paper's section 6.3 does. average: share of the old
    factors, at most; update t keeps 1 - 1/t. fisher: "mc", one label drawn for each example, as in the paper; "type-2",
    the exact sum over classes, with as many backward passes. momentum: of the natural gradients. weight_decay:
    decoupled. Without a look, or after one at a loss that is not finite, the weights stay where they are.
    Raises InputError in an update of a loss that curvlinops does not know, or a model without such layers.
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
            raise ValueError(f"damping {damping} is not positive")
        if not 0 <= average < 1:
            raise ValueError(f"average {average} is not in [0, 1)")
        if fisher not in ("mc", "type-2"):
            raise ValueError(f"fisher {fisher} is neither mc nor type-2")
        numbers = {"lr": lr, "damping": damping, "average": average, "momentum": momentum}
        super().__init__(params, {**numbers, "weight_decay": weight_decay, "fisher": fisher})
        self._loss: nn.Module | None = None
        self._weights: list[Tensor] = []
        self._inverse: Any = None

    def look(self, forward: Forward) -> None:
        """The factors at these weights, on this batch, averaged with the earlier ones."""
        if not forward.loss_B.isfinite().all():
            return
        options = self.param_groups[0]
        mine = {weight for group in self.param_groups for weight in group["params"] if weight.requires_grad}
        by_layer = {
            name: [weight for weight in layer.parameters() if weight in mine]
            for name, layer in forward.model.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        }
        self._weights = [weight for weights in by_layer.values() for weight in weights]
        if not self._weights:
            problem = "the model has no linear and no convolutional layer to train"
            raise InputError("optimizer", "KFAC", problem, "Use optimizer=sgd.")
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
    """curvlinops' operator of these weights, with its factors at this forward pass; labels are drawn by its key."""
    whole = _TaskModel(forward)
    output = whole(forward.inputs_B).detach()
    # Of the labels only their number counts: the Fisher matrix is that of the model's own predictions.
    labels = output.new_zeros(len(output)).long() if isinstance(loss, nn.CrossEntropyLoss) else torch.zeros_like(output)
    operator = curvlinops.KFACLinearOperator(
        whole,
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
    """A layer's factors become running averages, in place, and are kept in `state`."""
    update = state["updates"] = state.get("updates", 0) + 1
    for theirs, ours in FACTORS.items():
        factor = operator.state_dict()[theirs].get(layer)
        if factor is None:  # of a layer whose weight is frozen
            continue
        if ours in state:
            factor.lerp_(state[ours], min(average, 1 - 1 / update))
        state[ours] = factor.clone()


def damped_inverse(operator: Any, damping: float) -> Any:
    """The inverse of (A + pi sqrt(damping) I) x (G + sqrt(damping) / pi I), layer by layer."""
    return curvlinops.KFACInverseLinearOperator(operator, damping=damping, use_heuristic_damping=True)


def loss_of(forward: Forward) -> nn.Module:
    """Which of the losses that curvlinops knows this is: by its targets, or by its value. Raises InputError."""
    if not forward.target_B.is_floating_point():
        return nn.CrossEntropyLoss()
    output, target = _rows(forward.output_B), _rows(forward.target_B.view_as(forward.output_B))
    mean = forward.loss_B.mean()
    for loss in (nn.MSELoss(), nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()):
        if torch.isclose(loss(output, target), mean, rtol=1e-3):
            return loss
    problem = "it knows cross-entropy, squared error and binary cross-entropy alone"
    raise InputError("optimizer", "KFAC", problem, "Use another loss, or optimizer=natural_gradient.")


class _TaskModel(nn.Module):
    """A model as the task calls it, its outputs in rows [N, K]: curvlinops wants a module."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.model, self._task = forward.model, forward.task

    def forward(self, inputs_B: Any) -> Tensor:
        return _rows(self._task.forward(self.model, inputs_B))


def _rows(output: Tensor) -> Tensor:
    """[B, ..., K] as [N, K]."""
    return output.flatten(0, -2) if output.dim() > 1 else output[:, None]


@contextlib.contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Running statistics are afterwards as before: a second look at a batch is no second batch."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.data.copy_(value)  # unseen by autograd, which is between forward and backward pass
