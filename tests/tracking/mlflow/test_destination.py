"""Where a sweep is sent to: the address and experiment that a user means, or a sentence that helps."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from sweeper.tracking.mlflow.destination import Destination, mlflow_uri, resolve, sqlite_path, sqlite_uri
from sweeper.types import InputError


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.chdir(tmp_path)


def found(uri=None, experiment="text-ngram", named=False):
    return resolve(uri, experiment=experiment, sweep_id="a" * 32, named=named)


def test_without_a_word_it_is_mlflows_own_database_here():
    destination = found()
    assert destination.uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    assert destination.database == Path.cwd() / "mlflow.db"
    assert destination.artifacts == (Path.cwd() / "mlartifacts").as_uri()


def test_the_environment_is_respected_and_the_configuration_before_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://far:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared")
    assert (found().uri, found().experiment, found().named) == ("http://far:5000", "shared", True)
    assert found().artifacts is None
    assert found("sqlite:///other.db").uri == f"sqlite:///{Path.cwd() / 'other.db'}"
    assert found(experiment="mine", named=True).experiment == "mine"
    assert found("none") is None


def test_an_own_experiment_has_no_slash():
    assert found(experiment="a/b").experiment == "a-b"
    with pytest.raises(InputError, match=r"tracking\.experiment=a/b"):
        found(experiment="a/b", named=True)


# --- what is refused before a sweep --------------------------------------------------------------------

BAD = {
    "a folder of files": ("file:./mlruns", "MLflow has no such store"),
    "a path": ("./mlruns", "MLflow has no such store"),
    "another scheme": ("ftp://x", "MLflow has no such store"),
    "nothing": ("", "MLflow has no such store"),
    "a number": (5, "not an address"),
    "a switch": (True, "not an address"),
    "a list": (["http://a", "http://b"], "not an address"),
    "no host": ("http://", "not a web address (no host)"),
    "a path for a host": ("http:///mlflow", "not a web address (no host)"),
    "one slash": ("http:/host", "not a web address (no host)"),
    "a port in letters": ("http://host:port", "not a web address (no valid host and port)"),
    "a port too large": ("http://host:99999", "not a web address (no valid host and port)"),
    "a blank": ("http://my host:5000", "not a web address (a special character before the host)"),
    "an open bracket": ("http://[::1", "not a web address (no valid host and port)"),
    "a slash in a password": ("http://me:12/s3cret@host", "not a web address (a special character before the host)"),
    "a hash in a password": ("http://me:12#s3cret@host", "not a web address (a special character before the host)"),
    "two slashes": ("sqlite://mlflow.db", "not the path of a file"),
    "no file": ("sqlite:///", "not the path of a file"),
    "memory": ("sqlite:///:memory:", "a database in memory ends with its process"),
    "memory by default": ("sqlite://", "not the path of a file"),
    "a folder": ("sqlite:///folder", "a folder, not a file"),
    "a text": ("sqlite:///text.txt", "this file is not a SQLite database"),
    "below a file": ("sqlite:///text.txt/mlflow.db", "is a file, not a folder"),
    "a percent sign": ("sqlite:///50%25.db", 'MLflow cannot open a file whose name has "%" or "?"'),
    "a question mark": ("sqlite:///what%3F.db", 'MLflow cannot open a file whose name has "%" or "?"'),
    "a database's port": ("postgresql://me:s3cret@host:port/db", "not the address of a database"),
    "a dialect": ("postgresql+nothing://me:s3cret@host/db", "not the address of a database"),
    "a driver": ("mysql+oursql_that_is_nowhere://h/db", "not the address of a database"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("key", ["tracking.uri", "MLFLOW_TRACKING_URI"])
def test_an_address_that_cannot_be_used_is_refused_in_one_line(bad, key, monkeypatch):
    uri, problem = BAD[bad]
    Path("folder").mkdir()
    Path("text.txt").write_text("This is a text, and it is longer than the head of a database. " * 20)
    before = sorted(Path.cwd().rglob("*"))
    if key == "MLFLOW_TRACKING_URI":
        if not isinstance(uri, str) or not uri:
            pytest.skip("an environment variable is a text, and an empty one is not set")
        monkeypatch.setenv(key, uri)
        uri = None
    with pytest.raises(InputError) as error:
        found(uri)
    assert error.value.key == key
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert "s3cret" not in str(error.value)
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_driver_that_is_not_installed_is_named_with_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"needs psycopg2, which is not installed\. .*pip install psycopg2-binary"):
        found("postgresql+psycopg2://me:secret@host/db")


EXPERIMENTS = {"a number": 5, "a list": ["a"], "nothing": "", "blanks": "  ", "a slash": "a/b", "a long one": "a" * 501}


@pytest.mark.parametrize("bad", EXPERIMENTS)
def test_an_experiment_that_cannot_be_used_is_refused(bad):
    with pytest.raises(InputError, match=r"^tracking\.experiment=") as error:
        found(experiment=EXPERIMENTS[bad], named=True)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_an_experiment_in_the_environment_is_checked_as_well(monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "a/b")
    with pytest.raises(InputError, match=r"^MLFLOW_EXPERIMENT_NAME=a/b: "):
        found()
    assert found("databricks").experiment == "a/b"  # there, names are paths


# --- folders --------------------------------------------------------------------------------------

FOLDERS = ["50%20off", "100%", "a#b", "a?b", "a b", "päß 日本", "a;b&c=d", "a:b@c", "it's", 'a"b', "%(here)s", "-x"]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_database_is_in_the_working_folder_whatever_its_name(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    destination = found()
    assert destination.database == folder / "mlflow.db"
    assert sqlite_path(sqlite_uri(folder / "mlflow.db")) == folder / "mlflow.db"
    # What a user pastes, with or without encoding.
    assert found(f"sqlite:///{quote(str(folder))}/x.db").database == folder / "x.db"
    if "?" not in name:
        assert found(f"sqlite:///{folder}/x.db").database == folder / "x.db"


@pytest.mark.parametrize("name", FOLDERS)
def test_mlflow_gets_an_address_without_what_it_would_misread(name, tmp_path):
    database = tmp_path / name / "mlflow.db"
    assert mlflow_uri(sqlite_uri(database), database.parent) in ("sqlite:///mlflow.db", f"sqlite:///{database}")
    assert not {"%", "?"} & set(mlflow_uri(sqlite_uri(database), database.parent))


def test_no_password_is_shown():
    uri = "postgresql+psycopg2://me:secret@host:5432/mlflow"
    destination = Destination(uri, "x", "a" * 32)
    assert destination.display_uri == "postgresql+psycopg2://me:***@host:5432/mlflow"
