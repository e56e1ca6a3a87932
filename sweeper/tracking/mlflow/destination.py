"""Where a sweep is sent: the address of an MLflow, and an experiment there."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sweeper.tracking.redaction import redact, redact_address
from sweeper.types import InputError

DEFAULT_URI = "sqlite:///mlflow.db"  # MLflow's default, so that `mlflow ui` without arguments shows it
ARTIFACTS = "mlartifacts"
SERVERS = ("http", "https", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
EXAMPLES = "Use sqlite:///mlflow.db, http://host:5000, a postgresql:// address, or tracking=none"
LONGEST_EXPERIMENT = 500  # characters, MLflow's limit
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # of drivers


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
        """The address without its secrets, to write to files and to show."""
        return redact_address(self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file; None for another address."""
        return sqlite_path(self.uri)

    @property
    def artifacts(self) -> str | None:
        """Where files of a new experiment are stored: next to the SQLite file; None if the server decides."""
        if self.database is not None:
            return artifacts_uri(self.database.parent)
        return None if self.is_remote else artifacts_uri(Path.cwd())

    @property
    def is_remote(self) -> bool:
        """Whether it is a server."""
        return self.uri.startswith(SERVERS)


def resolve(uri: str | None, *, experiment: str, sweep_id: str, named: bool = False) -> Destination | None:
    """Return the destination that `tracking.uri` and `tracking.experiment` specify; None for uri "none".

    Args:
        uri: Address of the MLflow. None for MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db in the working folder.
        experiment: Name of the experiment.
        sweep_id: The sweep's id.
        named: Whether the user chose the experiment. Otherwise MLFLOW_EXPERIMENT_NAME overrides it.

    Raises:
        InputError: The address or the experiment cannot be used, or the database cannot be written.
    """
    if uri == "none":
        return None
    address = resolve_address(uri)
    database = sqlite_path(address)
    if database is not None:
        _check_file(_key_of(uri), address, database)
    chosen = None if named else os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if named or chosen:
        key = "MLFLOW_EXPERIMENT_NAME" if chosen else "tracking.experiment"
        _check_experiment(key, chosen or experiment, address)
    return Destination(
        uri=address,
        experiment=chosen or (experiment if named else experiment.replace("/", "-")),
        sweep_id=sweep_id,
        named=named or bool(chosen),
    )


def resolve_address(uri: str | None) -> str:
    """Return the absolute address that `uri` means, None as in `resolve`. It opens no file and no connection.

    Raises:
        InputError: No MLflow can have this address.
    """
    address = uri if uri is not None else os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    _check_address(_key_of(uri), address)
    path = sqlite_path(address)
    return address if path is None else sqlite_uri(path)


def _key_of(uri: str | None) -> str:
    """Return where the user gave the address."""
    return "MLFLOW_TRACKING_URI" if uri is None and os.environ.get("MLFLOW_TRACKING_URI") else "tracking.uri"


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a sqlite:/// address; None for another address, or one in memory.

    "%" and "?" are percent-encoded in an address (see `sqlite_uri`). But an address that a user pasted may hold the
    path as it is, so an existing folder of that very name is preferred.
    """
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(\?.*)?", uri, re.DOTALL)
    if match is None or match[1] == ":memory:":
        return None
    pasted, decoded = Path(match[1]).absolute(), Path(unquote(match[1])).absolute()
    return pasted if pasted.parent.is_dir() and not decoded.parent.is_dir() else decoded


def sqlite_uri(path: Path) -> str:
    """Return the address of a database, with "%" and "?" percent-encoded."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def mlflow_uri(uri: str, working_folder: Path | None = None) -> str:
    """Return an address as MLflow understands it.

    MLflow and SQLAlchemy disagree about "%" and "?" in the path of a database. So a path with one of them is given
    relative to the working folder of the process, which is best that of the database.

    Args:
        uri: An absolute address.
        working_folder: That of the process that uses the address; None for this one's.
    """
    path = sqlite_path(uri)
    if path is None:
        return uri
    return f"sqlite:///{os.path.relpath(path, working_folder) if re.search('[%?]', str(path)) else path}"


def artifacts_uri(folder: Path) -> str:
    """Return where the files of runs are stored: in the database's folder, whatever characters its name has."""
    return (folder / ARTIFACTS).as_uri()


