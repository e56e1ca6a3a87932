"""Faults of an MLflow: what is wrong, what the user can do, and whether waiting may help.

A fault that is not final may pass: a server restarts, a lock is released. The sender waits for that. A final one stays
until somebody acts, so the sender does not wait at the end of a sweep.
"""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

from sweeper.tracking.mlflow.destination import Destination
from sweeper.tracking.redaction import redact

LONGEST = 200  # characters of a library's own words


class Fault(NamedTuple):
    """Why rows could not be sent.

    Attributes:
        problem: What is wrong, without secrets.
        remedy: What the user can do; "" if nothing is known.
        is_final: Whether it stays until somebody acts.
    """

    problem: str
    remedy: str
    is_final: bool

    @property
    def text(self) -> str:
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem


class RefusedError(Exception):
    """MLflow rejects this run's rows, and would reject them again."""


class UnusableError(Exception):
    """The store cannot be used until somebody acts."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(f"{problem}. {remedy}")


class _Rule(NamedTuple):
    """A fault that a library reports: by MLflow's error codes, or by its text."""

    codes: tuple[str, ...]
    pattern: str
    problem: str
    remedy: str
    is_final: bool = True


CREDENTIALS = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
WRITABLE = "Make the file and its folder writable"
ADDRESS = "Correct the address, tracking.uri or MLFLOW_TRACKING_URI"
RULES = (
    _Rule(("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"), r"error code 401\b", "it rejects the credentials", CREDENTIALS),
    _Rule(
        ("PERMISSION_DENIED",),
        r"error code 403\b",
        "it does not permit this user to write the experiment {experiment}",
        "Get the permission, or choose another one with tracking.experiment=NAME",
    ),
    _Rule((), r"error code 407\b", "a proxy rejects the request", "Set the proxy's credentials (HTTPS_PROXY)"),
    _Rule(
        ("ENDPOINT_NOT_FOUND",),
        r"error code (404|405|410|3\d\d)\b|not in a valid JSON format|Invalid url",
        "no MLflow answers there",
        ADDRESS,
    ),
    _Rule(
        (),
        r"WRONG_VERSION_NUMBER|CERTIFICATE_VERIFY",
        "the encrypted connection fails",
        "Check http:// against https://",
    ),
    _Rule((), r"readonly database|read-only", "the database cannot be written", WRITABLE),
    _Rule((), r"unable to open database file", "the database cannot be opened", WRITABLE),
    _Rule(
        (),
        r"file is not a database|disk image is malformed|no such (table|column)",
        "the database is damaged",
        "Restore it from a copy, or move it away and everything is sent to a new one",
    ),
    _Rule((), r"(database or )?disk is full", "the disk is full", "Free some space"),
    _Rule((), r"password authentication failed|Access denied for user", "the database rejects the password", ADDRESS),
    _Rule((), r'database "[^"]*" does not exist|Unknown database', "there is no such database", ADDRESS),
    _Rule(
        (), r"NoCredentials|DefaultCredentials", "files of runs cannot be stored", "Set the credentials of the store"
    ),
    _Rule(
        (),
        r"NewConnectionError|NameResolutionError|Connection(Error|Refused|Reset)|[Tt]imed? ?out",
        "the server does not answer",
        "Start it, or correct the address",
        is_final=False,
    ),
)
OF_FILES = {
    errno.ENOSPC: ("the disk is full", "Free some space"),
    errno.EDQUOT: ("the quota is used up", "Free some space"),
    errno.EROFS: ("a folder of files is on a read-only file system", "Make it writable"),
    errno.EACCES: ("a folder of files cannot be written", "Make it writable"),
    errno.EPERM: ("a folder of files cannot be written", "Make it writable"),
    errno.ENOTDIR: ("a file is in the place of a folder", "Move it away"),
    errno.EEXIST: ("a file is in the place of a folder", "Move it away"),
}


def explain(error: Exception, destination: Destination) -> Fault:
    """Return what an exception means that MLflow, or a library under it, raised.

    Args:
        error: The exception.
        destination: Where the rows were to go.
    """
    if isinstance(error, UnusableError):
        return Fault(redact(error.problem, destination.uri), redact(error.remedy, destination.uri), is_final=True)
    words = redact(" ".join(f"{type(error).__name__}: {error}".split()), destination.uri)
    if isinstance(error, ImportError):
        return Fault(words[:LONGEST], f"Install it: pip install {error.name}", is_final=True)
    if isinstance(error, OSError) and error.errno in OF_FILES:
        problem, remedy = OF_FILES[error.errno]
        return Fault(f"{problem} ({words[:LONGEST]})", remedy, is_final=True)
    code = getattr(error, "error_code", "")
    for rule in RULES:
        if code in rule.codes or re.search(rule.pattern, words):
            problem = rule.problem.replace("{experiment}", destination.experiment)
            return Fault(f"{problem} ({_gist(words)})", rule.remedy, rule.is_final)
    return Fault(_gist(words), "", is_final=False)


def _gist(words: str) -> str:
    """Return the system's own message in a library's words if there is one, or else their beginning."""
    match = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", words)
    return match[1].strip() if match else words[:LONGEST]
