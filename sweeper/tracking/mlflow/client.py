"""Write rows into MLflow runs. It is the only file of this room that imports MLflow, and every write may be repeated.

The caller handles errors: `RefusedError` is final and concerns one run. Any other error concerns the store
(`faults.explain`).
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from mlflow.entities import Experiment, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeper import owners
from sweeper.tracking.mlflow.destination import ARTIFACTS, Destination, artifacts_uri, mlflow_uri, sqlite_uri
from sweeper.tracking.mlflow.faults import ADDRESS, RefusedError, UnusableError
from sweeper.tracking.mlflow.rows import Rows, RunKey
from sweeper.tracking.redaction import redact, redact_address
from sweeper.types import InputError

log = logging.getLogger("sweeper")

SOURCE = {"mlflow.source.name": "sweeper", "mlflow.source.type": "LOCAL"}
# Without this tag, the plain address of an experiment opens a page about GenAI traces.
KIND = {"mlflow.experimentKind": "custom_model_development"}
PARENT = "mlflow.parentRunId"  # MLflow nests a run under this one, in lists that are sorted by time
RUNS_A_PAGE = 1000
REFUSALS = ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "UNAUTHENTICATED")
LONGEST_TAG = 8000
LONGEST_PARAM = 6000
MIGRATION_QUIET_SECONDS = 5.0
LOCK_SECONDS = 30.0
OF_EXPERIMENT = "run_id IN (SELECT run_uuid FROM runs WHERE experiment_id = ?)"
# Columns with the address of files, and which of their rows are of an experiment.
MOVED = {
    "runs.artifact_uri": "experiment_id = ?",
    "logged_models.artifact_location": "experiment_id = ?",
    "model_versions.storage_location": OF_EXPERIMENT,
}


class Store:
    """One experiment of an MLflow.

    Raises:
        UnusableError: The store or the experiment cannot be used until somebody acts.

    Attributes:
        experiment_id: Its id.
        runs: Run id of each of the sweep's runs.
        deleted: The sweep's runs that the user deleted.
    """

    def __init__(self, destination: Destination) -> None:
        if destination.database is not None:
            make_database(destination.database)
        self._destination = destination
        self._client = _connect(destination)
        experiment = _find_or_create_experiment(self._client, destination)
        self.experiment_id = str(experiment.experiment_id)
        if destination.database is not None:
            move_artifacts(destination.database, experiment)
        self.runs, self.deleted = _find_runs(self._client, self.experiment_id, destination.sweep_id)
        self._running: set[RunKey] = set()

    @property
    def client(self) -> MlflowClient:
        """MLflow's client of this store."""
        return self._client

    def has_run(self, key: RunKey) -> bool:
        """Return whether the run exists, or existed until the user deleted it."""
        return key in self.runs or key in self.deleted

    def write(self, rows: Rows, folder: Path) -> None:
        """Store the rows of a run, and create the run if it is new.

        Args:
            rows: The rows.
            folder: The folder of relative artifact paths.

        Raises:
            RefusedError: MLflow rejects the rows.
        """
        if rows.key in self.deleted:
            return
        if rows.key not in self.runs:
            self._create(rows)
        try:
            self._fill(self.runs[rows.key], rows, folder)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self._explain(rows, error)

    def experiment_tags(self) -> dict[str, str]:
        """Return the experiment's tags."""
        return dict(self._client.get_experiment(self.experiment_id).tags)

    def tag_experiment(self, key: str, value: str) -> None:
        """Set a tag of the experiment.

        Raises:
            RefusedError: MLflow rejects the tag, or lacks permission for it.
        """
        try:
            self._client.set_experiment_tag(self.experiment_id, key, value)
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            raise RefusedError(f"{key}: {error.message}") from error

    def untag_experiment(self, key: str) -> None:
        """Delete a tag of the experiment, unless this client or server is too old to."""
        try:
            self._client.delete_experiment_tag(self.experiment_id, key)
        except (MlflowException, AttributeError) as error:
            log.info("%s stays: %s", key, error)

    def _fill(self, run_id: str, rows: Rows, folder: Path) -> None:
        metrics = [Metric(point.key, point.value, point.t, point.step) for point in rows.metrics]
        params = [Param(name, value[:LONGEST_PARAM]) for name, value in rows.params.items()]
        tags = [RunTag(name, value[:LONGEST_TAG]) for name, value in rows.tags.items()]
        # The client splits a call into requests of at most 1,000 entities, 100 params and 100 tags.
        self._client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        for path in rows.artifacts:
            self._attach(run_id, folder / path)
        if rows.status == "RUNNING" and rows.key not in self._running:
            self._client.update_run(run_id, status="RUNNING")
            self._running.add(rows.key)
        elif rows.status not in (None, "RUNNING"):
            self._client.set_terminated(run_id, rows.status, rows.end)
            self._running.discard(rows.key)

    def _explain(self, rows: Rows, error: MlflowException) -> None:
        """Find out why MLflow rejected rows. A run that the user deleted gets no more of them."""
        if self._client.get_experiment(self.experiment_id).lifecycle_stage == "deleted":
            raise error
        if self._client.get_run(self.runs[rows.key]).info.lifecycle_stage == "deleted":
            self.deleted.add(rows.key)
        raise RefusedError(f"{rows.name}: {error.message}") from error

    def _create(self, rows: Rows) -> None:
        tags = {**SOURCE, **rows.identity, "sweep.id": self._destination.sweep_id}
        summary = RunKey(rows.key.study, None)
        if rows.key != summary and summary in self.runs:
            tags["sweep.study_run"] = tags[PARENT] = self.runs[summary]
        run = self._client.create_run(self.experiment_id, start_time=rows.start, tags=tags, run_name=rows.name)
        self.runs[rows.key] = run.info.run_id
        self._running.add(rows.key)

    def _attach(self, run_id: str, path: Path) -> None:
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), artifact_path=path.name)
        elif path.exists():
            self._client.log_artifact(run_id, str(path))
        else:
            log.warning("%s no longer exists and was not attached", path)


