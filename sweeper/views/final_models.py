"""The final models as a user sees them: what is trained, what was found, and the models in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from sweeper.results.final import Final, FinalModel, interval_text, seeds_text
from sweeper.results.stored import StoredSweep
from sweeper.run import finalizing
from sweeper.run.finalizing import FinalPlan
from sweeper.spec.question import Home
from sweeper.text.columns import Column, Line, clean, lay_out, value_text, wrap, write
from sweeper.tracking.mlflow import faults, sender
from sweeper.training.weights import read_final
from sweeper.types import Task

if TYPE_CHECKING:
    from sweeper.tracking.mlflow.models import Loggable

ABOUT_INTERVAL = "The interval is about seeds. How well the test part stands for other data is not in it."


def plan_lines(sweep: StoredSweep, planned: FinalPlan, task: Task) -> list[str]:
    """Return what is trained, for the terminal."""
    train = sweep.config["question"]["train"]
    of_train, of_valid = (task.size(part, 0) for part in ("train", "valid"))
    epochs = [train["steps"] * train["batch_size"] / size for size in (of_train + of_valid, of_train)]
    return [
        f"Training {clean(planned.chosen.name)}, {planned.chosen.words}, with {seeds_text(len(planned.seeds))} on "
        f"train + valid: {of_train:,} + {of_valid:,} examples.",
        f"{train['steps']:,} updates each, as in the search: {epochs[0]:.3g} epochs instead of {epochs[1]:.3g}.",
        *(["Its schedule is reactive: it repeats the LRs that it had in the search."] * (planned.lr_S is not None)),
    ]


def conclude(sweep: StoredSweep, planned: FinalPlan, task: Task) -> Final | None:
    """Write final.json, log the models to the sweep's MLflow, and return what was found; None if it is interrupted."""
    found = finalizing.result(sweep, planned, task)
    if found is None:
        return None
    finalizing.write(sweep.home, found)
    logged = _logged(sweep.home, found, task)
    finalizing.write(sweep.home, logged)
    return logged


def _logged(home: Home, found: Final, task: Task) -> Final:
    """Return what was found with the models in MLflow, as far as they could be logged. The rest is said on stderr."""
    import sys

    destination = sender.stored_destination(home.spool)
    if destination is None:
        return found
    from sweeper.tracking.mlflow.models import MissingRunError, log_models

    models = {model["seed"]: model for model in found["models"]}
    able = [model for model in found["models"] if model["weights"] is not None]
    try:
        logged = log_models(destination, found["sweep"], _loggable(home, found, able, task))
        for model, one in zip(able, logged, strict=True):
            models[model["seed"]] = {**model, "uri": one.uri, "version": one.version}
    except MissingRunError as error:
        print(f"{error}. Send it first: python -m sweeper sync {home.name}. Then repeat this command.", file=sys.stderr)
    except Exception as error:  # of MLflow, or of the libraries under it
        fault = faults.explain(error, destination)
        print(f"The models could not be logged: {fault.text}. The same command logs them.", file=sys.stderr)
    is_registered = any(model["version"] is not None for model in models.values())
    return {**found, "models": list(models.values()), "registered": found["sweep"] if is_registered else None}


def _loggable(home: Home, found: Final, models: list[FinalModel], task: Task) -> Iterator[Loggable]:
    from sweeper.search.records import final_study
    from sweeper.tracking.mlflow.models import Loggable
    from sweeper.training import serving

    trial = found["trial"]
    example, about = serving.example_of(task), serving.about(task)
    for model in models:
        assert model["weights"] is not None
        weights = read_final(home.path / model["weights"])
        yield Loggable(
            module=serving.served(task, model["seed"], trial["params"], weights),
            example=example,
            study=final_study(trial["study"]),
            trial=model["number"],
            tags={"sweep": found["sweep"], "trial": trial["name"], "seed": str(model["seed"])},
            metrics={name: value for name, value in model["test"].items() if value is not None},
            about=about,
        )


def show(found: Final, home: Home, *, out: TextIO | None = None) -> None:
    """Print the models and where they are, at the width of a terminal."""
    write(lambda width, unicode: render(found, home, width=width, unicode=unicode), out)


def render(found: Final, home: Home, *, width: int | None = None, unicode: bool = True) -> list[Line]:
    """Return the test metrics, and where the models are, as lines."""
    small = [line for text in places(found, home) for line in wrap(clean(text), width, "dim")]
    lines: list[Line] = [*lay_out(columns(found), width, unicode=unicode), [("", "")]] if found["test"] else []
    return [*lines, *wrap(clean(found["sentence"]), width, "bold"), *small]


def columns(found: Final) -> list[Column]:
    """Return the table of test metrics, a row each."""
    test = found["test"] or {}
    rows = list(test.values())
    return [
        Column("test metric", list(map(clean, test)), 100, right=False),
        Column("mean (95% interval over seeds)", [interval_text(one) for one in rows], 90),
        Column("sd", [value_text(one["sd"]) for one in rows], 50),
        Column("seeds", [str(one["n"]) for one in rows], 60),
    ]


def places(found: Final, home: Home) -> list[str]:
    """Return where weights and models are, and what to know of the interval."""
    written = [model["weights"] for model in found["models"] if model["weights"] is not None]
    lines = []
    if found["test"] is not None:
        lines.append(ABOUT_INTERVAL)
    if written:
        lines.append(f"Weights: {(home.path / written[0]).parent}/")
        if written[0].endswith(".pt"):
            lines.append("They are in torch's format: safetensors is not installed (pip install safetensors).")
    versions = [model["version"] for model in found["models"] if model["version"] is not None]
    uris = [model["uri"] for model in found["models"] if model["uri"] is not None]
    if versions:
        lines.append(
            f"Models: {found['registered']}, version{'s' * (len(versions) > 1)} {', '.join(versions)}: "
            f'mlflow.pytorch.load_model("models:/{found["registered"]}/{versions[0]}")'
        )
    elif uris:
        lines.append(f'Models, not registered: mlflow.pytorch.load_model("{uris[0]}")')
    return lines
