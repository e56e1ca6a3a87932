"""Compiled lanes against eager ones: the same numbers, compiled once, nothing left behind. Slow: compiling is."""

from __future__ import annotations

import dataclasses
import functools
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.models import MLP, NGram
from sweeper.tasks.problems import Supervised
from sweeper.training.lanes.compiling import CompiledUpdate, compiler_settings
from sweeper.training.lanes.probe import probe
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.spec import parse_optimizer
from sweeper.training.recipe import Recipe
from sweeper.types import Job, JobId, Report

pytestmark = pytest.mark.slow

BATCH, STEPS, REPORTS = 8, 240, (60, 130, 240)  # of a run this long not every update is measured
NESTEROV = {"_target_": "torch.optim.SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
ADAMW = {"_target_": "torch.optim.AdamW", "weight_decay": 0.1}


class Convolutional(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 4, 3, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout1d(dropout), nn.Flatten()
        )
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.layers(x[:, None]))
        return output


class Uncompilable(nn.Module):
    """vmap does not mind, Dynamo does."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        output: Tensor = self.last(x)
        return output


def task_of(model: Any, symbols: bool = False) -> Supervised:
    draw = np.random.default_rng(5)
    x = draw.integers(0, 7, size=(60, 5)) if symbols else draw.normal(size=(60, 6)).astype(np.float32)
    return Supervised(Arrays(x, draw.integers(0, 3, 60)), model)


MODELS: dict[str, tuple[Supervised, dict[str, Any]]] = {
    "mlp": (task_of(functools.partial(MLP, width=8)), NESTEROV),
    "ngram": (task_of(functools.partial(NGram, width=8, embedding=4), symbols=True), ADAMW),
    "batchnorm": (task_of(Convolutional), NESTEROV),
}


def job(lane: int, dropout: float = 0.3, **changes: Any) -> Job:
    lr_S = 0.02 / (1 + lane) * np.cos(np.linspace(0, 1.5, STEPS))
    hparams = {"model.dropout": dropout}
    return dataclasses.replace(Job(JobId("s", lane, 0), "f", {}, 5 + lane, lr_S, REPORTS, hparams=hparams), **changes)


def lanes(task: Supervised, config: dict[str, Any], precision: str = "float32", compiled: bool = True) -> LaneTrainer:
    example = dataclasses.replace(job(0), hparams={})
    form = probe(task, Recipe(parse_optimizer(config), BATCH), example, device="cpu").form
    assert form is not None
    recipe = Recipe(parse_optimizer(config), BATCH, precision)
    return LaneTrainer(task, recipe, Stacking(form, width=3, compiled=compiled), device="cpu")


def loud(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a user sees of the log: torch traces its own compiling below that."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def refilled(trainer: LaneTrainer) -> dict[JobId, list[Report]]:
    """Turns of changing lanes: with dropout, with less of it, without any, one diverging, at other updates."""
    diverging = job(2, lr_S=np.full(STEPS, 1e18))
    trainer.start([job(0), job(1, 0.0), diverging])
    found: dict[JobId, list[Report]] = {}
    for ids in [[0, 1, 2], [1], [0, 1], [3, 1, 4], [0, 4], [3, 4]]:
        for lane in {3, 4} & set(ids) - {id.trial for id in found}:
            trainer.start([job(lane, 0.5 * (lane == 4))])
        going = [JobId("s", lane, 0) for lane in ids]
        running = [id for id in going if id not in found or found[id][-1].state == "running"]
        for report in trainer.advance(running):
            found.setdefault(report.id, []).append(report)
    return found


@pytest.mark.parametrize(("model", "precision", "rtol"), [
    ("mlp", "float64", 1e-9), ("ngram", "float32", 1e-4), ("batchnorm", "float64", 1e-9),
])  # fmt: skip
def test_compiled_lanes_equal_eager_ones_and_are_compiled_once(
    model: str, precision: str, rtol: float, caplog: pytest.LogCaptureFixture
) -> None:
    (task, config), counters = MODELS[model], torch._dynamo.utils.counters
    eager = refilled(lanes(task, config, precision=precision, compiled=False))
    counters.clear()
    with warnings.catch_warnings(record=True) as noise:
        warnings.simplefilter("always")
        compiled = refilled(lanes(task, config, precision=precision))
    assert [str(warning.message) for warning in noise] == []
    assert loud(caplog) == []
    assert counters["stats"]["unique_graphs"] == 1
    assert compiled.keys() == eager.keys()
    for id, reports in eager.items():
        for report, other in zip(compiled[id], reports, strict=True):
            assert (report.step, report.state) == (other.step, other.state)
            assert report.metrics == pytest.approx(other.metrics, rel=rtol)
            for name, trace in other.traces.items():
                np.testing.assert_allclose(report.traces[name], trace, rtol=rtol, err_msg=name)


def test_compiled_neighbours_change_no_bit() -> None:
    task, config = MODELS["mlp"]
    (alone,) = _reports(lanes(task, config), [job(0)])
    for neighbours in (
        [job(3, 0.0), job(4)],
        [job(2, lr_S=np.full(STEPS, 1e18)), job(1, report_steps=(50, 51, STEPS))],
    ):
        trainer = lanes(task, config)
        trainer.start(neighbours)
        list(trainer.advance([each.id for each in neighbours]))  # they are ahead
        trainer.start([job(0)])
        again = [each.id for each in neighbours if each.id.trial != 2]
        (found,) = [report for report in trainer.advance([*again, job(0).id]) if report.id == job(0).id]
        assert found.metrics == alone.metrics
        for name, trace in alone.traces.items():
            np.testing.assert_array_equal(found.traces[name], trace)


def _reports(trainer: LaneTrainer, jobs: Sequence[Job]) -> list[Report]:
    trainer.start(jobs)
    return list(trainer.advance([each.id for each in jobs]))


def test_what_cannot_be_compiled_is_trained_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    task, jobs = task_of(Uncompilable), [job(lane, hparams={}) for lane in range(2)]
    eager = _reports(lanes(task, NESTEROV, compiled=False), jobs)
    found = _reports(lanes(task, NESTEROV), jobs)
    for report, other in zip(found, eager, strict=True):
        np.testing.assert_array_equal(report.traces["train/loss"], other.traces["train/loss"])
    (said,) = loud(caplog)
    assert "cannot be compiled and runs uncompiled" in said


def test_torch_does_not_give_up_after_eight_updates() -> None:
    def times(factor: int) -> Any:
        def update(x: Tensor) -> Tensor:
            return x * factor

        return update

    x = torch.arange(3.0)
    with compiler_settings():
        counters = torch._dynamo.utils.counters
        counters.clear()
        for factor in range(10):
            assert torch.equal(CompiledUpdate(times(factor))(x), x * factor)
        assert counters["stats"]["unique_graphs"] == 10


def test_another_size_is_compiled_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for any size, as torch does from the second one on: that is slower, and some operations fail."""
    sizes: list[bool] = []

    def update(x: Tensor) -> Tensor:
        return x * x.shape[0]

    def backend(graph: Any, inputs: Any) -> Any:
        sizes.append(all(isinstance(one, Tensor) for one in inputs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    with compiler_settings():
        for size in (3, 4, 5):
            assert torch.equal(CompiledUpdate(update)(torch.ones(size)), torch.full((size,), float(size)))
    assert sizes == [True, True, True]


def test_settings_and_warnings_are_as_before() -> None:
    settings: Any = torch._dynamo.config
    before = (settings.trace_autograd_ops, list(warnings.filters))
    with compiler_settings():
        assert settings.trace_autograd_ops
    assert (settings.trace_autograd_ops, list(warnings.filters)) == before