# --- the connection ---------------------------------------------------------------------------------


def _connect(destination: Destination) -> MlflowClient:
    """Return a client of the MLflow.

    Raises:
        UnusableError: Its database has the schema of another MLflow.
    """
    try:
        return MlflowClient(mlflow_uri(destination.uri))
    except MlflowException as error:
        schema = re.search(r"database schema \(found version (\w+)", str(error))
        if schema is None:
            raise
        _refuse_schema(schema[1], destination.uri, error)


def _refuse_schema(revision: str, uri: str, error: Exception | None = None) -> NoReturn:
    """Raise UnusableError for a database with the schema of another MLflow, older or newer."""
    import mlflow

    address = shlex.quote(redact_address(uri))
    if _is_known(revision):
        problem = f"its schema is that of an older MLflow than {mlflow.__version__}"
        raise UnusableError(problem, f"Back it up, then run: mlflow db upgrade {address}") from error
    problem = f"its schema is that of a newer MLflow than {mlflow.__version__}"
    raise UnusableError(problem, "Upgrade MLflow: pip install --upgrade mlflow") from error


def _is_known(revision: str) -> bool:
    """Return whether this MLflow has a migration to this revision of the schema."""
    from mlflow.store import db_migrations

    pattern = re.compile(rf"^revision(: str)? = ['\"]{re.escape(revision)}['\"]", re.MULTILINE)
    migrations = Path(db_migrations.__file__).parent / "versions"
    return any(pattern.search(path.read_text(encoding="utf-8")) for path in migrations.glob("*.py"))


# --- the experiment ---------------------------------------------------------------------------------


