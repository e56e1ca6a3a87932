"""The trackers of a sweep: its spool, and the tracker that `tracking._target_` names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.importing import Target, import_object, parse_target
from sweeper.tracking.redaction import redact
from sweeper.tracking.spool import Spool
from sweeper.types import (
    ConfiguredTracker,
    Ending,
    InputError,
    Job,
    Report,
    Summary,
    TrackedStudy,
    TrackedSweep,
    Tracker,
    TrialId,
    did_you_mean,
)

TARGET = "tracking._target_"
CALLS = tuple(name for name in dir(ConfiguredTracker) if not name.startswith("_"))


def build(node: object) -> ConfiguredTracker | None:
    """Build the tracker that a node of conf/tracking names; None if `_target_` is null. Writes nothing.

    Raises:
        InputError: The class cannot be imported, rejects the node's keys, or is not a tracker.
    """
    if not isinstance(node, Mapping):
        raise InputError("tracking", node, "not a mapping", "Choose tracking=mlflow or tracking=none")
    target = parse_target(node)
    if target.path is None:
        for key in target.options:
            remedy = "Set tracking._target_ to the class of a tracker, or choose tracking=mlflow"
            raise InputError(f"tracking.{key}", None, "tracking._target_ is null, so nothing uses this key", remedy)
        return None
    factory = _load(target.path)
    _check_keys(factory, target)
    tracker = _make(factory, target)
    missing = [name for name in CALLS if not callable(getattr(tracker, name, None))]
    if missing:
        remedy = "Add the missing methods, or inherit from sweeper.types.ConfiguredTracker"
        raise InputError(TARGET, target.path, f"not a tracker: it has no {', '.join(missing)}", remedy)
    return tracker


def start(sweep: TrackedSweep, configured: ConfiguredTracker | None) -> Tracker:
    """Open the spool of a sweep and start the configured tracker.

    Args:
        sweep: The sweep.
        configured: A tracker from `build`, or None for the spool alone.
    """
    spool = Spool(sweep.spool, sweep.round)
    if configured is None:
        return spool
    configured.start(sweep)
    return Trackers(spool, configured)


class Trackers:
    """Several trackers as one. Each call goes to all of them in order, so the durable one must be first."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def introduce(self, study: TrackedStudy) -> None:
        for tracker in self._trackers:
            tracker.introduce(study)

    def open(self, jobs: Sequence[Job]) -> None:
        for tracker in self._trackers:
            tracker.open(jobs)

    def append(self, reports: Sequence[Report]) -> None:
        for tracker in self._trackers:
            tracker.append(reports)

    def close(self, ending: Ending) -> None:
        for tracker in self._trackers:
            tracker.close(ending)

    def tag(self, trial: TrialId, tags: Mapping[str, str]) -> None:
        for tracker in self._trackers:
            tracker.tag(trial, tags)

    def describe(self, study: str, summary: Summary) -> None:
        for tracker in self._trackers:
            tracker.describe(study, summary)

    def artifact(self, study: str, path: Path, *, table: bool = False) -> None:
        for tracker in self._trackers:
            tracker.artifact(study, path, table=table)

    def commit(self, round: int) -> None:
        for tracker in self._trackers:
            tracker.commit(round)

    def publish(self, round: int) -> None:
        for tracker in self._trackers:
            tracker.publish(round)

    def finish(self) -> int:
        return sum(tracker.finish() for tracker in self._trackers)


# --- what `tracking._target_` names -----------------------------------------------------------------


def _load(path: object) -> Callable[..., ConfiguredTracker]:
    factory: Callable[..., ConfiguredTracker] = import_object(TARGET, path, "my_module.MyTracker")
    if not callable(factory):
        raise InputError(TARGET, path, "not a class", "Use the import path of a tracker class")
    return factory


def _check_keys(factory: Callable[..., Any], target: Target) -> None:
    parameters = inspect.signature(factory).parameters.values()
    named = {each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    has_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for key in target.options:  # no error shows a value: it may be a password or a token
        if key not in named and not has_any:
            raise InputError(f"tracking.{key}", None, f"no such key of {target.path}", did_you_mean(key, named))
    for name, parameter in named.items():
        if name not in target.options and parameter.default is parameter.empty:
            problem = f"missing, and {target.path} needs it"
            raise InputError(f"tracking.{name}", None, problem, f"Set tracking.{name}=...")


def _make(factory: Callable[..., ConfiguredTracker], target: Target) -> ConfiguredTracker:
    try:
        return factory(**target.options)
    except InputError:
        raise
    except Exception as error:
        remedy = "Change the other keys of tracking"
        raise InputError(TARGET, target.path, f"cannot be built ({_first_line(error, target)})", remedy) from error


def _first_line(error: Exception, target: Target) -> str:
    """Return the first line of an exception, without the secrets of addresses among the arguments."""
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    for value in target.options.values():
        line = redact(line, str(value))
    return line
