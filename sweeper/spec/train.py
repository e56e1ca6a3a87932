"""Parse `train` and `schedule_unit`: how trials train, how long, and when they report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NotRequired

from sweeper.spec.horizon import HorizonNode, horizon
from sweeper.spec.sweep import TrainSpec
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.types import InputError

UPDATE = {"clip": None, "accumulate": 1, "ema": None}  # keys of train that change an update, with neutral values


class TrainNode(HorizonNode):
    """`train` of the configuration."""

    precision: str
    norms: bool
    clip: NotRequired[float | None]
    accumulate: NotRequired[int]
    ema: NotRequired[float | None]


def parse_train(
    train: TrainNode, optimizer: OptimizerSpec, size: Callable[[], int], *, schedule_unit: str, reports: int
) -> TrainSpec:
    """Return how trials train.

    Args:
        train: `train` of the configuration.
        optimizer: Its fixed options.
        size: Returns the number of training examples; called only if epochs count.
        schedule_unit: `schedule_unit` of the configuration.
        reports: `search.reports`.

    Raises:
        InputError: If trials cannot be trained so.
    """
    recipe = Recipe(
        optimizer,
        train["batch_size"],
        train["precision"],
        clip=train.get("clip"),
        accumulate=train.get("accumulate", 1),
        ema=train.get("ema"),
        norms=train["norms"],
    )
    steps, epoch = horizon(train, schedule_unit, size)
    count = _reports(reports, steps)
    report_steps = tuple((2 * i * steps + count) // (2 * count) for i in range(1, count + 1))
    return TrainSpec(recipe, report_steps, epoch)


def question_of(train: TrainSpec) -> dict[str, Any]:
    """Return what identifies a sweep, as its question stores it."""
    recipe = train.recipe
    changed = {key: value for key, default in UPDATE.items() if (value := getattr(recipe, key)) != default}
    return {"steps": train.steps, "batch_size": recipe.batch_size, "precision": recipe.precision, **changed}


def _reports(reports: int, steps: int) -> int:
    """Return how often a trial reports: `search.reports`, a multiple of 4 and at most the number of updates."""
    if reports % 4:
        raise InputError("search.reports", reports, "not a multiple of 4", f"Write {4 * max(1, round(reports / 4))}")
    if reports > steps:
        raise InputError(
            "search.reports", reports, f"more than the {steps} updates of a trial", "Lower it, or raise train.steps"
        )
    return reports
