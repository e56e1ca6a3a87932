"""The tracker of conf/tracking/mlflow.yaml: it starts a process that sends what the spool published to MLflow."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sweeper.tracking.mlflow import sender
from sweeper.tracking.mlflow.destination import Destination, resolve
from sweeper.types import ConfiguredTracker, InputError, TrackedSweep

LONG_SECONDS = 2.0  # a longer wait is explained


class MLflow(ConfiguredTracker):
    """Sends a sweep to MLflow. The sender process reads the spool, so only `publish` and `finish` do anything.

    Args:
        uri: Address of the MLflow; "none" for nowhere; None for the default (see `destination.resolve`).
        experiment: An experiment that the user chose, which may hold other runs too; None for one named after the
            sweep.
        flush_seconds: How long `finish` waits until everything is sent; None for no limit.

    Raises:
        InputError: The address or the experiment cannot be used.
    """

    def __init__(
        self, uri: str | None = None, experiment: str | None = None, flush_seconds: float | None = 60.0
    ) -> None:
        self._uri, self._experiment, self._flush_seconds = uri, experiment, flush_seconds
        self._sender: sender.Sender | None = None
        self._resolve("", "")
        _check_seconds(flush_seconds)

    @classmethod
    def stored(cls, spool: Path) -> Self | None:
        """Return a tracker that sends to where the last command sent the sweep; None if it sent nothing.

        Raises:
            InputError: The address has a password, which no file holds, and MLFLOW_TRACKING_URI does not have it.
        """
        destination = sender.stored_destination(spool)
        if destination is None:
            return None
        return cls(destination.uri, destination.experiment if destination.named else None)

    @property
    def is_on(self) -> bool:
        """Whether anything is sent."""
        return self._uri != "none"

    def start(self, sweep: TrackedSweep) -> None:
        self._sweep = sweep
        self._destination = self._resolve(sweep.name, sweep.id)
        sender.store_destination(sweep.spool, self._destination)
        if self._destination is not None:
            self._sender = sender.Sender(sweep.spool.resolve(), self._destination)

    def publish(self, round: int) -> None:
        if self._sender is not None:
            self._sender.revive()

    def finish(self) -> int:
        """Wait until everything is sent, at most `flush_seconds`. Returns how many events are not."""
        if self._sender is None or self._destination is None:
            return 0
        name = self._sweep.name
        with _explain_if_long(
            f"Sending the rest to MLflow. Ctrl-C stops waiting; `python -m sweeper sync {name}` sends it later."
        ):
            self._sender.finish(self._flush_seconds)
        return sender.count_unsent(self._sweep.spool, self._destination)

    def _resolve(self, name: str, id: str) -> Destination | None:
        named = self._experiment is not None
        return resolve(
            self._uri, experiment=name if self._experiment is None else self._experiment, sweep_id=id, named=named
        )


def _check_seconds(seconds: object) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        remedy = "Use for example 60, or null for no limit"
        raise InputError("tracking.flush_seconds", seconds, "not a number of seconds", remedy)


@contextmanager
def _explain_if_long(text: str) -> Iterator[None]:
    """Print a message if the block takes long."""
    timer = threading.Timer(LONG_SECONDS, print, (text,), {"file": sys.stderr, "flush": True})
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
