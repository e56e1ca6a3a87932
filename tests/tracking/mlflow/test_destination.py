"""Where a sweep is sent to: the address and experiment that a person means, or a sentence that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.tracking.mlflow.destination import resolve
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


@pytest.mark.parametrize("uri", ["file:./mlruns", "./mlruns", "ftp://x"])
def test_a_store_that_is_none_is_refused(uri):
    with pytest.raises(InputError, match=r"tracking\.uri="):
        found(uri)


def test_no_password_is_shown():
    uri = "postgresql+psycopg2://me:secret@host:5432/mlflow"
    destination = found(uri)
    assert destination.uri == uri
    assert destination.display_uri == "postgresql+psycopg2://me:***@host:5432/mlflow"
