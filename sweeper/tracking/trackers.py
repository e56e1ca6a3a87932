"""The trackers of a sweep: its spool, and beside it the one that `tracking._target_` names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.importing import Target, import_object, parse_target
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
    """Build the tracker of a node of conf/tracking; None where `_target_` is null. Writes nothing.

    Raises:
        InputError: if the class cannot be imported, does not take the node's keys, or is no tracker.
    """
    if not isinstance(node, Mapping):
        raise InputError("tracking", node, "not a mapping of keys", "Choose tracking=mlflow or tracking=none")
    target = parse_target(node)
    if target.path is None:
        for key, value in target.options.items():
            remedy = "Name the class of a tracker with tracking._target_, or choose tracking=mlflow"
            raise InputError(f"tracking.{key}", value, "tracking._target_ is null, so nothing uses this key", remedy)
        return None
    factory = _load(target.path)
    _check_keys(factory, target)
    tracker = _make(factory, target)
    missing = [name for name in CALLS if not callable(getattr(tracker, name, None))]
    if missing:
        remedy = "Add them, or inherit from sweeper.types.ConfiguredTracker, where they do nothing"
        raise InputError(TARGET, target.path, f"not a tracker: it has no {', '.join(missing)}", remedy)
    return tracker


def start(sweep: TrackedSweep, configured: ConfiguredTracker | None) -> Tracker:
    """Open the spool of a sweep, then start the tracker beside it."""
    spool = Spool(sweep.spool, sweep.round)
    if configured is None:
        return spool
    configured.start(sweep)
    return Trackers(spool, configured)


class Trackers:
    """Several trackers as one. Each call goes to all of them in order, to the durable one first."""

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
        raise InputError(TARGET, path, "not a class", "Name the class of a tracker")
    return factory


def _check_keys(factory: Callable[..., Any], target: Target) -> None:
    parameters = inspect.signature(factory).parameters.values()
    named = {one.name: one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    for key, value in target.options.items():
        if key not in named and not takes_any:
            shown = "null" if value is None else value
            raise InputError(f"tracking.{key}", shown, f"no such key of {target.path}", did_you_mean(key, named))
    for name, one in named.items():
        if name not in target.options and one.default is one.empty:
            problem = f"missing, and {target.path} needs it"
            raise InputError(f"tracking.{name}", None, problem, f"Set tracking.{name}=...")


def _make(factory: Callable[..., ConfiguredTracker], target: Target) -> ConfiguredTracker:
    try:
        return factory(**target.options)
    except InputError:
        raise
    except Exception as error:
        remedy = "Change the other keys of tracking"
        raise InputError(TARGET, target.path, f"cannot be built ({_first_line(error)})", remedy) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
