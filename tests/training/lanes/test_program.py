"""Where a model's numbers lie in rows, and models whose parameters and buffers are special, against one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.tasks import Arrays, Supervised
from sweeper.training.lanes.probe import Verdict, probe
from sweeper.training.lanes.program import Layout, Program, build_model
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.spec import parse_optimizer
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Report

STEPS, REPORTS, BATCH = 9, (4, 9), 8
SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9, "weight_decay": 0.1}
ADAMW = {"_target_": "torch.optim.AdamW", "weight_decay": 0.5}


class Net(nn.Module):
    """[B, 6] -> [B, 4]; `change` makes it special, `middle` is what happens between its two layers."""

    def __init__(
        self, change: Callable[[Net], Any] = lambda net: None, middle: Callable[[Net, Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 4)
        self.middle = middle or between
        change(self)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.middle(self, self.first(x)).tanh())
        return output


def between(net: Net, x: Tensor) -> Tensor:
    return x


def task_of(*made: Any) -> Supervised:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(50, 6)).astype(np.float32)
    return Supervised(Arrays(x, draw.integers(0, 4, 50)), lambda: Net(*made))


def job(lane: int = 0) -> Job:
    return Job(JobId("s", lane, 0), "f", {}, 5 + lane, np.linspace(0.1, 0.01, STEPS) / (1 + lane), REPORTS)


def probed(task: Supervised) -> Verdict:
    return probe(task, Recipe(parse_optimizer(SGD), BATCH), job(), device="cpu")


def trained(trainer: Any) -> list[tuple[list[Report], dict[str, Tensor]]]:
    jobs = [job(lane) for lane in range(3)]
    trainer.start(jobs)
    reports = [report for _ in REPORTS for report in trainer.advance([each.id for each in jobs])]
    return [([r for r in reports if r.id == each.id], trainer.weights(each.id)) for each in jobs]


def assert_same_as_alone(task: Supervised, config: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the last job, float64."""
    recipe = Recipe(parse_optimizer(config), BATCH, "float64")
    form = probed(task).form
    assert form is not None
    found = trained(LaneTrainer(task, recipe, Stacking(form, width=2), device="cpu"))
    for (reports, weights), (others, same) in zip(
        found, trained(SequentialTrainer(task, recipe, device="cpu")), strict=True
    ):
        for report, other in zip(reports, others, strict=True):
            assert report.state == other.state != "failed"
            assert report.metrics == pytest.approx(other.metrics, rel=1e-12)
            for name, trace in other.traces.items():
                np.testing.assert_allclose(report.traces[name], trace, rtol=1e-9, err_msg=name)
        assert weights.keys() == same.keys()
        for name, value in same.items():
            assert weights[name].dtype == value.dtype
            torch.testing.assert_close(weights[name], value, rtol=1e-12, atol=1e-14)
    return found[-1][1]


# --- rows -------------------------------------------------------------------------------------------


def test_a_row_is_the_parameters_end_to_end_and_back() -> None:
    net: Any = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    layout = Layout(net, ("1.weight", "0.weight", "0.bias"))  # any of them, in any order
    rows = torch.stack([layout.row(dict(net.named_parameters())) + lane for lane in range(2)])
    assert rows.shape == (2, layout.size) == (2, 2 + 6 + 2)
    views = layout.views(rows)
    assert {name: tuple(view.shape) for name, view in views.items()} == {
        "1.weight": (2, 1, 2), "0.weight": (2, 2, 3), "0.bias": (2, 2),
    }  # fmt: skip
    assert torch.equal(views["0.weight"][1], net[0].weight + 1)
    assert torch.equal(layout.gradient(list(views.values())), rows)
    views["0.bias"][0].zero_()
    assert rows[0, -2:].tolist() == [0, 0]  # a view


def test_a_program_holds_one_lane_after_another_without_a_copy() -> None:
    task = task_of(lambda net: net.register_buffer("scale", torch.ones(2)))
    cpu = torch.device("cpu")
    models = [build_model(task, seed, {}, torch.float32, cpu) for seed in range(2)]
    form = probed(task).form
    assert form is not None
    program = Program(task, models[0], form, BATCH)
    rows = [program.rows(model) for model in models]
    x = torch.ones(1, 6)
    for lane in (0, 1, 0):
        held = program.hold(rows[lane])
        torch.testing.assert_close(held(x), build_model(task, lane, {}, torch.float32, cpu)(x))  # by other addresses
    rows[0].weight_P.zero_()
    assert held(x).abs().sum() == 0


