"""Clipping, micro-batches, the average of the weights and mixed precision: by hand, alone and in lanes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeper.training.lanes.probe import ProbedTrainer, probe
from sweeper.training.lanes.program import Form
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.spec import parse_optimizer
from sweeper.training.randomness import batches
from sweeper.training.recipe import Recipe, newest_share
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import InputError, Job, JobId, Report, Trainer

STEPS, BATCH, CPU = 12, 8, torch.device("cpu")
SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9, "nesterov": True}
ADAMW = {"_target_": "torch.optim.AdamW", "weight_decay": 0.1}
RECIPES: dict[str, dict[str, Any]] = {
    "clip": {"clip": 0.3},
    "accumulate": {"accumulate": 4},
    "ema": {"ema": 0.7},
    "all": {"clip": 0.3, "accumulate": 2, "ema": 0.9},
}


def job(trial: int = 0, **changes: Any) -> Job:
    lr_S = 0.1 / (1 + trial) * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2
    reports = (3, 7, STEPS) if trial % 2 else (5, STEPS)
    return dataclasses.replace(Job(JobId("s", trial, 0), "cosine", {}, 10 + trial, lr_S, reports), **changes)


def recipe(optimizer: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe(parse_optimizer(optimizer), **{"batch_size": BATCH, "precision": "float64"} | changes)


def alone(task: Any, optimizer: dict[str, Any], **changes: Any) -> SequentialTrainer:
    return SequentialTrainer(task, recipe(optimizer, **changes), device="cpu")


@functools.cache
def form_of(kind: str, make: Any) -> Form:
    form = probe(make(kind), Recipe(parse_optimizer(SGD), BATCH), job(), device="cpu").form
    assert form is not None
    return form


def lanes(task: Any, optimizer: Mapping[str, Any], *, compiled: bool = False, **changes: Any) -> LaneTrainer:
    form = form_of(task.kind, type(task))
    return LaneTrainer(task, recipe(optimizer, **changes), Stacking(form, width=3, compiled=compiled), device="cpu")


def trained(trainer: Trainer, jobs: Sequence[Job]) -> list[tuple[list[Report], dict[str, Tensor]]]:
    trainer.start(jobs)
    reports: dict[JobId, list[Report]] = {of.id: [] for of in jobs}
    while going := [id for id, those in reports.items() if not those or those[-1].state == "running"]:
        for report in trainer.advance(going):
            reports[report.id].append(report)
    return [(reports[of.id], trainer.weights(of.id)) for of in jobs]


def losses(reports: Sequence[Report]) -> Any:
    return np.concatenate([report.traces["train/loss"] for report in reports])


def by_hand(task: Any, of: Job, clip: float | None = None) -> list[dict[str, Tensor]]:
    """The weights after each update of a plain loop."""
    model = task.build(of.seed).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    found = []
    for index_B, lr in zip(batches(of.seed, 0, STEPS, BATCH, task.size("train", 0)), of.lr_S, strict=True):
        x, y = task.fetch("train", 0, torch.from_numpy(index_B))
        optimizer.param_groups[0]["lr"] = float(lr)
        optimizer.zero_grad()
        task.loss(model(x.double()), y).mean().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        found.append({name: value.clone() for name, value in model.state_dict().items()})
    return found


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 1e-11) -> None:
    assert one.keys() == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(one[name].double(), value.double(), rtol=tolerance, atol=tolerance)


# --- by hand ----------------------------------------------------------------------------------------


def test_clipping_is_that_of_torch(teacher: Any) -> None:
    task, of = teacher(), job()
    (_, weights), *_ = trained(alone(task, SGD, clip=0.3), [of])
    assert_close(weights, by_hand(task, of, 0.3)[-1])
    with pytest.raises(AssertionError):
        assert_close(weights, by_hand(task, of)[-1])


def test_gradients_are_measured_before_they_are_clipped(teacher: Any) -> None:
    (clipped, _), *_ = trained(alone(teacher(), SGD, clip=0.01), [job()])
    (plain, _), *_ = trained(alone(teacher(), SGD), [job()])
    assert clipped[0].traces["grad_norm"][0] == plain[0].traces["grad_norm"][0] > 0.01


def test_micro_batches_are_one_update(teacher: Any) -> None:
    task, of = teacher(), job()
    (reports, weights), *_ = trained(alone(task, SGD, accumulate=4), [of])
    (whole, same), *_ = trained(alone(task, SGD), [of])
    assert_close(weights, same)
    np.testing.assert_allclose(losses(reports), losses(whole), rtol=1e-11)


def test_each_micro_batch_drops_other_units(teacher: Any) -> None:
    """Eight times the same example: its losses are equal within no pair of micro-batches."""
    task = teacher("dropout")
    x, y = task.parts["train"]
    task.parts["train"] = (x[:1].expand(50, -1), y[:1].expand(50))
    (reports, _), *_ = trained(alone(task, SGD, accumulate=BATCH), [job(lr_S=np.zeros(STEPS))])
    (once, _), *_ = trained(alone(task, SGD, batch_size=1), [job(lr_S=np.zeros(STEPS))])
    assert (np.abs(losses(reports) - losses(once)) > 1e-3).sum() > STEPS / 2


def test_the_average_is_as_its_formula_says(teacher: Any) -> None:
    task, ema = teacher(), 0.7
    of = job(report_steps=tuple(range(1, STEPS + 1)))
    trainer = alone(task, SGD, ema=ema)
    trainer.start([of])
    average: dict[str, Tensor] = {}
    for step, weights in enumerate(by_hand(task, of), 1):
        decay = min(ema, (step - 1) / (step + 8))
        average = {name: decay * average.get(name, value) + (1 - decay) * value for name, value in weights.items()}
        (report,) = trainer.advance([of.id])
        assert_close(trainer.weights(of.id), average)
        model = task.build(0).double()
        model.load_state_dict(average)
        x, y = task.parts["valid"]
        assert report.metrics["valid/loss"] == pytest.approx(task.loss(model(x.double()), y).mean().item(), rel=1e-11)


def test_the_average_starts_at_the_first_weights_and_ends_at_its_decay() -> None:
    share_S = newest_share(0.9, 0, 200)
    assert share_S[0] == 1
    assert (np.diff(share_S) <= 0).all()
    assert share_S[-1] == pytest.approx(0.1)
    np.testing.assert_array_equal(newest_share(0.9, 50, 10), share_S[50:60])


def test_training_itself_knows_no_average(teacher: Any) -> None:
    (reports, _), *_ = trained(alone(teacher(), ADAMW, ema=0.9), [job()])
    (plain, _), *_ = trained(alone(teacher(), ADAMW), [job()])
    np.testing.assert_array_equal(losses(reports), losses(plain))
    assert reports[0].metrics != plain[0].metrics


# --- alone and in lanes -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "optimizer"), [("plain", ADAMW), ("dropout", SGD), ("batchnorm", SGD)])
@pytest.mark.parametrize("name", RECIPES)
def test_lanes_train_as_alone(name: str, kind: str, optimizer: dict[str, Any], teacher: Any) -> None:
    task, jobs = teacher(kind), [job(trial) for trial in range(4)]
    expected = trained(alone(task, optimizer, **RECIPES[name]), jobs)
    found = trained(lanes(task, optimizer, **RECIPES[name]), jobs)
    for (reports, weights), (same, others) in zip(found, expected, strict=True):
        for report, other in zip(reports, same, strict=True):
            assert report.metrics == pytest.approx(other.metrics, rel=1e-9)
            for trace, value in other.traces.items():
                np.testing.assert_allclose(report.traces[trace], value, rtol=1e-9, err_msg=trace)
        assert_close(weights, others, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "bfloat16"])
def test_compiled_lanes_train_as_lanes(name: str, teacher: Any) -> None:
    given = {"precision": "bfloat16"} if name == "bfloat16" else RECIPES[name]
    task, jobs = teacher("dropout"), [job(trial) for trial in range(3)]
    expected = trained(lanes(task, ADAMW, **given), jobs)
    found = trained(lanes(task, ADAMW, compiled=True, **given), jobs)
    for (reports, _), (same, _) in zip(found, expected, strict=True):
        np.testing.assert_allclose(losses(reports), losses(same), rtol=0.02 if name == "bfloat16" else 1e-9)


# --- checkpoints ------------------------------------------------------------------------------------


def makers(task: Any, **changes: Any) -> dict[str, Any]:
    return {
        "sequential": lambda **more: alone(task, ADAMW, **changes, **more),
        "lanes": lambda **more: lanes(task, ADAMW, **changes, **more),
    }


@pytest.mark.parametrize("kind", ["sequential", "lanes"])
def test_a_restored_job_goes_on_with_its_average(kind: str, teacher: Any, tmp_path: Path) -> None:
    make, of = makers(teacher("dropout"), precision="float32")[kind], job()
    (whole, weights), *_ = trained(make(**RECIPES["all"]), [of])
    first = make(**RECIPES["all"])
    first.start([of])
    list(first.advance([of.id]))
    first.save(tmp_path, 1)
    second = make(**RECIPES["all"])
    assert second.restore(tmp_path, [of], 1) == {of.id: 5}
    (report,) = second.advance([of.id])
    assert report.metrics == whole[-1].metrics
    for name, value in second.weights(of.id).items():
        assert torch.equal(value, weights[name])
    for other in ({}, {"ema": 0.9}, {**RECIPES["all"], "clip": 0.4}):
        assert make(**other).restore(tmp_path, [of], 1) == {}


# --- mixed precision --------------------------------------------------------------------------------


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten())
        self.last = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.layers(x.unsqueeze(1)))
        return output


def convolutional(teacher: Any) -> Any:
    task = teacher()

    def build(seed: int, **numbers: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Convolutional()

    task.build, task.to = build, lambda device: task
    return task


@pytest.mark.parametrize("model", ["dense", "convolutional"])
def test_mixed_precision_in_lanes_is_that_alone(model: str, teacher: Any) -> None:
    task = convolutional(teacher) if model == "convolutional" else teacher("dropout")
    jobs = [job(trial) for trial in range(3)]
    verdict = probe(task, Recipe(parse_optimizer(SGD), BATCH, precision="bfloat16"), jobs[0], device="cpu")
    assert verdict.form is not None, verdict.why
    mixed = recipe(SGD, precision="bfloat16")
    expected = trained(SequentialTrainer(task, mixed, device="cpu"), jobs)
    found = trained(LaneTrainer(task, mixed, Stacking(verdict.form, width=3), device="cpu"), jobs)
    exact = trained(alone(task, SGD, precision="float32"), jobs)
    for (reports, weights), (same, _), (right, _) in zip(found, expected, exact, strict=True):
        rounding = np.abs(losses(same) - losses(right)).max()
        assert 1e-5 < rounding < 0.1  # mixed it is
        assert np.abs(losses(reports) - losses(same)).max() <= 2 * rounding
        assert {value.dtype for value in weights.values()} <= {torch.float32, torch.int64}


def test_validation_is_in_the_same_precision(teacher: Any) -> None:
    """Of equal weights: with an LR of 0."""
    task, of = teacher(), job(lr_S=np.zeros(STEPS))
    found = {}
    for precision in ("float32", "bfloat16"):
        (reports, _), *_ = trained(alone(task, SGD, precision=precision), [of])
        found[precision] = reports[0].metrics["valid/loss"]
    model = task.build(of.seed)
    x, y = task.parts["valid"]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(x)
    assert found["bfloat16"] == pytest.approx(task.loss(output.float(), y).double().mean().item(), rel=1e-6)
    assert found["bfloat16"] != found["float32"]


class NoHalf(nn.Linear):
    """torch cannot stack an operation of it in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        return output.cumsum(1) if output.dtype != torch.bfloat16 else output * (output.sum() > 0).item()


def test_what_cannot_be_stacked_in_mixed_precision_is_not(teacher: Any) -> None:
    task = teacher()
    task.build, task.to = lambda seed: NoHalf(6, 3), lambda device: task
    torch.manual_seed(0)
    for precision, stacked in (("float32", True), ("bfloat16", False)):
        verdict = probe(task, Recipe(parse_optimizer(SGD), BATCH, precision=precision), job(), device="cpu")
        assert (verdict.form is not None) == stacked
    trainer = ProbedTrainer(task, recipe(SGD, precision="bfloat16"), device="cpu")
    trainer.start([job()])
    assert str(trainer.why).startswith("one trial at a time: the model's forward pass needs the value of a tensor")


# --- what cannot be used ----------------------------------------------------------------------------


def test_a_batch_is_divided_into_equal_parts() -> None:
    Recipe(parse_optimizer(SGD), BATCH, accumulate=4)
    message = r"train\.accumulate=3: train\.batch_size=8 cannot be divided into 3 equal parts"
    with pytest.raises(InputError, match=message):
        Recipe(parse_optimizer(SGD), BATCH, accumulate=3)
