"""The final models of a sweep: what final.json holds, and what it says in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from sweeper.results.paired import interval, paired
from sweeper.text.columns import join, value_text
from sweeper.text.numbers import share_text
from sweeper.types import Direction, Value

SCHEMA = 1
LEVEL = 0.05  # an interval has confidence 1 - LEVEL


class FinalTrial(TypedDict):
    """The trial whose settings are trained. `why` is the reason that it was taken, as the end of a sentence."""

    name: str
    study: str
    family: str
    trial: int
    why: str
    params: dict[str, Value]


class Examples(TypedDict):
    """How many examples each part of the data has. With folds, train and valid are those of the first one."""

    train: int
    valid: int
    test: int


class Interval(TypedDict):
    """Mean and standard deviation over n seeds, with the ends of a 95% t interval of the mean. None if unknown."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


class FinalModel(TypedDict):
    """One training.

    `number` is its trial in the study `<study>.final`. `test` has the metrics of the test part, {} if there is none.
    `train_loss` is the mean loss of the updates of the last report. `weights` is a path in the sweep's folder. `uri` is
    the model in MLflow, and `version` that in its model registry.
    """

    seed: int
    number: int
    state: str
    reason: str
    train_loss: float | None
    test: dict[str, float | None]
    weights: str | None
    uri: str | None
    version: str | None


class Beside(TypedDict):
    """The same settings trained on the training part alone: where that was measured, and what."""

    where: str
    metric: str
    value: float


class Final(TypedDict):
    """final.json. Keys are only added; `schema` changes if a meaning does.

    `test` is None without a test part. `registered` is the name in MLflow's model registry.
    """

    schema: int
    sweep: str
    trial: FinalTrial
    updates: int
    batch_size: int
    examples: Examples
    folds: int
    direction: Direction
    test: dict[str, Interval] | None
    beside: Beside | None
    models: list[FinalModel]
    registered: str | None
    sentence: str


def intervals(metrics: Sequence[Mapping[str, float | None]]) -> dict[str, Interval]:
    """Return mean and interval of each metric over the seeds that have it."""
    names = list(dict.fromkeys(name for of_seed in metrics for name in of_seed))
    values = {name: [of_seed.get(name) for of_seed in metrics] for name in names}
    return {
        name: _interval([one for one in found if one is not None]) for name, found in values.items() if any_of(found)
    }


def any_of(values: Sequence[float | None]) -> bool:
    """Return whether a value is there."""
    return any(value is not None for value in values)


def sentence(final: Final) -> str:
    """Return what was found, in one or a few sentences."""
    models, test = final["models"], final["test"]
    ended = [model for model in models if model["state"] == "complete"]
    head = f"{final['trial']['name']}, {final['trial']['why']}, trained on train + valid with {seeds_text(len(models))}"
    parts = [f"{head}: {_found(final)}." if ended else f"{head}: no training ended well.", *_not_ended(models)]
    if ended and test is None:
        parts.append(
            "The data have no test part, so nothing measures these models: all other examples were trained on."
        )
        if final["beside"] is not None:
            beside = final["beside"]
            parts.append(
                f"The nearest figure: {beside['metric']} {value_text(beside['value'])} of the same settings trained on "
                f"the training part alone ({beside['where']})."
            )
    return " ".join(parts)


def seeds_text(count: int) -> str:
    """Return "1 seed" or "5 seeds"."""
    return f"{count} seed{'' if count == 1 else 's'}"


def interval_text(one: Interval) -> str:
    """Return "0.0412 (0.0390 to 0.0434)", or the value alone."""
    if one["low"] is None or one["high"] is None:
        return value_text(one["mean"])
    from sweeper.results.words import difference_text

    return difference_text(one["mean"], one["low"], one["high"])


def _found(final: Final) -> str:
    test = final["test"]
    if test is None:
        losses = [model["train_loss"] for model in final["models"] if model["train_loss"] is not None]
        return f"the last training loss is {value_text(math.fsum(losses) / len(losses))} on average"
    shown = [f"{name} {interval_text(one)}" for name, one in test.items()]
    about = f", the mean with a {share_text(1 - LEVEL)} interval over seeds" if _has_intervals(test) else ""
    return f"{join(shown)}{about}"


def _has_intervals(test: Mapping[str, Interval]) -> bool:
    return any(one["low"] is not None for one in test.values())


def _not_ended(models: Sequence[FinalModel]) -> list[str]:
    """Name the seeds that diverged or failed."""
    found = []
    for state in ("diverged", "failed"):
        of_state = [model for model in models if model["state"] == state]
        if of_state:
            verb = "is" if len(of_state) == 1 else "are"
            reason = of_state[0]["reason"] or "no reason given"
            found.append(f"{len(of_state)} of {len(models)} {state} ({reason}) and {verb} not in it.")
    return found


def _interval(values: Sequence[float]) -> Interval:
    first = values[0]  # of equal values the differences are exactly 0
    test = paired(np.asarray(values, float) - first)
    low, high = interval(test, LEVEL)
    known = math.isfinite(low) and len(values) > 1
    return Interval(
        n=len(values),
        mean=first + float(test.mean),
        sd=float(test.sd) if len(values) > 1 else None,
        low=first + low if known else None,
        high=first + high if known else None,
    )
