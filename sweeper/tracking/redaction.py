"""Redact secrets: keep passwords and tokens of addresses out of files and off the screen.

A secret is the password of an address, the whole user info of an http address (its name may be a token), the value of
a query parameter, the fragment, and what MLflow reads from the environment. Libraries repeat addresses, or pieces of
them, in their exceptions, so every text that comes from one is redacted before it is stored or printed.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterator
from typing import NamedTuple, TextIO
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
FROM_ENVIRONMENT = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN", "DATABRICKS_CLIENT_SECRET")
WEB = ("http", "https", "databricks")
OPEN = ("charset", "connect_timeout", "driver", "sslmode", "timeout")  # query parameters that hold no secret
SHORTEST = 4  # characters; a shorter secret is redacted within addresses only, or no text would be readable

# User info reaches to the last "@", because a password that is not percent-encoded may hold any character.
_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*)://(?:(?P<user_info>.*)@)?(?P<place>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.DOTALL,
)
_FILE = re.compile(r"(?P<scheme>(sqlite(\+\w+)?|file)):(?P<place>///[^?]*)(?:\?(?P<query>.*))?", re.DOTALL)
_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>,]+")


class _Parts(NamedTuple):
    """The parts of an address; None for one that it does not have."""

    scheme: str
    user_info: str | None
    place: str
    query: str | None
    fragment: str | None


def redact_address(address: str) -> str:
    """Return an address with *** in place of its secrets. Redacting it again changes nothing."""
    parts = _split(address)
    if parts is None:
        return address
    text = f"{parts.scheme}:" if parts.place.startswith("///") else f"{parts.scheme}://"
    if parts.user_info is not None:
        name, colon, _ = parts.user_info.partition(":")
        text += HIDDEN if parts.scheme in WEB else f"{name}:{HIDDEN}" if colon else name
        text += "@"
    text += parts.place
    if parts.query is not None:
        text += "?" + "&".join(_redact_parameter(pair) for pair in parts.query.split("&"))
    return text if parts.fragment is None else f"{text}#{HIDDEN}"


def redact(text: str, address: str = "") -> str:
    """Return a text with *** in place of secrets: those of any address in it, of `address`, and of the environment.

    Args:
        text: What a library or a user wrote.
        address: An address that the text may repeat in pieces, or in another encoding.
    """
    if address:
        text = text.replace(address, redact_address(address))
    secrets = {*_secrets(address), *(os.environ.get(name, "") for name in FROM_ENVIRONMENT)}
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms, key=lambda form: (-len(form), form)):
        text = text.replace(form, HIDDEN)
    return _IN_TEXT.sub(lambda match: redact_address(match[0]), text)


class RedactedStream:
    """A text stream that redacts what is written to it. Everything else is done by the stream that it wraps."""

    def __init__(self, stream: TextIO, address: str = "") -> None:
        self._stream, self._address = stream, address

    def write(self, text: str) -> int:
        self._stream.write(redact(text, self._address))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class RedactingFormatter(logging.Formatter):
    """Formats records of a log, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _split(address: str) -> _Parts | None:
    """Return the parts of an address; None if the text is not one."""
    if of_file := _FILE.fullmatch(address):
        return _Parts(of_file["scheme"], None, of_file["place"], of_file["query"], None)
    match = _ADDRESS.fullmatch(address)
    return None if match is None else _Parts(*(match[name] for name in _Parts._fields))


def _redact_parameter(pair: str) -> str:
    key, equals, _ = pair.partition("=")
    return pair if key in OPEN else f"{key}={HIDDEN}" if equals else HIDDEN


def _secrets(address: str) -> Iterator[str]:
    """Yield the secrets of an address as they are written in it."""
    parts = _split(address)
    if parts is None:
        return
    user_info, query = parts.user_info or "", parts.query or ""
    name, _, password = user_info.partition(":")
    yield password
    if parts.scheme in WEB:
        yield name
        yield base64.b64encode(unquote(user_info).encode()).decode()  # in the header Authorization
    for key, equals, value in (pair.partition("=") for pair in query.split("&")):
        if key not in OPEN:
            yield value if equals else key
    yield parts.fragment or ""


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret in the encodings that libraries print, and its pieces between characters that divide addresses."""
    plain = unquote(secret)
    pieces = (piece for text in (secret, plain) for piece in re.split(r"[/?#@:&=\s]+", text))
    for form in (secret, plain, quote(plain, safe=""), quote(plain), quote_plus(plain), repr(plain)[1:-1], *pieces):
        if len(form) >= SHORTEST and form != HIDDEN:
            yield form