# --- models that are special ------------------------------------------------------------------------


def tie(net: Net) -> None:
    net.last = nn.Linear(6, 6)
    net.last.weight = net.first.weight


def freeze(net: Net) -> None:
    net.first.weight.requires_grad_(False)


def add_unused(net: Net) -> None:
    """Parameters that no loss depends on, between others, and a frozen one of whole numbers."""
    net.unused = nn.Linear(3, 3)
    net.table = nn.Parameter(torch.arange(3), requires_grad=False)
    net.last = nn.Linear(6, 4)


def add_buffers(net: Net) -> None:
    net.register_buffer("calls", torch.zeros(1, dtype=torch.int64))
    net.register_buffer("mean", torch.zeros(6), persistent=False)
    net.register_buffer("scale", torch.full((6,), 0.5))


def count_and_center(net: Any, x: Tensor) -> Tensor:
    if net.training:
        net.calls.add_(1)
        net.mean.lerp_(x.detach().mean(0), 0.3)
    output: Tensor = (x - net.mean) * net.scale
    return output


def add_frozen_norm(net: Net) -> None:
    net.norm = nn.Sequential(nn.BatchNorm1d(6), nn.BatchNorm1d(6).eval())


def normalised(net: Any, x: Tensor) -> Tensor:
    output: Tensor = net.norm(x)
    return output


SPECIAL: dict[str, tuple[Any, ...]] = {
    "plain": (),
    "tied": (tie,),
    "frozen": (freeze,),
    "unused": (add_unused,),
    "buffers": (add_buffers, count_and_center),
    "normalisation in evaluation": (add_frozen_norm, normalised),
}


@pytest.mark.parametrize("config", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_models_train_as_alone(name: str, config: dict[str, Any]) -> None:
    if name == "normalisation in evaluation" and config is ADAMW:
        config = SGD | {"nesterov": True}  # a bias before a normalisation is noise to AdamW
    assert_same_as_alone(task_of(*SPECIAL[name]), config)


@pytest.mark.parametrize("config", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_weight_decay_leaves_what_has_no_gradient_alone(config: dict[str, Any]) -> None:
    task = task_of(add_unused)
    weights, start = assert_same_as_alone(task, config), task.build(job(2).seed).state_dict()
    for name in ("unused.weight", "unused.bias", "table"):
        assert torch.equal(weights[name].to(start[name].dtype), start[name])
    assert not torch.equal(weights["first.weight"].float(), start["first.weight"])


def test_buffers_count_and_stay() -> None:
    task = task_of(add_buffers, count_and_center)
    form = probed(task).form
    assert form is not None
    assert set(form.moving) == {"calls", "mean"}
    weights = assert_same_as_alone(task, SGD)
    assert weights["calls"].tolist() == [STEPS]
    assert "mean" not in weights  # not persistent, yet it moved: the metrics agree
    assert weights["scale"].tolist() == [0.5] * 6


def test_tied_weights_are_trained_once() -> None:
    weights = assert_same_as_alone(task_of(tie), SGD)
    assert torch.equal(weights["last.weight"], weights["first.weight"])
    form = probed(task_of(tie)).form
    assert form is not None
    assert form.trained == ("first.weight", "first.bias", "last.bias")


def test_a_model_without_trained_parameters_is_refused_in_words() -> None:
    verdict = probed(task_of(lambda net: net.requires_grad_(False)))
    assert (verdict.form, verdict.why) == (None, "one trial at a time: no parameter of the model is trained")


def test_models_of_other_structure_are_other_stacks() -> None:
    """A trial that chooses its activation is stacked with its like."""
    draw = np.random.default_rng(3)
    data = Arrays(draw.normal(size=(50, 6)).astype(np.float32), draw.integers(0, 4, 50))

    def make(steep: bool = False) -> Net:
        return Net(middle=lambda net, x: functional.relu(x) if steep else x)

    task = Supervised(data, make)
    form = probed(task).form
    assert form is not None
    jobs = [
        Job(job(lane).id, "f", {}, 5, job().lr_S, REPORTS, hparams={"model.steep": bool(lane % 2)}) for lane in range(4)
    ]
    trainer = LaneTrainer(task, Recipe(parse_optimizer(SGD), BATCH), Stacking(form, width=4), device="cpu")
    trainer.start(jobs)
    losses = {report.id.trial: report.metrics["valid/loss"] for report in trainer.advance([each.id for each in jobs])}
    assert losses[0] == losses[2] != losses[1] == losses[3]
