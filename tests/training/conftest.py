"""A small real task for the tests of training: a student learns to classify like a random teacher."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.training.workers.worker import Worker, WorkerDiedError, log_level
from sweeper.types import Task, Value

FEATURES, CLASSES = 6, 3
SIZES = {"train": 50, "valid": 23, "test": 17}


class FunctionalDropout(nn.Module):
    """Draws from torch's global generator at every use."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.3, self.training)


LAYERS: dict[str, Any] = {
    "plain": nn.Identity,
    "dropout": lambda: nn.Dropout(0.3),
    "batchnorm": lambda: nn.BatchNorm1d(8),
    "functional": FunctionalDropout,
}


class Teacher:
    """Classification of normal inputs by a random linear teacher; `kind` names the student's middle layer."""

    untrained_loss = 1.0986122886681098  # log 3
    loss_bound = 20.0

    def __init__(self, kind: str = "plain", fingerprint: str = "teacher-1") -> None:
        self.kind, self.fingerprint = kind, fingerprint
        draw = torch.Generator().manual_seed(7)
        teacher = torch.randn(FEATURES, CLASSES, generator=draw)
        self.parts: dict[str, tuple[Tensor, Tensor]] = {}
        for part, size in SIZES.items():
            x = torch.randn(size, FEATURES, generator=draw)
            self.parts[part] = (x, (x @ teacher).argmax(1))

    def to(self, device: torch.device) -> Teacher:
        moved = Teacher(self.kind, self.fingerprint)
        moved.parts = {part: (x.to(device), y.to(device)) for part, (x, y) in self.parts.items()}
        return moved

    def size(self, part: str, partition: int) -> int:
        return len(self.parts[part][1])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Any, Tensor]:
        x, y = self.parts[part]
        return x[index_B], y[index_B]

    def build(self, seed: int, **numbers: Value) -> nn.Module:
        if numbers.pop("broken", False):
            raise ValueError("this model cannot be built\nsecond line")
        model = nn.Sequential(nn.Linear(FEATURES, 8), LAYERS[self.kind](), nn.Tanh(), nn.Linear(8, CLASSES))
        if "p" in numbers:
            model[1] = nn.Dropout(float(numbers.pop("p")))  # type: ignore[arg-type]
        assert not numbers
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.5)
        return model

    def forward(self, model: nn.Module, inputs_B: Any) -> Any:
        return model(inputs_B)

    def loss(self, output_B: Any, target_B: Tensor) -> Tensor:
        return functional.cross_entropy(output_B, target_B, reduction="none")

    def metrics(self, output: Any, target: Tensor) -> dict[str, float]:
        return {"accuracy": (output.argmax(1) == target).double().mean().item()}


@pytest.fixture
def teacher() -> Any:
    """`teacher(kind)`: the task with that student."""
    check: type[Task] = Teacher
    assert check
    return Teacher


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reuse the processes of trainers that ended, because starting one takes seconds."""
    import cloudpickle  # type: ignore[import-untyped]

    monkeypatch.setattr("sweeper.training.workers.processes.Worker", Warm)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield Warm
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


class Warm(Worker):
    idle: ClassVar[list[Any]] = []

    def _start(self) -> None:
        while self.idle:
            self._process, self.connection = self.idle.pop()
            self.is_alive, self.is_ready = True, False
            self.send("build", self._folder, self.device, log_level())
            try:
                while not self.is_ready:  # answers for the previous trainer are discarded
                    self.receive()
                return
            except WorkerDiedError:  # it cannot train, or was to build from a folder that is removed
                super().kill()
        super()._start()

    def kill(self) -> None:
        if not self.is_alive:
            return
        if self._process.poll() is None:
            self.is_alive = self.is_ready = False
            self.idle.append((self._process, self.connection))
        else:
            super().kill()


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Any:
    yield
    for process, connection in Warm.idle:
        process.kill()
        process.wait()
        connection.close()
