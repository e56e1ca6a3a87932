"""Nothing of a secret is left in an address or in what libraries say about it, however it was written."""

import base64
import io
import logging
from urllib.parse import quote, quote_plus

import pytest

from sweeper.tracking.redaction import RedactedStream, RedactingFormatter, redact, redact_address

SHOWN = {
    "http://host:5000": "http://host:5000",
    "http://me:s3cretpw@host:5000/mlflow": "http://***@host:5000/mlflow",
    "https://t0ken@host": "https://***@host",
    "https://t0ken:x-oauth-basic@host": "https://***@host",
    "http://host/mlflow?token=t0ken": "http://host/mlflow?token=***",
    "http://host/?t0ken": "http://host/?***",
    "http://host/#t0ken": "http://host/#***",
    "postgresql://me:s3cretpw@host:5432/mlflow": "postgresql://me:***@host:5432/mlflow",
    "postgresql+psycopg2://me:p@ss/w:o?r#d@host/db": "postgresql+psycopg2://me:***@host/db",
    "postgresql://me:a b@host/db": "postgresql://me:***@host/db",
    "postgresql://me@host/db?sslmode=require&password=s3cretpw": "postgresql://me@host/db?sslmode=require&password=***",
    "mssql+pyodbc://me:s3cretpw@dsn": "mssql+pyodbc://me:***@dsn",
    "sqlite:////a@b:c@d/my sweeps/mlflow.db": "sqlite:////a@b:c@d/my sweeps/mlflow.db",
    "sqlite:///mlflow.db": "sqlite:///mlflow.db",
    "databricks": "databricks",
}


@pytest.mark.parametrize("address", SHOWN)
def test_an_address_is_shown_without_its_secrets(address):
    assert redact_address(address) == SHOWN[address]
    assert redact_address(SHOWN[address]) == SHOWN[address]


PASSWORDS = [
    "s3cretpw",
    "p@ss/w0rd",
    "a b?c#d&e=f",
    "100%legal",
    'it\'s"quoted"',
    "comma,semi;colon",
    "päßwörd",
    "x:y:z:w",
]
SAID = {  # how a library repeats an address or a piece of it
    "whole": lambda raw, plain: f"API request to http://me:{raw}@host/api/2.0 failed",
    "password": lambda raw, plain: f"authentication of 'me' with '{plain}' failed",
    "as it was written": lambda raw, plain: f"Failed to parse: 'me:{raw}'",
    "percent-encoded": lambda raw, plain: f"http://me:{quote(plain, safe='')}@host/x and {quote(plain)}",
    "of a form": lambda raw, plain: f"password={quote_plus(plain)}",
    "in a repr": lambda raw, plain: repr({"password": plain}),
    "in a header": lambda raw, plain: f"Authorization: Basic {base64.b64encode(f'me:{plain}'.encode()).decode()}",
}


@pytest.mark.parametrize("how", SAID)
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("password", PASSWORDS)
def test_a_text_about_an_address_holds_no_secret(password, encoded, how):
    raw = quote(password, safe="") if encoded else password
    text = redact(SAID[how](raw, password), f"http://me:{raw}@host:5000/mlflow")
    for form in (
        password,
        raw,
        quote(password),
        quote_plus(password),
        base64.b64encode(f"me:{password}".encode()).decode(),
    ):
        assert form not in text
    assert "***" in text


@pytest.mark.parametrize("piece", ["p4ss", "w0rd", "host.invalid"])
def test_a_piece_between_dividing_characters_is_a_secret_too(piece):
    """A parser that takes "/" or "@" in a password for the end of the host complains about a piece of it."""
    said = f"'{piece}' is not a valid host or port"
    assert piece not in redact(said, "http://me:p4ss/w0rd@host.invalid@host:5000")


def test_what_is_no_secret_stays():
    address = "postgresql://me:s3cretpw@host:5432/mlflow"
    said = "connection to server at host, port 5432 failed for user me"
    assert redact(said, address) == said
    assert redact("nothing to hide") == "nothing to hide"


def test_a_short_secret_is_hidden_in_addresses_and_leaves_words_readable():
    assert redact("http://me:e@host: the server is gone", "http://me:e@host") == "http://***@host: the server is gone"


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN"])
def test_what_mlflow_reads_from_the_environment_is_a_secret(name, monkeypatch):
    monkeypatch.setenv(name, "fr0m-outside")
    assert redact("rejected: fr0m-outside") == "rejected: ***"


def test_a_stream_redacts_what_is_printed():
    out = io.StringIO()
    stream = RedactedStream(out, "http://me:s3cretpw@host")
    print("to http://me:s3cretpw@host/api:", "s3cretpw", file=stream, flush=True)
    assert out.getvalue() == "to http://***@host/api: ***\n"
    assert not stream.isatty()


def test_a_log_redacts_messages_and_tracebacks():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise ConnectionError("no answer of http://me:s3cretpw@host/api")
    except ConnectionError:
        log.exception("to %s", "http://me:s3cretpw@host")
    assert "s3cretpw" not in out.getvalue()
    assert "ConnectionError: no answer of http://***@host/api" in out.getvalue()
