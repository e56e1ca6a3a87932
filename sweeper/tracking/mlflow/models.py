"""Final models in MLflow: logged with signature and input example, and registered. Every call may be repeated.

A model is pickled with the code of its classes, except those of installed packages, so that whoever loads it needs
neither this package nor the user's files. `mlflow.pytorch.log_model` would change MLflow's global state (its address,
the active run), which belongs to the caller; so the same files are written, and sent by a client.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from mlflow.tracking import MlflowClient

from sweeper.tracking.mlflow.client import Store
from sweeper.tracking.mlflow.destination import Destination
from sweeper.tracking.mlflow.rows import RunKey

NAME = "final"  # of a model in its run, and of the alias of the first seed's one
OURS = "sweeper"
LIGHTNING = "pytorch_lightning"


@dataclass(frozen=True)
class Loggable:
    """A trained model.

    Attributes:
        module: It takes examples as given.
        example: A few of them.
        study: Study of its training.
        trial: Its number there.
        tags: Of the model.
        metrics: Of the test part.
        about: What must be known to use it, in JSON.
    """

    module: Any
    example: Any
    study: str
    trial: int
    tags: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)


class Logged(NamedTuple):
    """A model in MLflow: its address, and its version in the registry (None if it was not registered)."""

    uri: str
    version: str | None


class MissingRunError(Exception):
    """A training has no run in MLflow yet."""


def log_models(destination: Destination, name: str, models: Iterable[Loggable]) -> Iterator[Logged]:
    """Log each model to the run of its training, and register it as a version of `name`. What is there is not repeated.

    Args:
        destination: The MLflow of the sweep.
        name: The name in the registry.
        models: The models.

    Raises:
        MissingRunError: A training is not in MLflow yet, or its run was deleted.
        Exception: What MLflow raises if it cannot be reached (`faults.explain`).
    """
    store = Store(destination)
    client = store.client
    for model in models:
        run = store.runs.get(RunKey(model.study, model.trial))
        if run is None:
            raise MissingRunError(f"{model.study} trial {model.trial} has no run in MLflow")
        for metric, value in model.metrics.items():
            client.log_metric(run, metric, value)
        id = _logged_in(client, store.experiment_id, run) or _log(client, store.experiment_id, run, model)
        yield Logged(f"models:/{id}", _register(client, name, id, run, model.tags))


def _logged_in(client: MlflowClient, experiment_id: str, run: str) -> str | None:
    """Return the id of the model that a run has; None if it has none that was sent whole."""
    found = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run}'")
    return next((one.model_id for one in found if one.name == NAME and one.status == "READY"), None)


def _log(client: MlflowClient, experiment_id: str, run: str, model: Loggable) -> str:
    """Log a model and return its id."""
    flavor = _pytorch_flavor()
    created = client.create_logged_model(experiment_id, name=NAME, source_run_id=run, tags=dict(model.tags))
    id = str(created.model_id)
    example = _as_array(model.example)
    described: dict[str, Any] = {} if example is None else {"input_example": example}
    if example is not None:
        described["signature"] = infer_signature(example, _as_array(_predict(model.module, model.example)))
    packages = _packages(model.module)
    with tempfile.TemporaryDirectory() as folder, _quiet(), _by_value(packages.sources):
        flavor.save_model(
            model.module,
            str(Path(folder, "model")),
            mlflow_model=Model(run_id=run, model_uuid=id, model_id=id, metadata=dict(model.about) or None),
            pip_requirements=packages.requirements,
            serialization_format="pickle",
            **described,
        )
        client.log_model_artifacts(id, str(Path(folder, "model")))
    client.finalize_logged_model(id, "READY")
    client.log_outputs(run, [LoggedModelOutput(id, step=0)])
    return id


def _pytorch_flavor() -> Any:
    """Return mlflow.pytorch, imported without Lightning, of which it needs only what we do not use.

    That import takes seconds, and it fails beside a torchvision that does not fit torch.
    """
    hides = LIGHTNING not in sys.modules
    if hides:
        sys.modules[LIGHTNING] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        return importlib.import_module("mlflow.pytorch")
    finally:
        if hides:
            del sys.modules[LIGHTNING]


def _register(client: MlflowClient, name: str, id: str, run: str, tags: Mapping[str, str]) -> str | None:
    """Return the version of a model in the registry; None if this MLflow registers nothing of that name."""
    try:
        with suppress(MlflowException):
            client.create_registered_model(name)
        for version in client.search_model_versions(f"name = '{name}'"):
            if version.run_id == run:
                return str(version.version)
        created = client.create_model_version(name, f"models:/{id}", run_id=run, tags=dict(tags), model_id=id)
    except MlflowException as error:
        logging.getLogger("sweeper").warning("the model could not be registered (%s)", error.message)
        return None
    return str(created.version)


# --- the files of a model -----------------------------------------------------------------------------


def _predict(module: Any, example: Any) -> Any:
    import torch

    with torch.no_grad():
        return module(example)


def _as_array(value: Any) -> Any:
    """Return a tensor as an array; None for anything else, for which MLflow has no signature."""
    import torch

    return value.numpy() if isinstance(value, torch.Tensor) else None


class _Packages(NamedTuple):
    """Where the classes of a model are from.

    Attributes:
        requirements: What must be installed to load it, for pip.
        sources: Modules whose code goes into the file.
    """

    requirements: list[str]
    sources: list[str]


def _packages(module: Any) -> _Packages:
    owners = metadata.packages_distributions()
    used = {type(one).__module__.partition(".")[0] for one in module.modules()} - {"__main__"}
    foreign = sorted({owners[name][0] for name in used if name in owners and name != OURS} | {"torch", "numpy"})
    requirements = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in foreign]
    return _Packages(requirements, sorted(name for name in used if name not in owners or name == OURS))


@contextmanager
def _by_value(names: Iterable[str]) -> Iterator[None]:
    """Let cloudpickle write the code of these modules into a file while the block runs."""
    import cloudpickle  # type: ignore[import-untyped] # it has none

    registered = cloudpickle.list_registry_pickle_by_value()
    modules = [sys.modules[name] for name in names if name not in registered]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from warning of pickle, which a model of one's own classes needs."""
    log = logging.getLogger("mlflow.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.setLevel(level)
