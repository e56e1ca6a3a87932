"""Parse the studies of a sweep, one for each family: their spaces, limits and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from sweeper.importing import Target, parse_target
from sweeper.schedules import by_spelling, fit_to_run, to_plain
from sweeper.search.plan import StudyPlan
from sweeper.search.stopping import parse_stop
from sweeper.spec import source
from sweeper.spec.question import digest
from sweeper.spec.sweep import TrainSpec
from sweeper.spec.values import parse_switch, parse_whole
from sweeper.types import Dimension, Family, InputError, Value

Space = Mapping[str, Dimension | Value]


class SearchNode(TypedDict):
    """Keys of `search` that each study has of its own."""

    sampler: Mapping[str, object]
    start: object
    n_trials: object
    stop: NotRequired[object]
    extend: NotRequired[object]


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
            n_trials=parse_whole("search.n_trials", search["n_trials"]),
            start=tuple(start.get(family.name, ())),
            stop=parse_stop(search.get("stop")),
            formula=digest(_formula(family), 12),
            extends=parse_switch("search.extend", search.get("extend", False)),
        )
        for family in families
    )


def _start_points(start: object, families: Sequence[Family]) -> Mapping[str, Any]:
    if not isinstance(start, Mapping):
        raise InputError(
            "search.start", start, "not a mapping of families to points", "Write {cosine: [{peak_lr: 0.1}]}"
        )
    unknown = sorted(start.keys() - {family.name for family in families})
    if unknown:
        remedy = f"Add it: schedule={unknown[0]}"
        raise InputError(f"search.start.{unknown[0]}", None, "this family is not chosen", remedy)
    return start


def _identity(family: Family, hparams: Space, sampler: Target, pruner: Target | None) -> dict[str, Any]:
    return {
        **_formula(family),
        "space": {key: to_plain(value) for key, value in {**family.space, **hparams}.items()},
        "sampler": sampler.node,
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