def _find_or_create_experiment(client: MlflowClient, destination: Destination) -> Experiment:
    """Return the experiment, and create it if it is missing.

    If the sweep's own experiment has the name of another sweep's, letters of the sweep's id are added to the name.

    Raises:
        UnusableError: The experiment was deleted, or all these names belong to other sweeps.
    """
    name, id = destination.experiment, destination.sweep_id
    for candidate in [name] if destination.named else [name, f"{name}-{id[:6]}", f"{name}-{id}"]:
        experiment = client.get_experiment_by_name(candidate) or _create_experiment(client, candidate, destination)
        if not experiment.experiment_id:  # an answer of some other server
            raise UnusableError("no MLflow answers there", ADDRESS)
        is_ours = experiment.tags.get("sweep.id") == id
        if experiment.lifecycle_stage == "deleted" and (is_ours or destination.named):
            restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            address = shlex.quote(destination.display_uri)
            raise UnusableError(
                f"the experiment {candidate} was deleted",
                f"Restore it: MLFLOW_TRACKING_URI={address} {restore}. "
                "Or run the sweep's command with another one, tracking.experiment=NAME",
            )
        if is_ours or destination.named:
            return experiment
    problem = f"the experiments {name} and {name}-{id[:6]} belong to other sweeps"
    raise UnusableError(problem, "Run the sweep's command with tracking.experiment=NAME")


def _create_experiment(client: MlflowClient, name: str, destination: Destination) -> Experiment:
    tags = KIND if destination.named else {**KIND, "sweep.id": destination.sweep_id}
    try:
        client.create_experiment(name, artifact_location=destination.artifacts, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise
    return client.get_experiment_by_name(name)


def move_artifacts(database: Path, experiment: Experiment) -> None:
    """Let an experiment that a sweep created store the files of runs and models beside the database, also if moved.

    MLflow stores the absolute path of the folder, and has no command to change it.
    """
    old, new = experiment.artifact_location, artifacts_uri(database.parent)
    is_local = old.startswith(("/", "file:/"))
    is_made_by_sweeps = KIND.items() <= experiment.tags.items() and Path(_local_path(old)).name == ARTIFACTS
    if not is_local or not is_made_by_sweeps or _is_same_folder(Path(_local_path(old)).parent, database.parent):
        return
    with closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as connection, connection:
        id = experiment.experiment_id
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, id))
        for place, which in MOVED.items():
            table, _, column = place.partition(".")
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {which} AND substr({column}, 1, ?) = ?",
                (new, len(old) + 1, id, len(old) + 1, f"{old}/"),
            )
    log.info("the files of the experiment %s are now in %s", experiment.name, new)


def _is_same_folder(one: Path, other: Path) -> bool:
    """Return whether two paths name one folder, directly or through a link."""
    return one == other or (one.exists() and one.samefile(other))


def _local_path(location: str) -> str:
    """Return the path of a folder that is stored as a path or as a file: address."""
    return unquote(urlsplit(location).path) if location.startswith("file:") else location


# --- the runs ---------------------------------------------------------------------------------------


def _find_runs(client: MlflowClient, experiment_id: str, sweep_id: str) -> tuple[dict[RunKey, str], set[RunKey]]:
    """Return the run id of each of the sweep's runs, and the runs that the user deleted.

    A request that timed out may have created a run anyway, so a run may exist twice. The one that was filled stays, and
    an empty one is deleted.
    """
    of_key: dict[RunKey, list[Any]] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`sweep.id` = '{sweep_id}'", ViewType.ALL, RUNS_A_PAGE, page_token=token
        )
        for run in page:
            of_key.setdefault(_key(run), []).append(run)
        token = page.token
        if not token:
            break
    runs, deleted = {}, set()
    for key, twins in of_key.items():
        active = [run for run in twins if run.info.lifecycle_stage == "active"]
        if not active:
            deleted.add(key)
            continue
        filled = max(active, key=lambda run: (bool(run.data.metrics), len(run.data.tags), run.info.run_id))
        runs[key] = filled.info.run_id
        for twin in active:
            if twin is not filled and not twin.data.params and not twin.data.metrics:
                client.delete_run(twin.info.run_id)
    return runs, deleted


