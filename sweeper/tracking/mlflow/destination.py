"""Where a sweep is sent: the address of an MLflow, and an experiment there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sweeper.types import InputError

DEFAULT_URI = "sqlite:///mlflow.db"  # MLflow's default, so that `mlflow ui` without arguments shows it
ARTIFACTS = "mlartifacts"
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


@dataclass(frozen=True)
class Destination:
    """An experiment of an MLflow.

    Attributes:
        uri: The absolute address, with its password if it has one.
        experiment: Name of the experiment.
        sweep_id: The sweep whose runs are there.
        named: Whether the user chose the experiment, which may hold other runs too. Otherwise it belongs to the sweep,
            and if another sweep has the name, the first letters of the id are added.
    """

    uri: str
    experiment: str
    sweep_id: str
    named: bool = False

    @property
    def display_uri(self) -> str:
        """The address without its password, to write to files and to show."""
        return hide_password(self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file; None for another address."""
        return sqlite_path(self.uri)

    @property
    def artifacts(self) -> str | None:
        """Where files of a new experiment are stored: next to the SQLite file; None if the server decides."""
        if self.database is not None:
            return str(self.database.parent / ARTIFACTS)
        return None if self.is_remote else str(Path.cwd() / ARTIFACTS)

    @property
    def is_remote(self) -> bool:
        """Whether it is a server."""
        return self.uri.startswith(("http", "databricks"))


def resolve(uri: str | None, *, experiment: str, sweep_id: str, named: bool = False) -> Destination | None:
    """Return the destination that `tracking.uri` and `tracking.experiment` specify; None for uri "none".

    Args:
        uri: Address of the MLflow. None for MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db in the working folder.
        experiment: Name of the experiment.
        sweep_id: The sweep's id.
        named: Whether the user chose the experiment. Otherwise MLFLOW_EXPERIMENT_NAME overrides it.

    Raises:
        InputError: The address or the experiment cannot be used.
    """
    if uri == "none":
        return None
    address = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    key = "tracking.uri" if uri else "MLFLOW_TRACKING_URI"
    if re.split(r"[:+]", address)[0] not in SCHEMES:
        raise InputError(
            key,
            hide_password(address),
            "MLflow has no such store (MLflow 3 dropped folders of files)",
            "Use sqlite:///mlflow.db, http://host:5000, a postgresql:// address, or tracking=none",
        )
    from_environment = None if named else os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if named and "/" in experiment:
        raise InputError(
            "tracking.experiment", experiment, 'MLflow\'s pages cannot open a name with "/"', "Use - instead"
        )
    return Destination(
        uri=_absolute(address),
        experiment=from_environment or experiment.replace("/", "-"),
        sweep_id=sweep_id,
        named=named or bool(from_environment),
    )


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a sqlite:/// address; None for another address, or one in memory."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(\?.*)?", uri)
    if match is None or match[1] == ":memory:":
        return None
    return Path(match[1]).absolute()


def hide_password(uri: str) -> str:
    """Return an address with its password replaced by ***."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)


def _absolute(uri: str) -> str:
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path}"
