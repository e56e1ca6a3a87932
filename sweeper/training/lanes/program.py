"""Many models of one structure as one program: weights in rows, forward and backward pass stacked by vmap."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from sweeper.training.evaluation import Half, output_of
from sweeper.training.randomness import Clock, CountedDropout, LaneClock, count_dropout
from sweeper.types import Task, Value

Mode = Literal["forward", "grad"]
Tensors = dict[str, Tensor]
Batch = tuple[Any, Tensor]  # inputs and targets


@dataclass(frozen=True)
class Form:
    """How models of one structure are stacked. The probe finds it.

    Attributes:
        mode: "forward": one backward pass over vmap(forward), the faster mode. "grad": vmap(grad(forward)).
        trained: Names of the parameters that the loss depends on.
        moving: Names of the buffers that a forward pass in training changes.
    """

    mode: Mode
    trained: tuple[str, ...]
    moving: tuple[str, ...]


class Rows(NamedTuple):
    """The tensors of one model.

    Attributes:
        weight_P: Its trained parameters, concatenated.
        moving: Buffers that training changes, by name.
        fixed: All other parameters and buffers, by name.
    """

    weight_P: Tensor
    moving: Tensors
    fixed: Tensors

    def to(self, device: torch.device) -> Rows:
        moving = {name: value.to(device) for name, value in self.moving.items()}
        fixed = {name: value.to(device) for name, value in self.fixed.items()}
        return Rows(self.weight_P.to(device), moving, fixed)


def dropout_rates(module: nn.Module) -> list[float]:
    """Return the p of each counted dropout layer, in the order of the layers' numbers."""
    return [layer.p for layer in _counted_layers(module)]


