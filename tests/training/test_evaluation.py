"""A whole part, in whatever batches, as one."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import nn

from sweeper.training import evaluation
from sweeper.training.evaluation import cast, evaluate, evaluation_mode, join_batches, rows_at_once
from sweeper.training.examples import Examples

CPU = torch.device("cpu")
Pair = namedtuple("Pair", "a b")


def test_batches_make_no_difference(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = teacher("batchnorm")
    model = task.build(1).double()
    whole = evaluate(Examples(task, "valid", 0), model, CPU)
    x, y = task.parts["valid"]
    model.eval()
    assert whole["valid/loss"] == pytest.approx(task.loss(model(x.double()), y).mean().item(), rel=1e-14)
    assert whole["valid/accuracy"] == (model(x.double()).argmax(1) == y).double().mean().item()
    monkeypatch.setattr(evaluation, "BATCH_BYTES", 5 * 8 * 8)  # 5 rows of 8 float64
    assert rows_at_once(Examples(task, "valid", 0), model, CPU) == 5
    assert evaluate(Examples(task, "valid", 0), model, CPU) == pytest.approx(whole, rel=1e-14)
    monkeypatch.setattr(evaluation, "BATCH_BYTES", 1)
    assert rows_at_once(Examples(task, "valid", 0), model, CPU) == 1


def test_metrics_see_what_a_task_keeps_of_its_batches(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = teacher("batchnorm")
    model, size = task.build(1), task.size("valid", 0)
    whole = evaluate(Examples(task, "valid", 0), model, CPU)

    def metrics(kept: Pair, target: torch.Tensor) -> dict[str, float]:
        assert kept.a.shape == target.shape == (size,)
        return {"accuracy": (kept.a == target).double().mean().item()}

    monkeypatch.setattr(evaluation, "BATCH_BYTES", 5 * 8 * 4)
    monkeypatch.setattr(task, "kept", lambda output_B, target_B: Pair(output_B.argmax(1), target_B), raising=False)
    monkeypatch.setattr(task, "metrics", metrics)
    assert evaluate(Examples(task, "valid", 0), model, CPU)["valid/accuracy"] == whole["valid/accuracy"]


def test_every_module_is_afterwards_as_it_was(teacher: Any) -> None:
    model = teacher("batchnorm").build(1)
    model[1].eval()  # frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    evaluate(Examples(teacher("batchnorm"), "train", 0), model, CPU)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_nested_inputs_are_cast_and_nested_outputs_joined() -> None:
    nested: dict[str, Any] = {
        "x": torch.ones(2),
        "ids": (torch.ones(2, dtype=torch.int64), [Pair(torch.ones(2), None)]),
    }
    out = cast(nested, torch.float64)
    assert out["x"].dtype == out["ids"][1][0].a.dtype == torch.float64
    assert out["ids"][0] is nested["ids"][0]
    assert out["ids"][1][0].b is None
    both = join_batches([out, out])
    assert both["x"].shape == both["ids"][0].shape == both["ids"][1][0].a.shape == (4,)
    assert isinstance(both["ids"][1][0], Pair)


def test_the_rows_follow_the_largest_output_of_a_module(teacher: Any) -> None:
    task = teacher()
    small = rows_at_once(Examples(task, "valid", 0), task.build(0), CPU)
    wide = nn.Sequential(nn.Linear(6, 4000), nn.Linear(4000, 3))
    assert rows_at_once(Examples(task, "valid", 0), wide, CPU) == small * 8 // 4000


def test_rows_that_are_known_are_not_looked_for_again(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, rows = teacher("dropout"), {("valid", 0): 7}
    assert evaluate(Examples(task, "valid", 0), task.build(0), CPU, rows=rows) == pytest.approx(
        evaluate(Examples(task, "valid", 0), task.build(0), CPU), rel=1e-6
    )
    evaluate(Examples(task, "test", 0), task.build(0), CPU, rows=rows)
    assert rows == {("valid", 0): 7, ("test", 0): rows_at_once(Examples(task, "test", 0), task.build(0), CPU)}
    monkeypatch.setattr(evaluation, "rows_at_once", None)
    evaluate(Examples(task, "valid", 0), task.build(1), CPU, rows=rows)
