"""Against plain PyTorch written by hand: the same batches, a torch scheduler, float64."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.training.optimizers.optim import make_optimizer
from sweeper.training.optimizers.spec import OptimizerSpec, parse_optimizer
from sweeper.training.randomness import batches
from sweeper.training.recipe import Recipe
from sweeper.training.reports import first_divergence
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import InputError, Job, JobId, Report

STEPS, BATCH = 60, 8
COSINE = 0.2 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-3}),
    "sgd-dampened": (torch.optim.SGD, {"momentum": 0.8, "dampening": 0.1}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adamw": (torch.optim.AdamW, {"betas": (0.9, 0.98), "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.5, "alpha": 0.9}),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.01}),
}


def job(lr_S: Any = COSINE, **changes: Any) -> Job:
    arguments: dict[str, Any] = {"report_steps": (7, 30, len(lr_S)), **changes}
    return Job(id=JobId("s", 0, 0), family="cosine", params={}, seed=3, lr_S=np.asarray(lr_S), **arguments)


def trained(task: Any, optimizer: dict[str, Any], of: Job) -> tuple[list[Report], dict[str, torch.Tensor]]:
    trainer = SequentialTrainer(task, Recipe(parse_optimizer(optimizer), BATCH, precision="float64"), device="cpu")
    trainer.start([of])
    reports = [report for _ in of.report_steps for report in trainer.advance([of.id])]
    return reports, trainer.weights(of.id)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("scheduler", ["LambdaLR", "CosineAnnealingLR"])
def test_losses_and_weights_are_those_of_a_plain_torch_loop(name: str, scheduler: str, teacher: Any) -> None:
    kind, options = OPTIMIZERS[name]
    # A bias before a BatchNorm has no gradient but rounding noise, which adaptive optimizers blow up to steps.
    task = teacher("batchnorm" if kind is torch.optim.SGD else "plain")
    model = task.build(3).double()
    if scheduler == "LambdaLR":
        optimizer = kind(model.parameters(), lr=1.0, foreach=False, **options)
        schedule: Any = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: COSINE[min(t, STEPS - 1)])
    else:
        optimizer = kind(model.parameters(), lr=0.2, foreach=False, **options)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses = []
    for index in batches(3, 0, STEPS, BATCH, task.size("train", 0)):
        x, y = task.fetch("train", 0, torch.from_numpy(index))
        loss = task.loss(model(x.double()), y).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    path = f"torch.optim.{kind.__name__}"
    reports, weights = trained(task, {"_target_": path, **options}, job())
    trace = np.concatenate([report.traces["train/loss"] for report in reports])
    np.testing.assert_allclose(trace, losses, rtol=1e-12, atol=0)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(weights[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_momentum_rows_act_as_torchs_onecycle_cycles_them(name: str, teacher: Any) -> None:
    kind, options = OPTIMIZERS[name]
    task = teacher()
    model = task.build(3).double()
    optimizer = kind(model.parameters(), lr=1.0, foreach=False, **options)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=STEPS)
    losses, lr_S, momentum_S = [], [], []
    for index in batches(3, 0, STEPS, BATCH, task.size("train", 0)):
        group = optimizer.param_groups[0]
        lr_S.append(group["lr"])
        momentum_S.append(group["momentum"] if name == "sgd" else group["betas"][0])
        x, y = task.fetch("train", 0, torch.from_numpy(index))
        loss = task.loss(model(x.double()), y).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if len(losses) < STEPS:
            schedule.step()
    of = job(lr_S, momentum_S=np.array(momentum_S))
    reports, _ = trained(task, {"_target_": f"torch.optim.{kind.__name__}", **options}, of)
    trace = np.concatenate([report.traces["train/loss"] for report in reports])
    np.testing.assert_allclose(trace, losses, rtol=1e-11, atol=0)


class Witness(torch.optim.SGD):
    """SGD that writes down what it is told to use."""

    seen: list[tuple[float, float]] = []  # noqa: RUF012 # one for all: the trainer makes the instances

    def step(self, closure: Any = None) -> Any:
        group = self.param_groups[0]
        assert type(group["lr"]) is float
        Witness.seen.append((group["lr"], group["momentum"]))
        return super().step(closure)


def test_the_optimizer_uses_exactly_what_is_logged(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Witness.seen.clear()
    monkeypatch.setattr(torch.optim, "Witness", Witness, raising=False)
    momentum_S = np.linspace(0.85, 0.95, STEPS)
    reports, _ = trained(teacher(), {"_target_": "torch.optim.Witness"}, job(momentum_S=momentum_S))
    logged = zip(
        np.concatenate([report.traces["lr/group0"] for report in reports]),
        np.concatenate([report.traces["momentum/group0"] for report in reports]),
        strict=True,
    )
    seen = Witness.seen[-STEPS:]  # the first ones are of the trial run
    assert seen == [(float(lr), float(momentum)) for lr, momentum in logged]
    np.testing.assert_array_equal([lr for lr, _ in seen], COSINE)


class Breaks(nn.Module):
    """Raises at its third training batch."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.calls == 3:
            raise RuntimeError("out of luck\nand more lines")
        return x


