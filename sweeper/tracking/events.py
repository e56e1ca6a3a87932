"""The lines of a spool: what happened, as JSON, one event a line, a mark after each committed round.

    {"e":"open",...}  {"e":"report",...}  {"e":"close",...}     what trials did
    {"e":"tag",...}  {"e":"describe",...}  {"e":"artifact",...} what else is to be remembered
    {"e":"mark","round":7,"t":...}                              everything above belongs to round 7 or before

Every event carries `t`, the wall clock when it was noted, in milliseconds: sent once or again, a value has the same
timestamp. Arrays are base64 of little-endian float64, whole (see `encode`). A line starts with its study, trial and
member, as far as it has them, so that one trial's lines are found without parsing the others.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from sweeper.types import Ending, Floats, Job, Report, State, Summary, TrialId, Value

EVENTS = "events.jsonl"
METRIC, DIRECTION, SEARCHED = "objective.metric", "objective.direction", "study.searched"  # tags that describe a study
MARK = b'{"e":"mark",'
TAIL_BYTES = 1 << 16


# --- what each line holds ---------------------------------------------------------------------------


class MemberEvent(TypedDict):
    """A member of an opened trial. lr: its planned LR, encoded; None where it is the first member's."""

    member: int
    seed: int
    partition: int
    lr: str | None


class OpenEvent(TypedDict):
    """A trial begins, with all its members."""

    e: Literal["open"]
    study: str
    trial: int
    t: int
    family: str
    steps: int
    report_steps: list[int]
    params: dict[str, Value]
    hparams: dict[str, Value]
    members: list[MemberEvent]


class ReportEvent(TypedDict):
    """What a job did since its last report. traces: encoded, by name."""

    e: Literal["report"]
    study: str
    trial: int
    member: int
    t: int
    step: int
    state: State
    seconds: float
    traces: dict[str, str]
    metrics: dict[str, float]
    sums: NotRequired[dict[str, float]]


class CloseEvent(TypedDict):
    """The end of a trial."""

    e: Literal["close"]
    study: str
    trial: int
    t: int
    state: State
    step: int
    value: float | None
    reason: str
    measures: NotRequired[dict[str, float]]


class TagEvent(TypedDict):
    """Tags of a trial's run."""

    e: Literal["tag"]
    study: str
    trial: int
    t: int
    tags: dict[str, str]


class DescribeEvent(TypedDict):
    """A summary of a study."""

    e: Literal["describe"]
    study: str
    t: int
    params: dict[str, Value]
    tags: dict[str, str]
    metrics: dict[str, float]
    note: NotRequired[str]


class ArtifactEvent(TypedDict):
    """A file of a study. digest: of its content, which tells whether to send it again."""

    e: Literal["artifact"]
    study: str
    t: int
    path: str
    digest: str
    table: NotRequired[bool]


class MarkEvent(TypedDict):
    """Everything above belongs to this round or to one before."""

    e: Literal["mark"]
    round: int
    t: int


TrainingEvent = OpenEvent | ReportEvent | CloseEvent
Event = TrainingEvent | TagEvent | DescribeEvent | ArtifactEvent


# --- arrays as text ---------------------------------------------------------------------------------


def encode(values: Floats) -> str:
    """Base64 of the float64 values, little-endian.

    Of an array that is NaN for the most part (measured at some updates only): its length, the positions of the
    others as int32, and those, as "50:<base64>:<base64>".
    """
    values = np.asarray(values, dtype="<f8")
    at = np.flatnonzero(~np.isnan(values)).astype("<i4")
    if 2 * len(at) >= len(values):
        return _base64(values.tobytes())
    return f"{len(values)}:{_base64(at.tobytes())}:{_base64(values[at].tobytes())}"


def decode(text: str) -> Floats:
    """The inverse of `encode`, float64 [K]."""
    length, sparse, rest = text.partition(":")
    if not sparse:
        return np.frombuffer(base64.b64decode(text), dtype="<f8").astype(np.float64)
    positions, _, numbers = rest.partition(":")
    values = np.full(int(length), np.nan)
    values[np.frombuffer(base64.b64decode(positions), dtype="<i4")] = np.frombuffer(base64.b64decode(numbers), "<f8")
    return values


def planned_lr(event: OpenEvent) -> Floats:
    """Return the planned LR of a trial's first member, float64 [S]."""
    text = event["members"][0]["lr"]
    if text is None:
        raise ValueError(f"trial {event['trial']} of {event['study']} was opened without an LR")
    return decode(text)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- from what happens to lines ---------------------------------------------------------------------


def open_line(jobs: Sequence[Job], t: int) -> bytes:
    """All members of one trial; an LR trace that members share is written once (null: as the first member's)."""
    first = jobs[0]
    members: list[MemberEvent] = [
        {
            "member": job.id.member,
            "seed": job.seed,
            "partition": job.partition,
            "lr": encode(job.lr_S) if job is first or not np.array_equal(job.lr_S, first.lr_S) else None,
        }
        for job in jobs
    ]
    event: OpenEvent = {
        "e": "open",
        "study": first.id.study,
        "trial": first.id.trial,
        "t": t,
        "family": first.family,
        "steps": first.steps,
        "report_steps": list(first.report_steps),
        "params": dict(first.params),
        "hparams": dict(first.hparams),
        "members": members,
    }
    return _line(event)


