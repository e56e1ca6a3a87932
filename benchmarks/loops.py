"""Plain PyTorch loops to compare our trainers with. Other benchmarks import this module.

user: DataLoader, LambdaLR and loss.item() at every update, as tutorials show. tuned: resident data, fused optimizer, no
host read between reports. compiled: the tuned loop with model and loss compiled by torch.compile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sweeper.training.device import intra_op_threads
from sweeper.training.optimizers.optim import make_optimizer
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.types import Floats, Task


class User:
    """The loop of tutorials, on one thread. Each `run(lr_S)` continues the training."""

    def __init__(self, task: Task, optimizer: OptimizerSpec, batch_size: int) -> None:
        self.task = task
        data = TensorDataset(*task.fetch("train", 0, torch.arange(task.size("train", 0))))
        self.loader = DataLoader(data, batch_size, shuffle=True, drop_last=True)
        self.batches = iter(self.loader)
        self.model = task.build(0)
        self.kind, self.options = getattr(torch.optim, optimizer.target.rpartition(".")[2]), optimizer.arguments

    def run(self, lr_S: Floats) -> None:
        """Train with these LRs."""
        stepping = self.kind(self.model.parameters(), lr=1.0, **self.options)
        schedule = torch.optim.lr_scheduler.LambdaLR(stepping, lambda t: lr_S[min(t, len(lr_S) - 1)])
        history = []
        with intra_op_threads(1):
            for _ in lr_S:
                x, y = self._batch()
                stepping.zero_grad()
                loss = self.task.loss(self.task.forward(self.model, x), y).mean()
                loss.backward()
                stepping.step()
                schedule.step()
                history.append(loss.item())

    def _batch(self) -> Any:
        try:
            return next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            return next(self.batches)


class Tuned:
    """The tuned loop. Each `run(lr_S)` continues the training, so that compiling is timed only once."""

    def __init__(
        self, task: Task, optimizer: OptimizerSpec, batch_size: int, device: str, *, compiled: bool = False
    ) -> None:
        self.task, self.batch_size, self.device = task.to(torch.device(device)), batch_size, device
        self.model: nn.Module = task.build(0).to(device)
        self.stepping = make_optimizer(optimizer, {}, self.model)
        self.loss = torch.compile(self._loss) if compiled else self._loss

    def run(self, lr_S: Floats, every: int = 50, threads: int = 1) -> None:
        """Train with these LRs. Read the losses every `every` updates."""
        size, group = self.task.size("train", 0), self.stepping.param_groups[0]
        order = torch.randint(size, (len(lr_S) * self.batch_size,))
        losses: list[Tensor] = []
        with intra_op_threads(threads):
            for step, (index, lr) in enumerate(
                zip(order.view(-1, self.batch_size).to(self.device).unbind(), lr_S.tolist(), strict=True), 1
            ):
                group["lr"] = lr
                x, y = self.task.fetch("train", 0, index)
                loss = self.loss(x, y)
                self.stepping.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.stepping.step()
                losses.append(loss.detach())
                if step % every == 0:
                    torch.stack(losses).cpu()
                    losses.clear()

    def _loss(self, x: Any, y: Tensor) -> Tensor:
        return self.task.loss(self.task.forward(self.model, x), y).mean()
