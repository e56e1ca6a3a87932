"""Norms of gradients and updates, against those of a plain loop, and at which updates there are any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sweeper.training.norms import measure_after, measure_before, measured_flags, measured_steps, norm_traces
from sweeper.training.optimizers.spec import OptimizerSpec, parse_optimizer
from sweeper.training.randomness import batches
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId

STEPS, BATCH = 450, 8
REPORTS = (7, 30, 203, STEPS)
LR = 0.1 * np.linspace(1, 0.1, STEPS)
NESTEROV = {"momentum": 0.9, "nesterov": True}  # torch's foreach variant overwrites the gradients


def flat(tensors: Any) -> torch.Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@pytest.mark.parametrize(
    ("kind", "options"),
    [("SGD", {**NESTEROV, "foreach": True}), ("SGD", NESTEROV), ("AdamW", {"weight_decay": 0.1})],
)
def test_norms_are_those_of_a_plain_loop(kind: str, options: dict[str, Any], teacher: Any) -> None:
    task = teacher()
    model = task.build(3).double()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1.0, **{**options, "foreach": False})
    gradients, ratios = [], []
    for index, lr in zip(batches(3, 0, STEPS, BATCH, task.size("train", 0)), LR, strict=True):
        optimizer.param_groups[0]["lr"] = float(lr)
        x, y = task.fetch("train", 0, torch.from_numpy(index))
        optimizer.zero_grad()
        task.loss(model(x.double()), y).mean().backward()
        before, gradient = flat(model.parameters()).clone(), flat(p.grad for p in model.parameters())
        gradients.append(gradient.norm().item())
        optimizer.step()
        ratios.append(((flat(model.parameters()) - before).norm() / before.norm()).item())
    trainer = SequentialTrainer(
        task,
        Recipe(parse_optimizer({"_target_": f"torch.optim.{kind}", **options}), BATCH, precision="float64"),
        device="cpu",
    )
    job = Job(JobId("s", 0, 0), "linear", {}, 3, LR, REPORTS)
    trainer.start([job])
    reports = [report for _ in REPORTS for report in trainer.advance([job.id])]
    at = measured_steps(STEPS, REPORTS) - 1
    for name, expected in (("grad_norm", gradients), ("update_to_weight", ratios)):
        trace = np.concatenate([report.traces[name] for report in reports])
        assert len(trace) == STEPS
        np.testing.assert_array_equal(np.flatnonzero(~np.isnan(trace)), at)
        np.testing.assert_allclose(trace[at], np.array(expected)[at], rtol=1e-9)


def test_a_diverged_job_keeps_the_norms_of_its_updates(teacher: Any) -> None:
    lr_S = np.full(STEPS, 0.01)
    lr_S[9] = 1e9
    trainer = SequentialTrainer(teacher(), Recipe(OptimizerSpec("torch.optim.SGD"), BATCH), device="cpu")
    job = Job(JobId("s", 0, 0), "constant", {}, 3, lr_S, (30, STEPS))
    trainer.start([job])
    (report,) = trainer.advance([job.id])
    assert (report.state, report.step) == ("diverged", 11)
    assert {len(trace) for trace in report.traces.values()} == {11}
    ratios = report.traces["update_to_weight"]
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(ratios)), [3, 7])  # every 4th of 450


def test_gradients_that_are_missing_or_sparse_count_as_what_they_are() -> None:
    embedding, frozen, unused = nn.Embedding(5, 2, sparse=True), nn.Linear(2, 2), nn.Linear(3, 1)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    parameters = [parameter for module in (embedding, frozen, unused) for parameter in module.parameters()]
    frozen(embedding(torch.tensor([1, 1, 4]))).sum().backward()
    assert embedding.weight.grad is not None
    before, gradient = flat(parameters).clone(), embedding.weight.grad.to_dense().norm().item()
    noted = measure_before(parameters)
    with torch.no_grad():
        embedding.weight.add_(1.0)
    ratio = ((flat(parameters) - before).norm() / before.norm()).item()
    traces = norm_traces(np.array([False, True]), [measure_after(parameters, noted)])
    np.testing.assert_allclose(traces["grad_norm"], [np.nan, gradient], rtol=1e-6)
    np.testing.assert_allclose(traces["update_to_weight"], [np.nan, ratio], rtol=1e-6)


def test_weights_of_zeros_have_no_ratio() -> None:
    weight = nn.Parameter(torch.zeros(3))
    noted = measure_before([weight])
    with torch.no_grad():
        weight.add_(1.0)
    traces = norm_traces(np.array([True]), [measure_after([weight], noted)])
    assert np.isnan(traces["update_to_weight"]).all()
    np.testing.assert_array_equal(traces["grad_norm"], [0.0])


@given(st.integers(1, 3000), st.sets(st.integers(1, 3000), max_size=250))
def test_about_a_hundred_updates_are_measured_whatever_the_reports(steps: int, inner: set[int]) -> None:
    reports = (*sorted(step for step in inner if step < steps), steps)
    chosen = measured_steps(steps, reports)
    assert (np.diff(chosen) > 0).all()
    assert chosen[-1] == steps
    assert set(range(max(1, steps // 100), steps + 1, max(1, steps // 100))) <= set(chosen.tolist())
    assert len(chosen) <= 299
    if len(reports) <= 100:
        assert set(reports) <= set(chosen.tolist())
    cuts = (0, *reports)
    flags = [measured_flags(steps, reports, first, until) for first, until in zip(cuts[:-1], reports, strict=True)]
    np.testing.assert_array_equal(np.flatnonzero(np.concatenate(flags)) + 1, chosen)
