"""Compare SequentialTrainer with a tuned PyTorch loop and with the loop of tutorials, in one interleaved run.

    python benchmarks/sequential.py [--repeats 9] [--steps 1000] [--report-every 50]

sweeper: our trainer.
bare: our trainer without grad_norm and update_to_weight (train.norms=false).
tuned: resident data, torch.randperm batches, fused optimizer, no host read between reports.
user: DataLoader, LambdaLR, loss.item() at every update.

None of them evaluates.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from sweeper.training.device import intra_op_threads, thread_count
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId

EXAMPLES, FEATURES, CLASSES = 1437, 64, 10
CASES = {  # width, depth, batch size, dropout
    "MLP 64-128-10, batch 64": (128, 1, 64, 0.0),
    "the same with dropout 0.1": (128, 1, 64, 0.1),
    "MLP 64-512-512-10, batch 64": (512, 2, 64, 0.0),
}
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "AdamW": (torch.optim.AdamW, {"weight_decay": 0.01}),
}


class Digits:
    """Classification of noise. What is learned does not change the time."""

    fingerprint, untrained_loss, loss_bound = "noise", 2.3, 1e9

    def __init__(self, width: int, depth: int, dropout: float) -> None:
        self.shape = width, depth, dropout
        draw = torch.Generator().manual_seed(0)
        self.x = torch.randn(EXAMPLES, FEATURES, generator=draw)
        self.y = torch.randint(CLASSES, (EXAMPLES,), generator=draw)

    def to(self, device: torch.device) -> Digits:
        self.x, self.y = self.x.to(device), self.y.to(device)
        return self

    def size(self, part: str, partition: int) -> int:
        return EXAMPLES

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[index_B], self.y[index_B]

    def build(self, seed: int, **numbers: Any) -> nn.Module:
        width, depth, dropout = self.shape
        layers: list[nn.Module] = []
        for fan_in in [FEATURES, *[width] * (depth - 1)]:
            layers += [nn.Linear(fan_in, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        return nn.Sequential(*layers, nn.Linear(width, CLASSES))

    def forward(self, model: nn.Module, inputs_B: Any) -> Any:
        return model(inputs_B)

    def loss(self, output_B: Any, target_B: Tensor) -> Tensor:
        return functional.cross_entropy(output_B, target_B, reduction="none")

    def metrics(self, output: Any, target: Tensor) -> dict[str, float]:
        return {}


def train_sweeper(
    task: Digits, name: str, batch_size: int, lr_S: Any, every: int, device: str, norms: bool = True
) -> None:
    kind, options = OPTIMIZERS[name]
    optimizer = OptimizerSpec(f"torch.optim.{kind.__name__}", options)
    trainer = SequentialTrainer(task, Recipe(optimizer, batch_size, norms=norms), device=device)
    reports = (*range(every, len(lr_S), every), len(lr_S))
    job = Job(JobId("s", 0, 0), "cosine", {}, 0, lr_S, reports, parts=("train",))
    trainer.start([job])
    for _ in reports:
        list(trainer.advance([job.id]))


def train_tuned(task: Digits, name: str, batch_size: int, lr_S: Any, every: int, device: str) -> None:
    kind, options = OPTIMIZERS[name]
    model = task.build(0).to(device)
    optimizer = kind(model.parameters(), lr=1e-3, fused=True, **options)
    group = optimizer.param_groups[0]
    rows = len(lr_S) * batch_size
    epochs = -(-rows // EXAMPLES)
    with intra_op_threads(thread_count("auto")):
        order = torch.cat([torch.randperm(EXAMPLES) for _ in range(epochs)])[:rows].view(-1, batch_size).to(device)
        losses = []
        for step, (index, lr) in enumerate(zip(order.unbind(), lr_S.tolist(), strict=True), 1):
            group["lr"] = lr
            x, y = task.fetch("train", 0, index)
            loss = functional.cross_entropy(model(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
            if step % every == 0:
                torch.stack(losses).cpu()
                losses.clear()


def train_user(task: Digits, name: str, batch_size: int, lr_S: Any, every: int, device: str) -> None:
    kind, options = OPTIMIZERS[name]
    model = task.build(0).to(device)
    optimizer = kind(model.parameters(), lr=1.0, **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: lr_S[min(t, len(lr_S) - 1)])
    loader = DataLoader(TensorDataset(task.x.cpu(), task.y.cpu()), batch_size, shuffle=True, drop_last=True)
    step, history = 0, []
    while step < len(lr_S):
        for inputs, target in loader:
            x, y = inputs.to(device), target.to(device)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            history.append(loss.item())
            step += 1
            if step == len(lr_S):
                break


LOOPS: dict[str, Callable[..., None]] = {
    "sweeper": train_sweeper,
    "bare": partial(train_sweeper, norms=False),
    "tuned": train_tuned,
    "user": train_user,
}


def compare(case: str, name: str, repeats: int, steps: int, every: int, device: str) -> None:
    """Print the speeds of every loop for one model and optimizer."""
    width, depth, batch_size, dropout = CASES[case]
    task = Digits(width, depth, dropout).to(torch.device(device))
    lr_S = 0.01 * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    rates: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for repeat in range(repeats + 1):
        for loop, train in LOOPS.items():
            start = time.perf_counter()
            train(task, name, batch_size, lr_S, every, device)
            if device != "cpu":
                torch.cuda.synchronize()
            if repeat:  # the first repeat is a warm-up
                rates[loop].append(steps / (time.perf_counter() - start))
    ratios_to = {
        loop: statistics.median(one / other for one, other in zip(rates["sweeper"], rates[loop], strict=True))
        for loop in ("bare", "tuned", "user")
    }
    speeds = "  ".join(f"{loop} {statistics.median(rate):7.0f}/s" for loop, rate in rates.items())
    ratios = "  ".join(f"x {loop} {ratio:.3f}" for loop, ratio in ratios_to.items())
    print(f"{case:28} {name:6} {speeds}   {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--report-every", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    card = torch.cuda.get_device_name() if args.device.startswith("cuda") else "no GPU used"
    machine = f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} threads, {card}"
    print(f"{machine}, torch {torch.__version__}; updates per second, medians of {args.repeats} interleaved runs")
    for case in CASES:
        for name in OPTIMIZERS:
            compare(case, name, args.repeats, args.steps, args.report_every, args.device)


if __name__ == "__main__":
    main()
