"""The lines of a spool: one event per line, as JSON, and a mark after each committed round.

    {"e":"open",...}  {"e":"report",...}  {"e":"close",...}     what trials did
    {"e":"tag",...}  {"e":"describe",...}  {"e":"artifact",...} what else trackers record
    {"e":"mark","round":7,"t":...}                              everything above belongs to round 7 or before

Every line ends with its checksum, and readers leave out a damaged one. `Whole` then leaves out what is incomplete.

Every event has `t`, the wall clock in milliseconds when it was recorded, so a value has the same timestamp however
often it is sent. Arrays are base64 of little-endian float64 (see `encode`). A line starts with its study, trial and
member if it has them, so the lines of one trial are found without parsing the others.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from sweeper.files import is_intact, is_sealed, seal
from sweeper.types import Ending, Floats, Job, JobId, Report, State, Summary, TrialId, Value

EVENTS = "events.jsonl"
METRIC, DIRECTION, SEARCHED = "objective.metric", "objective.direction", "study.searched"  # tags that describe a study
ROLE = "study.role"  # tag of a study whose trials do not search
VERDICT = "verdict.order"  # tag of a study: the sweep's judged trials in the verdict's order, "cosine-1a2b3c:17 ..."
SETUP = ("optimizer", "model", "data", "batch_size", "epochs")  # params of a study that hold for each of its trials
COMMIT, DIRTY = "git.commit", "git.dirty"  # tags of a study that hold for the trials that start after them
MARK, ARTIFACT = b'{"e":"mark",', b'{"e":"artifact",'
TAIL_BYTES = 1 << 16


# --- events -----------------------------------------------------------------------------------------


class MemberEvent(TypedDict):
    """A member of an opened trial.

    Attributes:
        member: Its number.
        seed: Its seed.
        partition: Its split or fold of the data.
        lr: Its planned LR, encoded; None if it is that of the first member.
    """

    member: int
    seed: int
    partition: int
    lr: str | None


class OpenEvent(TypedDict):
    """A trial starts, with all its members."""

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
    """What a job did since its previous report.

    Attributes:
        traces: Encoded, by name. The other fields are those of `sweeper.types.Report`.
    """

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
    """A trial ended. The fields are those of `sweeper.types.Ending`."""

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
    """Tags of a trial."""

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
    """A file or folder of a study.

    Attributes:
        path: Its path, relative to the sweep's folder if it is inside.
        digest: Of its content. It is sent again when this changes.
        table: Whether it is a table in JSON.
    """

    e: Literal["artifact"]
    study: str
    t: int
    path: str
    digest: str
    table: NotRequired[bool]


class MarkEvent(TypedDict):
    """Everything above belongs to this round or an earlier one."""

    e: Literal["mark"]
    round: int
    t: int


TrainingEvent = OpenEvent | ReportEvent | CloseEvent
Event = TrainingEvent | TagEvent | DescribeEvent | ArtifactEvent
KINDS = {
    "open": OpenEvent,
    "report": ReportEvent,
    "close": CloseEvent,
    "tag": TagEvent,
    "describe": DescribeEvent,
    "artifact": ArtifactEvent,
    "mark": MarkEvent,
}
OPTIONAL = {"sums", "measures", "note", "table"}  # fields marked as NotRequired


# --- values as text ---------------------------------------------------------------------------------


def encode(values: Floats) -> str:
    """Return base64 of the float64 values, little-endian.

    An array that is mostly NaN (measured at some updates only) becomes "50:<base64>:<base64>": its length, the
    positions of the measured values as int32, and those values.
    """
    values = np.asarray(values, dtype="<f8")
    position_K = np.flatnonzero(~np.isnan(values)).astype("<i4")
    if 2 * len(position_K) >= len(values):
        return _base64(values.tobytes())
    return f"{len(values)}:{_base64(position_K.tobytes())}:{_base64(values[position_K].tobytes())}"


def decode(text: str) -> Floats:
    """Return the values that `encode` encoded, float64 [K]."""
    length, separator, rest = text.partition(":")
    if not separator:
        return np.frombuffer(base64.b64decode(text), dtype="<f8").astype(np.float64)
    positions, _, measured = rest.partition(":")
    values = np.full(int(length), np.nan)
    values[np.frombuffer(base64.b64decode(positions), dtype="<i4")] = np.frombuffer(base64.b64decode(measured), "<f8")
    return values


def planned_lr(event: OpenEvent) -> Floats:
    """Return the planned LR of a trial's first member, float64 [S].

    Raises:
        ValueError: The event has no LR.
    """
    text = event["members"][0]["lr"]
    if text is None:
        raise ValueError(f"trial {event['trial']} of {event['study']} was opened without an LR")
    return decode(text)


def encode_order(trials: Iterable[TrialId]) -> str:
    """Return the value of the tag VERDICT: `cosine-1a2b3c:17 wsd-4d5e6f:3`."""
    return " ".join(f"{study}:{number}" for study, number in trials)


def decode_order(text: str) -> tuple[TrialId, ...]:
    """Return the trials that `encode_order` encoded."""
    parts = (word.rpartition(":") for word in text.split())
    return tuple(TrialId(study, int(number)) for study, _, number in parts)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- write lines ------------------------------------------------------------------------------------


def open_line(jobs: Sequence[Job], t: int) -> bytes:
    """Return the line of a trial that starts. An LR trace that members share is written once.

    Args:
        jobs: All members of the trial.
        t: Wall clock in milliseconds, as in the functions below.
    """
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


def trial_prefix(kind: str, study: str, trial: int) -> bytes:
    """Return how every line of a trial starts.

    Args:
        kind: "open", "report", "close" or "tag".
        study: Name of the study.
        trial: Number of the trial.
    """
    return _json({"e": kind, "study": study, "trial": trial})[:-1] + b","


def report_line(report: Report, t: int) -> bytes:
    """Return the line of a report."""
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
    """Return the line of a trial that ended."""
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
    """Return the line of a trial's tags."""
    event: TagEvent = {"e": "tag", "study": trial.study, "trial": trial.trial, "t": t, "tags": dict(tags)}
    return _line(event)