def report_prefix(study: str, trial: int, member: int) -> bytes:
    """How every report line of that job begins."""
    return trial_prefix("report", study, trial) + b'"member":%d,' % member


def trial_prefix(kind: str, study: str, trial: int) -> bytes:
    """How every open, report, close or tag line of that trial begins."""
    return _line({"e": kind, "study": study, "trial": trial})[:-2] + b","


def report_line(report: Report, t: int) -> bytes:
    """What one job did since its last report."""
    event: ReportEvent = {
        "e": "report",
        "study": report.id.study,
        "trial": report.id.trial,
        "member": report.id.member,
        "t": t,
        "step": report.step,
        "state": report.state,
        "seconds": float(report.seconds),
        "traces": {name: encode(values) for name, values in report.traces.items()},
        "metrics": {name: float(value) for name, value in report.metrics.items()},
    }
    if report.sums:
        event["sums"] = dict(report.sums)
    return _line(event)


def close_line(ending: Ending, t: int) -> bytes:
    """The end of a trial."""
    event: CloseEvent = {
        "e": "close",
        "study": ending.trial.study,
        "trial": ending.trial.trial,
        "t": t,
        "state": ending.state,
        "step": ending.step,
        "value": None if ending.value is None else float(ending.value),
        "reason": ending.reason,
    }
    if ending.measures:
        event["measures"] = dict(ending.measures)
    return _line(event)


def tag_line(trial: TrialId, tags: Mapping[str, str], t: int) -> bytes:
    """Tags of a trial's run."""
    event: TagEvent = {"e": "tag", "study": trial.study, "trial": trial.trial, "t": t, "tags": dict(tags)}
    return _line(event)


def describe_line(study: str, summary: Summary, t: int) -> bytes:
    """What is said of a study."""
    event: DescribeEvent = {
        "e": "describe",
        "study": study,
        "t": t,
        "params": dict(summary.params),
        "tags": dict(summary.tags),
        "metrics": {name: float(value) for name, value in summary.metrics.items()},
    }
    if summary.note:
        event["note"] = summary.note
    return _line(event)


def artifact_line(study: str, path: str, digest: str, t: int, *, table: bool = False) -> bytes:
    """A file of a study; the digest of its content tells whether it is to be sent again."""
    event: ArtifactEvent = {"e": "artifact", "study": study, "t": t, "path": path, "digest": digest}
    if table:
        event["table"] = True
    return _line(event)


def mark_line(round: int, t: int) -> bytes:
    """Everything above is of this round or before."""
    event: MarkEvent = {"e": "mark", "round": round, "t": t}
    return _line(event)


def _line(event: Mapping[str, object]) -> bytes:
    return json.dumps(event, separators=(",", ":"), default=_to_json).encode() + b"\n"


def _to_json(value: Any) -> Any:
    """NumPy scalars as Python numbers, whatever else a configuration holds as its text."""
    return value.item() if isinstance(value, np.generic) else str(value)


# --- from lines to what happened --------------------------------------------------------------------


def lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The whole lines of bytes [start, end), each with its newline; a torn last line is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        left = (path.stat().st_size if end is None else end) - start
        for line in file:
            left -= len(line)
            if left < 0 or not line.endswith(b"\n"):
                return
            yield line


def rounds(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[list[Event], int]]:
    """The events up to each mark, with the offset after it; what no mark follows is not committed and left out."""
    events: list[Event] = []
    offset = start
    for line in lines(path, start, end):
        offset += len(line)
        if line.startswith(MARK):
            yield events, offset
            events = []
        else:
            events.append(json.loads(line))


def last_mark(path: Path, last_round: int | None = None) -> tuple[int, int]:
    """Round and end offset of the last mark (of a round <= last_round); (0, 0) where there is none.

    Read from the end of the file, because a spool may be large and what is looked for is close to its end.
    """
    if not path.exists():
        return 0, 0
    end = path.stat().st_size
    reach = TAIL_BYTES
    while True:
        start = max(0, end - reach)
        found = _last_mark_from(path, start, last_round)
        if found is not None or start == 0:
            return found or (0, 0)
        reach *= 8


def _last_mark_from(path: Path, start: int, last_round: int | None) -> tuple[int, int] | None:
    with path.open("rb") as file:
        file.seek(start)
        tail = file.read()
    skipped = 0 if start == 0 else tail.find(b"\n") + 1  # the window may begin within a line
    if start > 0 and skipped == 0:
        return None
    found = None
    offset = start + skipped
    for line in tail[skipped:].splitlines(keepends=True):
        offset += len(line)
        if line.startswith(MARK) and line.endswith(b"\n"):
            round = int(json.loads(line)["round"])
            if last_round is None or round <= last_round:
                found = (round, offset)
    return found
