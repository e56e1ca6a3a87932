"""Many models of one structure as one program: their numbers in rows, forward and backward pass stacked by vmap."""

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
    """How models of one structure are stacked; found by the probe.

    mode: "forward", one backward pass over vmap(forward), the faster one; or "grad", vmap(grad(forward)).
    trained: parameters that the loss depends on. moving: buffers that a forward pass in training changes.
    """

    mode: Mode
    trained: tuple[str, ...]
    moving: tuple[str, ...]


class Rows(NamedTuple):
    """One model's numbers: its trained parameters end to end [P], its moving buffers, all else that it holds."""

    weight_P: Tensor
    moving: Tensors
    fixed: Tensors

    def to(self, device: torch.device) -> Rows:
        moving, fixed = ({name: value.to(device) for name, value in held.items()} for held in (self.moving, self.fixed))
        return Rows(self.weight_P.to(device), moving, fixed)


def dropouts(module: nn.Module) -> list[float]:
    """The p of each counted dropout layer, in the order of their numbers."""
    return [layer.p for layer in _counted(module)]


class Layout:
    """Where each trained parameter lies in a row."""

    def __init__(self, module: nn.Module, trained: Sequence[str]) -> None:
        parameters = dict(module.named_parameters())
        self.names = tuple(trained)
        self.shapes = [parameters[name].shape for name in trained]
        self.sizes = [parameters[name].numel() for name in trained]
        self.size = sum(self.sizes)

    def row(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """[P] of the parameters of one model."""
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.names])

    def views(self, weight_LP: Tensor) -> Tensors:
        """Each parameter [L, ...] as a view of the rows."""
        pieces = torch.split(weight_LP, self.sizes, dim=-1)
        lanes = weight_LP.shape[:-1]
        return {
            name: piece.view(*lanes, *shape) for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }

    def gradient(self, gradients: Sequence[Tensor]) -> Tensor:
        """[L, P] of the parameters' gradients [L, ...]."""
        return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


class Program:
    """The stacked forward and backward pass of models that share the structure of `module`."""

    def __init__(self, task: Task, module: nn.Module, form: Form, batch_size: int, half: Half | None = None) -> None:
        self.form, self.layout = form, Layout(module, form.trained)
        self.clock = LaneClock()
        self.alone = module  # for one lane at a time: evaluation, state_dict
        self._places = _places(module)
        self._pass = _Pass(task, _twin(module, self.clock), half)
        self._share = 1 / batch_size
        weights = [name for name, one in module.named_parameters() if one.is_floating_point() and one.requires_grad]
        self._still = [name for name in weights if name not in form.trained]

    def rows(self, module: nn.Module) -> Rows:
        """The numbers of a model of this structure, on its device."""
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        rest = {name: value for name, value in parameters.items() if name not in self.form.trained}
        still = {name: value for name, value in buffers.items() if name not in self.form.moving}
        return Rows(
            self.layout.row(parameters),
            {name: buffers[name].clone() for name in self.form.moving},
            {name: value.detach().clone() for name, value in (rest | still).items()},
        )

    def hold(self, rows: Rows) -> nn.Module:
        """The model alone with these rows as its numbers (views, no copy)."""
        for held in (self.layout.views(rows.weight_P), rows.moving, rows.fixed):
            for name, view in held.items():
                tensors, key = self._places[name]
                tensors[key].data = view
        return self.alone

    def gradients(
        self, weight_LP: Tensor, moving: Tensors, fixed: Tensors, batch_LB: Batch, counts: Tensors
    ) -> tuple[Tensor, Tensor, Tensors]:
        """Loss of each example [L, B], their gradient [L, P] as shares of a whole batch, the moving buffers after."""
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
        """[L]: the L2 norm of each lane's parameters, those that the loss does not depend on too, frozen ones not."""
        still = [fixed[name].flatten(1) for name in self._still if name in fixed]
        norm_L: Tensor = torch.linalg.vector_norm(torch.cat([weight_LP, *still], dim=1) if still else weight_LP, dim=1)
        return norm_L

    def _losses(
        self, parameters: Tensors, moving: Tensors, fixed: Tensors, batch_B: Batch, counts: Tensors
    ) -> tuple[Tensor, Tensors]:
        """One lane: losses [B], and its moving buffers: clones, because vmap loses changes of its arguments."""
        self.clock.start_forward(counts)
        moved = {name: value.clone() for name, value in moving.items()}
        held = {f"model.{name}": value for name, value in (parameters | moved | fixed).items()}
        loss_B: Tensor = functional_call(self._pass, held, batch_B)
        self.clock.start_forward({})  # torch.compile cannot keep a tensor of one lane beyond it
        return loss_B, moved

    def _mean_loss(self, *lane: Any) -> tuple[Tensor, tuple[Tensor, Tensors]]:
        loss_B, moved = self._losses(*lane)
        return loss_B.sum() * self._share, (loss_B.detach(), moved)


class _Pass(nn.Module):
    """Forward pass and loss as one module, as functional_call needs it."""

    def __init__(self, task: Task, model: nn.Module, half: Half | None) -> None:
        super().__init__()
        self.task, self.model, self.mixed = task, model, half

    def forward(self, inputs_B: Any, target_B: Tensor) -> Tensor:
        return self.task.loss(output_of(self.task, self.model, inputs_B, self.mixed), target_B)


@contextlib.contextmanager
def quiet_vmap() -> Iterator[None]:
    """Without torch's warning of each operation that vmap has no rule for, and loops over the lanes.

    A switch of torch, as a filter of Python's would make all other warnings new again at each turn.
    """
    switches: Any = torch._C._functorch
    switches._set_vmap_fallback_warning_enabled(False)
    try:
        yield
    finally:
        switches._set_vmap_fallback_warning_enabled(True)  # as torch starts; it does not say what it was


def _places(module: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Where each parameter and buffer stands: the dict of its module, and its key there."""
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for name, child in module.named_modules():
        for tensors in (child._parameters, child._buffers):
            for key in tensors:
                places[f"{name}.{key}" if name else key] = (tensors, key)
    return places


def _twin(module: nn.Module, clock: LaneClock) -> nn.Module:
    """The same model again, its dropout layers counting by `clock`."""
    twin = copy.deepcopy(module)
    for layer in _counted(twin):
        layer.clock = clock
    return twin


def _counted(module: nn.Module) -> list[CountedDropout]:
    layers = [child for child in module.modules() if isinstance(child, CountedDropout)]
    return sorted(layers, key=lambda layer: layer.layer)


def built(task: Task, seed: int, numbers: Mapping[str, Value], dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A fresh model as a trainer holds it: its dropout layers counted, in that precision, on the device."""
    module = count_dropout(task.build(seed, **numbers), Clock(seed)).to(device)
    return module.double() if dtype == torch.float64 else module