def describe_line(study: str, summary: Summary, t: int) -> bytes:
    """Return the line of a study's summary."""
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
    """Return the line of a study's file or folder (see ArtifactEvent)."""
    event: ArtifactEvent = {"e": "artifact", "study": study, "t": t, "path": path, "digest": digest}
    if table:
        event["table"] = True
    return _line(event)


def mark_line(round: int, t: int) -> bytes:
    """Return the line that ends a round."""
    event: MarkEvent = {"e": "mark", "round": round, "t": t}
    return _line(event)


def _line(event: Mapping[str, object]) -> bytes:
    return seal(_json(event)) + b"\n"


def _json(event: Mapping[str, object]) -> bytes:
    return json.dumps(event, separators=(",", ":"), default=_to_json).encode()


def _to_json(value: Any) -> Any:
    """Convert a NumPy scalar to a Python number, and any other object to its text."""
    return value.item() if isinstance(value, np.generic) else str(value)


# --- read lines -------------------------------------------------------------------------------------


def lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the whole lines of bytes [start, end), each with its newline. A torn last line is left out."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(start)
        left = (path.stat().st_size if end is None else end) - start
        for line in file:
            left -= len(line)
            if left < 0 or not line.endswith(b"\n"):
                return
            yield line


def parse(line: bytes) -> Any:
    """Return the event of a line, or None if the line is damaged. Lines of earlier versions have no checksum."""
    try:
        event = json.loads(line) if is_intact(line.rstrip(b"\n")) else None
        if not isinstance(event, dict) or not KINDS[event["e"]].__annotations__.keys() - OPTIONAL <= event.keys():
            return None
        if event.pop("crc", None) is None and event["e"] == "report":
            for text in event["traces"].values():
                decode(text)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    return event


def is_as_written(line: bytes) -> bool:
    """Return whether a line is not damaged. Unlike `parse`, it reads only the checksum of a line that has one."""
    body = line.rstrip(b"\n")
    return is_intact(body) if is_sealed(body) else parse(line) is not None


def rounds(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[list[Event], int]]:
    """Yield the events up to each mark, with the offset after the mark. Events after the last mark are left out."""
    events: list[Event] = []
    offset = start
    for line in lines(path, start, end):
        offset += len(line)
        event = parse(line)
        if event is not None and event["e"] == "mark":
            yield events, offset
            events = []
        elif event is not None:
            events.append(event)