class Layout:
    """The place of each trained parameter in a row.

    Args:
        module: The model.
        trained: Names of the trained parameters, in the order of the row.
    """

    def __init__(self, module: nn.Module, trained: Sequence[str]) -> None:
        parameters = dict(module.named_parameters())
        self.names = tuple(trained)
        self.shapes = [parameters[name].shape for name in trained]
        self.sizes = [parameters[name].numel() for name in trained]
        self.size = sum(self.sizes)

    def row(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the parameters of one model as a row [P]."""
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.names])

    def views(self, weight_LP: Tensor) -> Tensors:
        """Return each parameter [L, ...] as a view of the rows."""
        pieces = torch.split(weight_LP, self.sizes, dim=-1)
        lanes = weight_LP.shape[:-1]
        return {
            name: piece.view(*lanes, *shape) for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }

    def gradient(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return the gradients of the parameters, each [L, ...], as rows [L, P]."""
        return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


class Program:
    """The stacked forward and backward pass of models that share the structure of `module`.

    Args:
        task: What is trained.
        module: A model. Later it holds the weights of one lane at a time (`hold`).
        form: How the models are stacked.
        batch_size: Examples of an update, all micro-batches together.
        half: Mixed precision, if any.

    Attributes:
        layout: Place of each trained parameter in a row.
        clock: What the dropout layers of all lanes count by.
        alone: The model of one lane at a time, for evaluation and `state_dict`.
    """

    def __init__(self, task: Task, module: nn.Module, form: Form, batch_size: int, half: Half | None = None) -> None:
        self.form, self.layout = form, Layout(module, form.trained)
        self.clock = LaneClock()
        self.alone = module
        self._places = _tensor_places(module)
        self._pass = _Pass(task, _copy_with_clock(module, self.clock), half)
        self._share = 1 / batch_size
        weights = [name for name, one in module.named_parameters() if one.is_floating_point() and one.requires_grad]
        self._unused = [name for name in weights if name not in form.trained]

    def rows(self, module: nn.Module) -> Rows:
        """Return copies of the tensors of a model of this structure, on its device."""
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        untrained = {name: value for name, value in parameters.items() if name not in self.form.trained}
        constant = {name: value for name, value in buffers.items() if name not in self.form.moving}
        return Rows(
            self.layout.row(parameters),
            {name: buffers[name].clone() for name in self.form.moving},
            {name: value.detach().clone() for name, value in (untrained | constant).items()},
        )

    def hold(self, rows: Rows) -> nn.Module:
        """Return the single model with these rows as its tensors (views, no copy)."""
        for tensors in (self.layout.views(rows.weight_P), rows.moving, rows.fixed):
            for name, tensor in tensors.items():
                slots, key = self._places[name]
                slots[key].data = tensor
        return self.alone

    def gradients(
        self, weight_LP: Tensor, moving: Tensors, fixed: Tensors, batch_LB: Batch, counts: Tensors
    ) -> tuple[Tensor, Tensor, Tensors]:
        """Return loss, gradient and moving buffers of a forward and backward pass.

        Args:
            weight_LP: Trained parameters.
            moving: Moving buffers before the pass, each [L, ...].
            fixed: All other tensors, each [L, ...].
            batch_LB: Inputs and targets, each [L, B, ...]; a batch or a micro-batch.
            counts: What the dropout layers count by, each [L, ...]; empty without dropout.

        Returns:
            The loss of each example [L, B]. The gradient [L, P] of their sum divided by the size of the whole batch, so
            that the gradients of micro-batches add up. The moving buffers after the pass.
        """
        views = self.layout.views(weight_LP)
        if self.form.mode == "grad":
            of_lane = grad_and_value(self._mean_loss, has_aux=True)
            gradients, (_, (loss_LB, moving)) = vmap(of_lane)(views, moving, fixed, batch_LB, counts)
            return loss_LB, self.layout.gradient([gradients[name] for name in self.layout.names]), moving
        leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
        loss_LB, moving = vmap(self._losses)(leaves, moving, fixed, batch_LB, counts)
        gradients = torch.autograd.grad(loss_LB, list(leaves.values()), torch.full_like(loss_LB, self._share))
        return loss_LB.detach(), self.layout.gradient(gradients), moving

    def weight_norm(self, weight_LP: Tensor, fixed: Tensors) -> Tensor:
        """Return the L2 norm of the parameters of each lane, [L].

        Frozen parameters are left out. Parameters that the loss does not depend on are included.
        """
        unused = [fixed[name].flatten(1) for name in self._unused if name in fixed]
        norm_L: Tensor = torch.linalg.vector_norm(
            torch.cat([weight_LP, *unused], dim=1) if unused else weight_LP, dim=1
        )
        return norm_L

    def _losses(
        self, parameters: Tensors, moving: Tensors, fixed: Tensors, batch_B: Batch, counts: Tensors
    ) -> tuple[Tensor, Tensors]:
        """Return the losses [B] of one lane and its moving buffers.

        The buffers are clones, because vmap loses changes of its arguments.
        """
        self.clock.start_forward(counts)
        moved = {name: value.clone() for name, value in moving.items()}
        tensors = {f"model.{name}": value for name, value in (parameters | moved | fixed).items()}
        loss_B: Tensor = functional_call(self._pass, tensors, batch_B)
        self.clock.start_forward({})  # under torch.compile, the tensors of a lane must not outlive this function
        return loss_B, moved

    def _mean_loss(self, *lane: Any) -> tuple[Tensor, tuple[Tensor, Tensors]]:
        loss_B, moved = self._losses(*lane)
        return loss_B.sum() * self._share, (loss_B.detach(), moved)


class _Pass(nn.Module):
    """Forward pass and loss as one module, which functional_call needs."""

    def __init__(self, task: Task, model: nn.Module, half: Half | None) -> None:
        super().__init__()
        self.task, self.model, self.mixed = task, model, half

    def forward(self, inputs_B: Any, target_B: Tensor) -> Tensor:
        return self.task.loss(output_of(self.task, self.model, inputs_B, self.mixed), target_B)


@contextlib.contextmanager
def quiet_vmap() -> Iterator[None]:
    """Turn off torch's warning about operations that vmap has no rule for, so that it loops over the lanes.

    This is a switch of torch. A filter of Python's warnings would show all other warnings again in every turn.
    """
    switches: Any = torch._C._functorch
    switches._set_vmap_fallback_warning_enabled(False)
    try:
        yield
    finally:
        switches._set_vmap_fallback_warning_enabled(True)  # torch's default: the switch cannot be read


def _tensor_places(module: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Return the place of each parameter and buffer: the dict of its module, and its key there."""
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for name, child in module.named_modules():
        for tensors in (child._parameters, child._buffers):
            for key in tensors:
                places[f"{name}.{key}" if name else key] = (tensors, key)
    return places


def _copy_with_clock(module: nn.Module, clock: LaneClock) -> nn.Module:
    """Return a copy of a model whose dropout layers count by `clock`."""
    duplicate = copy.deepcopy(module)
    for layer in _counted_layers(duplicate):
        layer.clock = clock
    return duplicate


def _counted_layers(module: nn.Module) -> list[CountedDropout]:
    """Return the counted dropout layers in the order of their numbers."""
    layers = [child for child in module.modules() if isinstance(child, CountedDropout)]
    return sorted(layers, key=lambda layer: layer.layer)


def build_model(
    task: Task, seed: int, hparams: Mapping[str, Value], dtype: torch.dtype, device: torch.device
) -> nn.Module:
    """Return a new model as a trainer holds it, with counted dropout layers.

    Args:
        task: What is trained.
        seed: Of the initial weights and of dropout.
        hparams: Hyperparameters of the model by constructor argument.
        dtype: Precision of the weights.
        device: Where the model is put.
    """
    model = count_dropout(task.build(seed, **hparams), Clock(seed)).to(device)
    return model.double() if dtype == torch.float64 else model
