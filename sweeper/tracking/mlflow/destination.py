"""Where a sweep is sent to: the address of an MLflow, and the experiment there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sweeper.types import InputError

DEFAULT_URI = "sqlite:///mlflow.db"  # MLflow's own, in the working folder: `mlflow ui` with no argument shows it
ARTIFACTS = "mlartifacts"
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


@dataclass(frozen=True)
class Destination:
    """uri: absolute, with its password, if any. experiment: its name. sweep_id: whose runs they are.

    named: a person chose the experiment, which may hold other runs too; else it is the sweep's own, and where that
    name is taken by another sweep the id's first letters are added.
    """

    uri: str
    experiment: str
    sweep_id: str
    named: bool = False

    @property
    def display_uri(self) -> str:
        """The address without its password: what is written to files and shown."""
        return hide_password(self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file, if it is one."""
        return sqlite_path(self.uri)

    @property
    def artifacts(self) -> str | None:
        """Where files of a new experiment go: beside the SQLite file; None: where the server puts them."""
        if self.database is not None:
            return str(self.database.parent / ARTIFACTS)
        return None if self.is_remote else str(Path.cwd() / ARTIFACTS)

    @property
    def is_remote(self) -> bool:
        return self.uri.startswith(("http", "databricks"))


def resolve(uri: str | None, *, experiment: str, sweep_id: str, named: bool = False) -> Destination | None:
    """What is meant by `tracking.uri` and `tracking.experiment`; None for uri "none".

    uri null: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working folder. An experiment that is not `named`
    is overruled by MLFLOW_EXPERIMENT_NAME.
    """
    if uri == "none":
        return None
    wanted = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    key = "tracking.uri" if uri else "MLFLOW_TRACKING_URI"
    if re.split(r"[:+]", wanted)[0] not in SCHEMES:
        raise InputError(
            key,
            hide_password(wanted),
            "MLflow has no such store (folders of files are gone since MLflow 3)",
            "Use sqlite:///mlflow.db, http://host:5000, a postgresql:// address, or tracking=none",
        )
    from_outside = None if named else os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if named and "/" in experiment:
        raise InputError(
            "tracking.experiment", experiment, 'MLflow\'s pages cannot open a name with "/"', "Use - instead"
        )
    return Destination(
        uri=_absolute(wanted),
        experiment=from_outside or experiment.replace("/", "-"),
        sweep_id=sweep_id,
        named=named or bool(from_outside),
    )


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite:/// address, absolute; None for another address or one in memory."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(\?.*)?", uri)
    if found is None or found[1] == ":memory:":
        return None
    return Path(found[1]).absolute()


def hide_password(uri: str) -> str:
    """The address without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)


def _absolute(uri: str) -> str:
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path}"