def last_mark(path: Path, last_round: int | None = None) -> tuple[int, int]:
    """Return round and end offset of the last mark, or (0, 0) if there is none.

    It reads from the end of the file: a spool may be large, and the mark is near its end.

    Args:
        path: The file of events.
        last_round: Ignore marks of later rounds; None for no limit.
    """
    if not path.is_file():
        return 0, 0
    end = path.stat().st_size
    reach = TAIL_BYTES
    while True:
        start = max(0, end - reach)
        mark = _last_mark_from(path, start, last_round)
        if mark is not None or start == 0:
            return mark or (0, 0)
        reach *= 8


def mark_time(path: Path, end: int) -> int:
    """Return the wall clock of the mark that ends at offset `end`, in milliseconds; 0 if there is none."""
    return int(json.loads(_tail(path, end)[-1])["t"]) if end > 0 else 0


def is_concluded(path: Path, last_round: int) -> bool:
    """Return whether a command ended at this round: it recorded its files last, after all trials."""
    end = last_mark(path, last_round)[1]
    return end > 0 and any(line.startswith(ARTIFACT) for line in _tail(path, end)[-2:-1])


def _tail(path: Path, end: int) -> list[bytes]:
    """Return the last lines of bytes [0, end). The first of them may be torn."""
    with path.open("rb") as file:
        file.seek(max(0, end - TAIL_BYTES))
        return file.read(end - file.tell()).splitlines()


def _last_mark_from(path: Path, start: int, last_round: int | None) -> tuple[int, int] | None:
    with path.open("rb") as file:
        file.seek(start)
        tail = file.read()
    skipped = 0 if start == 0 else tail.find(b"\n") + 1  # the window may start within a line
    if start > 0 and skipped == 0:
        return None
    mark = None
    offset = start + skipped
    for line in tail[skipped:].splitlines(keepends=True):
        offset += len(line)
        if line.startswith(MARK) and line.endswith(b"\n") and (event := parse(line)) is not None:
            round = int(event["round"])
            if last_round is None or round <= last_round:
                mark = (round, offset)
    return mark


# --- what damage took away --------------------------------------------------------------------------


class Whole:
    """Says of each event, in their order, whether the record of its trial is complete up to there.

    A trial's record is its opening, then a report of every member at each step where it must report, then its end. Once
    one of them is missing, all later ones are incomplete.
    """

    def __init__(self) -> None:
        self._opened: dict[TrialId, OpenEvent] = {}
        self._reports: Counter[JobId] = Counter()
        self._ended_badly: set[TrialId] = set()  # according to a report

    def __call__(self, event: Event) -> bool:
        if event["e"] not in ("open", "report", "close"):
            return True
        id = TrialId(event["study"], event["trial"])
        if event["e"] == "open":
            self._opened[id] = event
            return True
        if id not in self._opened:
            return False
        if event["e"] == "report" and self._is_next(id, event):
            self._reports[JobId(*id, event["member"])] += 1
            if event["state"] in ("diverged", "failed"):
                self._ended_badly.add(id)
            return True
        return self._is_end(id, event)

    def _is_next(self, id: TrialId, report: ReportEvent) -> bool:
        """Whether a report is the one that its job had to make next."""
        steps, count = self._opened[id]["report_steps"], self._reports[JobId(*id, report["member"])]
        if count >= len(steps):
            return False
        earlier = steps[count - 1] if count else 0
        return report["step"] == steps[count] or (
            report["state"] in ("diverged", "failed") and earlier <= report["step"] <= steps[count]
        )

    def _is_end(self, id: TrialId, event: TrainingEvent) -> bool:
        """Forget a trial, and return whether this event is the end that follows its reports."""
        opened, ended_badly = self._opened.pop(id), id in self._ended_badly
        self._ended_badly.discard(id)
        counts = {self._reports.pop(JobId(*id, member["member"]), 0) for member in opened["members"]}
        if event["e"] != "close" or len(counts) > 1 or counts == {0}:
            return False
        return ended_badly or opened["report_steps"][counts.pop() - 1] == event["step"]
