"""`train` and `schedule_unit` of the configuration: how trials train, how long, and when they report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sweeper.spec.horizon import horizon
from sweeper.spec.sweep import Node, TrainSpec
from sweeper.spec.values import parse_switch, parse_whole
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.types import InputError

UPDATE = {"clip": None, "accumulate": 1, "ema": None}  # keys of train that change an update, and what changes none


def parse_train(config: Node, optimizer: OptimizerSpec, size: Callable[[], int]) -> TrainSpec:
    """Return how trials train. size: examples to train on, asked where epochs count."""
    train = config["train"]
    update = {key: train.get(key, default) for key, default in UPDATE.items()}
    norms = parse_switch("train.norms", train["norms"])
    recipe = Recipe(optimizer, train["batch_size"], train["precision"], norms=norms, **update)
    steps, epoch = horizon(train, config.get("schedule_unit", "step"), size)
    reports = _reports(config["search"]["reports"], steps)
    report_steps = tuple((2 * i * steps + reports) // (2 * reports) for i in range(1, reports + 1))
    return TrainSpec(recipe, report_steps, epoch)


def question_of(train: TrainSpec) -> dict[str, Any]:
    """What of it identifies a sweep, as its question has it."""
    recipe = train.recipe
    changed = {key: value for key, default in UPDATE.items() if (value := getattr(recipe, key)) != default}
    return {"steps": train.steps, "batch_size": recipe.batch_size, "precision": recipe.precision, **changed}


def _reports(asked: object, steps: int) -> int:
    """How often a trial reports: `search.reports`, a multiple of 4 and at most the number of updates."""
    reports = parse_whole("search.reports", asked, 4)
    if reports % 4:
        raise InputError("search.reports", asked, "not a multiple of 4", f"Write {4 * max(1, round(reports / 4))}")
    if reports > steps:
        raise InputError(
            "search.reports", asked, f"more than the {steps} updates of a trial", "Lower it, or raise train.steps"
        )
    return reports
