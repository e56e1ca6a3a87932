"""Parse the studies of a sweep, one for each family: their spaces, limits and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from sweeper.importing import Target, parse_target
from sweeper.schedules import by_spelling, fit_to_run, to_plain
from sweeper.search.plan import StudyPlan
from sweeper.search.sampling import as_named
from sweeper.spec import source
from sweeper.spec.question import digest
from sweeper.spec.sweep import TrainSpec
from sweeper.types import Dimension, Family, InputError, Value

Space = Mapping[str, Dimension | Value]


class SearchNode(TypedDict):
    """Keys of `search` that each study has of its own."""

    sampler: Mapping[str, object]
    start: Mapping[str, object]
    n_trials: int
    stop: NotRequired[int | None]
    extend: NotRequired[bool]


def parse_studies(
    search: SearchNode,
    pruner: Mapping[str, object] | None,
    families: Sequence[Family],
    hparams: Space,
    train: TrainSpec,
) -> tuple[StudyPlan, ...]:
    """Return one study for each family. Its name has a hash of everything that defines its trials, own code included.

    The hash covers the space as it is written. What is searched of it follows from the types of the hyperparameters and
    from the lengths that a run of this length can have.

    Args:
        search: `search` of the configuration.
        pruner: `pruner` of the configuration; None for no pruning.
        families: The chosen families.
        hparams: Searched hyperparameters of optimizer and model by config path.
        train: The length of a trial.

    Raises:
        InputError: If a value cannot be used.
    """
    sampler = parse_target(search["sampler"])
    pruning = None if pruner is None else parse_target(pruner)
    start = _start_points(search["start"], families)
    return tuple(
        StudyPlan(
            name=f"{family.name}-{digest(_identity(family, hparams, sampler, pruning), 6)}",
            family=fit_to_run(family, train.steps, train.epoch),
            hparams=hparams,
            as_written=by_spelling({**family.space, **hparams}),
            sampler=sampler,
            pruner=pruning,
            n_trials=search["n_trials"],
            start=start.get(family.name, ()),
            stop=search.get("stop"),
            formula=digest(_formula(family), 12),
            extends=search.get("extend", False),
        )
        for family in families
    )


def _start_points(start: Mapping[str, object], families: Sequence[Family]) -> dict[str, Sequence[Any]]:
    """Return the start points by family. Each point is checked where its space is known."""
    chosen = {family.name for family in families}
    for name, points in start.items():
        key = f"search.start.{name}"
        if name not in chosen:
            raise InputError(key, None, "this family is not chosen", f"Add it: schedule={name}")
        if not isinstance(points, list | tuple):
            remedy = f"Write {{{name}: [{{peak_lr: 0.1}}]}}"
            raise InputError(key, "null" if points is None else points, "not a list of points", remedy)
    return {name: tuple(points) for name, points in start.items()}  # type: ignore[arg-type] # each is a list


def _identity(family: Family, hparams: Space, sampler: Target, pruner: Target | None) -> dict[str, Any]:
    return {
        **_formula(family),
        "space": {key: to_plain(value) for key, value in {**family.space, **hparams}.items()},
        "sampler": as_named(sampler).node,
        "pruner": None if pruner is None else pruner.node,
    }


def _formula(family: Family) -> dict[str, Any]:
    """Return what defines the LRs of a family: names of functions, and the code of the user's own."""
    functions = [family.factor, *([family.momentum] if family.momentum else [])]
    own = [source.text(function) for function in functions if source.is_own(function)]
    return {
        "factor": [f"{function.__module__}.{function.__qualname__}" for function in functions],  # type: ignore[attr-defined]  # a Factor is a function
        **({"code": own} if own else {}),
        **({} if family.controller is None else {"controller": family.controller}),
    }