def test_an_exception_in_mid_interval_is_the_jobs_failure_alone(
    teacher: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = teacher("dropout")
    build = task.build

    def build_broken(seed: int, **numbers: Any) -> nn.Module:
        model = build(seed)
        if numbers:
            model.append(Breaks())
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr(type(task), "build", lambda self, seed, **numbers: build_broken(seed, **numbers))
    trainer = SequentialTrainer(task, Recipe(OptimizerSpec("torch.optim.SGD"), BATCH), device="cpu")
    bad = Job(JobId("s", 1, 0), "cosine", {}, 3, COSINE, (30, STEPS), hparams={"model.breaks": 1})
    trainer.start([bad])
    trainer.start([job()])
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with caplog.at_level(logging.ERROR):
        failed, other = trainer.advance([bad.id, job().id])
    assert (failed.state, failed.step, failed.reason) == ("failed", 2, "RuntimeError: out of luck")
    np.testing.assert_array_equal(failed.traces["lr/group0"], COSINE[:2])
    assert len(failed.traces["train/loss"]) == 2
    assert "Traceback" in caplog.text
    assert other.state == "running"
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(RuntimeError, match="failed"):
        trainer.weights(bad.id)
    with pytest.raises(RuntimeError, match="failed"):
        next(iter(trainer.advance([bad.id])))


def test_an_interrupt_passes_and_a_turn_broken_off_is_in_no_checkpoint(
    teacher: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = teacher()
    trainer = SequentialTrainer(task, Recipe(OptimizerSpec("torch.optim.SGD"), BATCH), device="cpu")
    trainer.start([job()])
    list(trainer.advance([job().id]))

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(task), "loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(trainer.advance([job().id]))
    trainer.save(tmp_path, 1)
    again = SequentialTrainer(task, Recipe(OptimizerSpec("torch.optim.SGD"), BATCH), device="cpu")
    assert again.restore(tmp_path, [job()], 1) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": "tpu9"}, "device=tpu9"),
        ({"device": "meta"}, "device=meta"),
        ({"device": "cuda:97"}, "device=cuda:97"),
        ({"threads": 0}, "trainer.threads=0"),
        ({"threads": "many"}, "trainer.threads=many"),
    ],
)
def test_settings_that_cannot_be_used_are_named(arguments: dict[str, Any], words: str, teacher: Any) -> None:
    def build() -> SequentialTrainer:
        recipe = Recipe(OptimizerSpec("torch.optim.SGD"), BATCH)
        return SequentialTrainer(teacher(), recipe, **{"device": "cpu"} | arguments)

    with pytest.raises(InputError, match=words):
        build()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hparams": {"optimizer.momentun": 0.9}}, "Did you mean momentum"),
        ({"hparams": {"train.batch_size": 4}}, "train.batch_size=4"),
        ({"controller": {"name": "plateau", "metric": "test/loss"}}, r"schedule\.cosine\.metric=test/loss"),
        ({"momentum_S": np.full(STEPS, 0.9)}, "changes the momentum"),
    ],
)
def test_jobs_that_cannot_be_trained_are_refused_before_anything_is(
    changes: dict[str, Any], words: str, teacher: Any
) -> None:
    trainer = SequentialTrainer(teacher(), Recipe(OptimizerSpec("torch.optim.Adagrad"), BATCH), device="cpu")
    other = {"_target_": "torch.optim.SGD"}
    if "momentum_S" not in changes:
        trainer = SequentialTrainer(teacher(), Recipe(parse_optimizer(other), BATCH), device="cpu")
    with pytest.raises(InputError, match=words):
        trainer.start([job(**changes)])


def test_the_number_of_threads_leaves_small_models_alone(teacher: Any) -> None:
    losses = []
    for threads in (1, 2):
        trainer = SequentialTrainer(
            teacher(), Recipe(OptimizerSpec("torch.optim.SGD"), BATCH), device="cpu", threads=threads
        )
        trainer.start([job()])
        losses.append(next(iter(trainer.advance([job().id]))).traces["train/loss"])
    np.testing.assert_array_equal(losses[0], losses[1])


def test_first_bad() -> None:
    assert first_divergence(np.array([1.0, 2.0]), 2.0) is None
    assert first_divergence(np.array([1.0, 2.1, np.nan]), 2.0) == 1
    assert first_divergence(np.array([np.nan, 5.0]), 2.0) == 0
    assert first_divergence(np.array([1.0, -np.inf]), 2.0) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_models_that_wait_in_host_memory_train_the_same(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    of, losses = job(), []
    for share in (0.0, 1.0):
        monkeypatch.setattr("sweeper.training.device.WAIT_SHARE", share)
        trainer = SequentialTrainer(teacher("dropout"), Recipe(OptimizerSpec("torch.optim.AdamW"), BATCH))
        trainer.start([of])
        losses.append([next(iter(trainer.advance([of.id]))).traces["train/loss"] for _ in of.report_steps])
    for one, other in zip(*losses, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fused_updates_are_asked_for_where_torch_has_them(teacher: Any) -> None:
    model = teacher().build(0)
    for name, fused in (("SGD", True), ("AdamW", True), ("RMSprop", None)):
        optimizer = make_optimizer(OptimizerSpec(f"torch.optim.{name}"), {}, model)
        assert optimizer.param_groups[0].get("fused") is fused
    chosen = make_optimizer(OptimizerSpec("torch.optim.SGD", {"foreach": True}), {}, model)
    assert chosen.param_groups[0]["fused"] is None
    sparse = nn.Embedding(4, 2, sparse=True)
    assert make_optimizer(OptimizerSpec("torch.optim.SGD"), {}, sparse).param_groups[0]["fused"] is None