# --- what cannot be used --------------------------------------------------------------------------


def _check_address(key: str, address: object) -> None:
    """Raise InputError for an address that no MLflow can have."""
    if not isinstance(address, str):
        raise InputError(key, address, "not an address", EXAMPLES)
    scheme = re.split(r"[:+]", address)[0]
    if scheme not in (*SERVERS, *DATABASES):
        problem = "MLflow has no such store (MLflow 3 dropped folders of files)"
        raise InputError(key, redact_address(address), problem, EXAMPLES)
    if scheme in ("http", "https"):
        _check_web(key, address)
    elif scheme == "sqlite":
        _check_path(key, address)
    elif scheme in DATABASES:
        _check_database(key, address)


def _check_web(key: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        problem = "" if parts.hostname and parts.port != 0 else "no host"
        if "@" in parts.path + parts.query + parts.fragment or re.search(r"\s", parts.netloc):
            problem = "a special character before the host"
    except ValueError:
        problem = "no valid host and port"
    if problem:
        remedy = "Write http://host:5000. Special characters in a password are percent-encoded: @ is %40, / is %2F"
        raise InputError(key, redact_address(address), f"not a web address ({problem})", remedy)


def _check_path(key: str, address: str) -> None:
    """Raise InputError for a sqlite address that is not the path of a file."""
    path, shown = sqlite_path(address), redact_address(address)
    if path is None:
        problem = "a database in memory ends with its process" if ":memory:" in address else "not the path of a file"
        raise InputError(key, shown, problem, "Use sqlite:///mlflow.db, or sqlite:////absolute/path/mlflow.db")
    if "%" in path.name or "?" in path.name:
        raise InputError(key, shown, 'MLflow cannot open a file whose name has "%" or "?"', "Use another name")


def _check_file(key: str, address: str, path: Path) -> None:
    """Raise InputError for a file that is not a database, or that cannot be written."""
    shown = redact_address(address)
    if path.is_dir():
        raise InputError(key, shown, "a folder, not a file", f"Use {shown.rstrip('/')}/mlflow.db")
    if path.exists() and not _is_database(path):
        raise InputError(key, shown, "this file is not a SQLite database", "Use another path")
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    if place != path and not place.is_dir():
        raise InputError(key, shown, f"{place} is a file, not a folder", "Use another path")
    # A working folder that cannot be written stops the sweep itself, with its own message.
    if place != Path.cwd() and not os.access(place, os.W_OK):
        raise InputError(key, shown, f"{place} cannot be written", "Make it writable, or use another path")


def _is_database(path: Path) -> bool:
    """Return whether a file is a SQLite database, or empty.

    SQLite reads it: if this process has the database open, a plain open and close would drop SQLite's locks.
    """
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.DatabaseError as error:
        return "not a database" not in str(error)
    return True


def _check_database(key: str, address: str) -> None:
    """Raise InputError for an address that SQLAlchemy does not understand, or whose driver is not installed."""
    from sqlalchemy.engine import make_url

    shown = redact_address(address)
    try:
        make_url(address).get_dialect().import_dbapi()
    except ImportError as error:
        missing = str(error.name)
        remedy = f"Install it: pip install {shlex.quote(PACKAGES.get(missing, missing))}"
        raise InputError(key, shown, f"needs {missing}, which is not installed", remedy) from error
    except Exception as error:
        problem = f"not the address of a database ({redact(str(error).splitlines()[0], address)})"
        remedy = "Write postgresql://user:password@host/database. Special characters in a password are percent-encoded"
        raise InputError(key, shown, problem, remedy) from error


def _check_experiment(key: str, name: object, address: str) -> None:
    if not isinstance(name, str):
        raise InputError(key, name, "not a text", f"Write it in quotes: {key}='\"{name}\"'")
    if not name.strip() or len(name) > LONGEST_EXPERIMENT:
        remedy = "Write a shorter name" if name.strip() else "Write a name, or null for the sweep's name"
        raise InputError(key, name[:40], f"not a name of 1 to {LONGEST_EXPERIMENT} characters", remedy)
    if "/" in name and not address.startswith("databricks"):  # there, names are paths
        raise InputError(key, name, 'MLflow\'s pages cannot open a name with "/"', "Use - instead")