def _key(run: Any) -> RunKey:
    number = run.data.tags.get("trial.number")
    return RunKey(run.data.tags["sweep.study"], None if number is None else int(number))


def sweep_of_run(uri: str, run_id: str) -> tuple[str, str]:
    """Return the sweep's id that a run carries, and the name of its experiment.

    Args:
        uri: Address of the MLflow.
        run_id: A run of a trial or of a study.

    Raises:
        InputError: The run does not exist, or no sweep logged it.
    """
    address = f"runs:/{run_id}"
    try:
        client = MlflowClient(mlflow_uri(uri))
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id)
    except Exception as error:  # of MLflow, or of a library under it
        reason, *_ = redact(str(error), uri).splitlines() or [type(error).__name__]
        problem = f"MLflow at {redact_address(uri)} has no such run ({reason})"
        raise InputError("sweep", address, problem, "Set MLFLOW_TRACKING_URI to the MLflow that has it") from error
    id = run.data.tags.get("sweep.id")
    if id is None:
        raise InputError("sweep", address, "this run was not logged by a sweep", "Use the id of a trial or summary run")
    return str(id), str(experiment.name)


# --- a database of one file -------------------------------------------------------------------------


def make_database(path: Path) -> None:
    """Create MLflow's SQLite database if it is missing, atomically, in write-ahead mode.

    The migration takes seconds, and two at the same time break each other. So it runs on a temporary file, which is
    then linked to the final name. A process that comes second uses the first one's.
    """
    if path.exists() and path.stat().st_size > 0:
        _wait_for_migration(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_stale(path)
    path.unlink(missing_ok=True)  # an empty file is no database
    new = path.with_name(f".{path.name}.{owners.label()}.new")
    try:
        _migrate(new)
        _move_into_place(new, path)
    except FileExistsError:
        _wait_for_migration(path)
    finally:
        for leftover in path.parent.glob(f"{new.name}*"):
            leftover.unlink(missing_ok=True)


def _migrate(new: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(mlflow_uri(sqlite_uri(new)), artifacts_uri(new.parent)).engine.dispose()
    with sqlite3.connect(new) as database:
        database.execute("PRAGMA journal_mode=WAL")
    database.close()


def _move_into_place(new: Path, path: Path) -> None:
    """Give the database its name.

    Raises:
        FileExistsError: Another process was faster.
    """
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        new.rename(path)


def _wait_for_migration(path: Path) -> None:
    """Wait until the schema is this MLflow's, because another process may be creating it, or until nothing changes.

    Raises:
        UnusableError: The schema is that of another MLflow.
    """
    head, seen, changed = _head(), None, time.monotonic()
    while (revision := _revision(path)) != head:
        if revision is not None and not _is_known(revision):
            _refuse_schema(revision, sqlite_uri(path))
        # The time of the shared memory does not count: looking at the database changes it.
        state = (revision, [_size(path.with_name(f"{path.name}{suffix}")) for suffix in ("", "-wal", "-journal")])
        if state != seen:
            seen, changed = state, time.monotonic()
        elif time.monotonic() - changed > MIGRATION_QUIET_SECONDS:
            if revision is not None:
                _refuse_schema(revision, sqlite_uri(path))
            return  # MLflow itself reports what is wrong
        time.sleep(0.2)


def _head() -> str:
    """Return the revision of the schema that this MLflow needs."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def _revision(path: Path) -> str | None:
    """Return the revision of a database's schema; None if it has none yet, or cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as database:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


def _size(path: Path) -> tuple[int, int]:
    """Return the size of a file and its time in nanoseconds; (0, 0) if it is missing or empty."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return (status.st_size, status.st_mtime_ns) if status.st_size else (0, 0)


def _delete_stale(path: Path) -> None:
    """Delete unfinished databases of processes that were killed."""
    for leftover in path.parent.glob(f".{path.name}.*.new*"):
        owner = re.search(owners.LABEL, leftover.name)
        if owner is not None and owners.is_dead(owner[0]):
            leftover.unlink(missing_ok=True)
