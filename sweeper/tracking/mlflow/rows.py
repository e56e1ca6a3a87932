"""From what is spooled to what stands in MLflow: tags, params and thinned metrics of each run.

A pure function of the committed events: what is sent for a run does not depend on when, how often or in how many
pieces it is sent. Steps in MLflow: the LR and the training loss of update t stand at step t (counted from 0), what was
evaluated after n updates at step n.

With several members a name alone is their median at equal steps, and each member's evaluations are `<name>.member<k>`;
the members' own training traces are in the Parquet file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from sweeper.tracking import facts
from sweeper.tracking.events import (
    DIRECTION,
    METRIC,
    SEARCHED,
    ArtifactEvent,
    CloseEvent,
    DescribeEvent,
    Event,
    OpenEvent,
    ReportEvent,
    TagEvent,
    decode,
    planned_lr,
)
from sweeper.tracking.facts import LR, TrialFacts
from sweeper.tracking.mlflow import ranks
from sweeper.tracking.mlflow.names import run_color, run_name
from sweeper.tracking.mlflow.saved_view import ViewContent
from sweeper.tracking.mlflow.thinning import MOST_POINTS, Indices, even_indices, indices_by_shape, indices_by_stride
from sweeper.types import Direction, Floats, JobId, Value

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
MEASURED = ("grad_norm", "update_to_weight")  # traces that are NaN at the updates where they were not measured
NOTE, TABLES = "mlflow.note.content", "mlflow.loggedArtifacts"  # tags by which MLflow shows a note, and tables
TARGET = "target"  # a metric that describes a study: with it, its trials are told how long they took to reach it
LR_RTOL = 1e-5  # an LR as used that differs by no more is the planned one in float32


class RunKey(NamedTuple):
    """Which run: a study's summary, or one of its trials."""

    study: str
    trial: int | None


class Metric(NamedTuple):
    """One point: `t` in milliseconds."""

    key: str
    value: float
    t: int
    step: int


@dataclass
class Rows:
    """What is to be stored in one run. `name`, `start` and `identity` are the run's; tags written later overwrite."""

    key: RunKey
    name: str
    start: int
    identity: Mapping[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    status: str | None = None
    end: int | None = None


@dataclass
class _Last:
    """The newest value of a metric, to be sent at the end if thinning left it out."""

    metric: Metric
    sent: bool


@dataclass
class _Trial:
    """What has to be known of a trial to go on from any event."""

    lr_S: Floats
    report_steps: tuple[int, ...]
    members: int
    lr_at: Indices
    loss_at: Indices
    seen: TrialFacts
    step: int = 0
    seconds: float = 0.0
    judged: list[tuple[int, float]] = field(default_factory=list)  # updates, the objective's metric
    clock: list[float] = field(default_factory=list)  # seconds until then
    last: dict[str, _Last] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)
    ended: bool = False


@dataclass
class _Study:
    """What a study's summary run has been told so far, and how its trials rank."""

    open: int = 0
    ranking: ranks.Ranking = field(default_factory=ranks.Ranking)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, None] = field(default_factory=dict)  # their names among the artifacts
    time_to_target: dict[int, facts.Facts] = field(default_factory=dict)  # of its ended trials, as told

    @property
    def direction(self) -> Direction | None:
        """Which objective is better, once the sweep has said it."""
        word = self.tags.get(DIRECTION)
        return "maximize" if word == "maximize" else "minimize" if word == "minimize" else None

    @property
    def searched_names(self) -> tuple[str, ...]:
        """The searched numbers, as far as the sweep has said them."""
        return tuple(self.tags.get(SEARCHED, "").split())


class Translation:
    """Takes committed events in their order and gives out the rows they mean."""

    def __init__(self) -> None:
        self.runs: dict[RunKey, Rows] = {}  # the identity of every run met so far, without content
        self._trials: dict[RunKey, _Trial] = {}
        self._studies: dict[str, _Study] = {}
        self._metrics: set[str] = set()  # their names
        self._decades: set[int] = set()  # of the peaks of complete trials
        self._pending: dict[RunKey, Rows] = {}

    def add_events(self, events: Iterable[Event]) -> int:
        """Take in the events of whole rounds; the number of points waiting to be given out."""
        reports: dict[JobId, ReportEvent] = {}
        for event in events:
            if event["e"] != "report":
                self._reports(reports.values())
                reports = {}
                self._add_event(event)
                continue
            job = JobId(event["study"], event["trial"], event["member"])
            if job in reports:  # a job's next report belongs to another turn
                self._reports(reports.values())
                reports = {}
            reports[job] = event
        self._reports(reports.values())
        return sum(len(rows.metrics) for rows in self._pending.values())

    def pop_rows(self) -> list[Rows]:
        """What was taken in since the last call, a study's summary before its trials."""
        for study, known in self._studies.items():
            for trial, rank in known.ranking.changes(known.direction).items():
                self._rows(RunKey(study, trial)).tags[ranks.TAG] = rank
        given = sorted(self._pending.values(), key=lambda rows: (rows.key.trial is not None, rows.key))
        self._pending = {}
        return given

    def view_content(self) -> ViewContent | None:
        """What there is to be drawn of the sweep; None until it has said what its objective is."""
        told = [known for known in self._studies.values() if known.direction is not None]
        if not told or told[0].direction is None:
            return None
        searched = {(known.tags.get("schedule.family", ""), known.searched_names) for known in told}
        decades = (min(self._decades), max(self._decades)) if self._decades else None
        return ViewContent(
            told[0].tags.get(METRIC, ""),
            told[0].direction,
            tuple(sorted(searched)),
            tuple(sorted(self._metrics)),
            decades,
        )

    # --- one method an event ----------------------------------------------------------------------------

    def _add_event(self, event: OpenEvent | CloseEvent | TagEvent | DescribeEvent | ArtifactEvent) -> None:
        """Take in an event that is no report."""
        if event["e"] == "open":
            self._open(event)
        elif event["e"] == "close":
            self._close(event)
        elif event["e"] == "tag":
            self._tag(event)
        elif event["e"] == "describe":
            self._describe(event)
        else:
            self._artifact(event)

    def _open(self, event: OpenEvent) -> None:
        study, number, family, t = event["study"], event["trial"], event["family"], event["t"]
        summary = self._summary(study, t, family)
        summary.status, summary.end = "RUNNING", None
        self._studies[study].open += 1
        key = RunKey(study, number)
        name = run_name(family, number, event["params"], event["hparams"], self._studies[study].searched_names)
        identity = {**_identity(key, family), "mlflow.runColor": run_color(family)}
        self.runs[key] = Rows(key, name, t, identity)
        rows = self._rows(key)
        rows.tags["trial.state"] = "running"
        rows.params.update(_params(event))
        lr_S = planned_lr(event)
        report_steps = tuple(event["report_steps"])
        self._trials[key] = _Trial(
            lr_S,
            report_steps,
            len(event["members"]),
            indices_by_shape(lr_S),
            indices_by_stride(len(lr_S), report_steps),
            TrialFacts(lr_S),
        )

    def _reports(self, events: Iterable[ReportEvent]) -> None:
        """All reports of a turn, a trial's members together."""
        of_trial: dict[RunKey, list[ReportEvent]] = {}
        for event in events:
            of_trial.setdefault(RunKey(event["study"], event["trial"]), []).append(event)
        for key, members in of_trial.items():
            self._report(key, members)

    def _report(self, key: RunKey, events: list[ReportEvent]) -> None:
        trial, t = self._trials[key], max(event["t"] for event in events)
        trial.seconds += sum(event["seconds"] for event in events)
        traces = [_traces(trial, event) for event in events]
        for event, of_member in zip(events, traces, strict=True):
            trial.seen.report(event["member"], event["step"], of_member, event["metrics"], event.get("sums", {}))
        for name, values in _medians(traces).items():
            kept = _choose_indices(trial, name, values).tolist()
            last = [len(values) - 1] if len(values) and name not in MEASURED else []
            for k in dict.fromkeys([*kept, *last]):
                self._add_point(key, Metric(name, float(values[k]), t, trial.step + k), kept=k in kept)
        trial.step = max(event["step"] for event in events)
        for event in events:
            self._add_evaluation(key, event, t, suffix=f".member{event['member']}" if trial.members > 1 else "")
        if len(events) == trial.members:
            self._add_medians(key, events, t)

    def _add_evaluation(self, key: RunKey, event: ReportEvent, t: int, suffix: str) -> None:
        kept = _is_report_kept(self._trials[key], event["step"])
        for name, value in event["metrics"].items():
            self._add_point(key, Metric(name + suffix, value, t, event["step"]), kept=kept)

    def _add_medians(self, key: RunKey, events: list[ReportEvent], t: int) -> None:
        """Medians over all members of a trial at one report, one of which is what the trial is judged by."""
        trial, judge = self._trials[key], self._studies[key.study].tags.get(METRIC)
        for name in events[0]["metrics"]:
            value = float(np.median([event["metrics"].get(name, math.nan) for event in events]))
            if trial.members > 1:
                self._add_point(key, Metric(name, value, t, trial.step), kept=_is_report_kept(trial, trial.step))
            if name == judge:
                trial.judged.append((trial.step, value))
                trial.clock.append(trial.seconds)

    def _close(self, event: CloseEvent) -> None:
        key = RunKey(event["study"], event["trial"])
        trial, rows, t, step = self._trials[key], self._rows(key), event["t"], event["step"]
        for last in trial.last.values():
            if not last.sent:
                rows.metrics.append(last.metric)
        numbers = {"steps_done": float(step), "seconds": trial.seconds}
        if event["value"] is not None:
            numbers["objective"] = event["value"]
            if event["state"] == "complete":
                self._studies[event["study"]].ranking.add(event["trial"], event["value"])
        numbers |= event.get("measures", {})
        numbers |= trial.seen.facts_at_end(event["state"])
        if numbers.get("lr_max", 0) > 0:  # MLflow's scatter has no log axis
            numbers["log10_lr_max"] = math.log10(numbers["lr_max"])
            if event["state"] == "complete":
                self._decades.add(math.floor(numbers["log10_lr_max"]))
        for name, value in numbers.items():
            self._add_point(key, Metric(name, value, t, step), kept=True)
        rows.tags["trial.state"] = event["state"]
        if event["state"] == "diverged":
            rows.tags["diverged.step"] = str(step)
        if event["reason"]:
            rows.tags["trial.reason"] = event["reason"]
        rows.status, rows.end = STATUS[event["state"]], t
        trial.ended = True
        self._add_time_to_target(key, t)
        self._close_study(event["study"], t)
        trial.lr_S, trial.seen = np.zeros(0), TrialFacts(np.zeros(0))  # a long sweep has many ended trials

    def _add_time_to_target(self, key: RunKey, t: int) -> None:
        """How long an ended trial took to the sweep's target: what is new of it, as far as there is a target.

        Of a target that has become harder and is not reached any more a NaN is told: MLflow takes nothing back.
        """
        trial, study = self._trials[key], self._studies[key.study]
        if key.trial is None or study.direction is None or TARGET not in study.metrics:
            return
        told = study.time_to_target.get(key.trial, {})
        now = facts.time_to_target(trial.judged, study.metrics[TARGET], study.direction, trial.clock)
        for name in dict.fromkeys([*told, *now]):
            if told.get(name) != now.get(name):
                self._metrics.add(name)
                self._rows(key).metrics.append(Metric(name, now.get(name, math.nan), t, trial.step))
        study.time_to_target[key.trial] = now

    def _close_study(self, study: str, t: int) -> None:
        """A summary run is finished whenever no trial of it is open."""
        self._studies[study].open -= 1
        if self._studies[study].open == 0:
            summary = self._rows(RunKey(study, None))
            summary.status, summary.end = "FINISHED", t

    def _tag(self, event: TagEvent) -> None:
        self._rows(RunKey(event["study"], event["trial"])).tags.update(_texts(event["tags"]))

    def _describe(self, event: DescribeEvent) -> None:
        """What is new of it. MLflow keeps the first value of a param, so a changed one becomes a tag."""
        rows = self._summary(event["study"], event["t"])
        known = self._studies[event["study"]]
        for name, value in _texts(event["params"]).items():
            if name not in known.params:
                known.params[name] = rows.params[name] = value
            elif value != known.params[name] or name in known.tags:
                event["tags"].setdefault(name, value)
        of_note = {NOTE: event["note"]} if event.get("note") else {}
        for name, value in _texts({**event["tags"], **of_note}).items():
            if known.tags.get(name) != value:
                known.tags[name] = rows.tags[name] = value
        for name, number in event["metrics"].items():
            if known.metrics.get(name) != number and math.isfinite(number):
                known.metrics[name] = number
                rows.metrics.append(Metric(key_text(name), number, event["t"], 0))
                if name == TARGET:
                    self._retarget(event["study"], event["t"])

    def _retarget(self, study: str, t: int) -> None:
        for key, trial in self._trials.items():
            if key.study == study and trial.ended:
                self._add_time_to_target(key, t)

    def _artifact(self, event: ArtifactEvent) -> None:
        rows = self._summary(event["study"], event["t"])
        known = self._studies[event["study"]]
        if known.artifacts.get(event["path"]) != event["digest"]:
            known.artifacts[event["path"]] = event["digest"]
            if event["path"] not in rows.artifacts:
                rows.artifacts.append(event["path"])
        if event.get("table"):
            known.tables[PurePath(event["path"]).name] = None
            shown = json.dumps([{"path": name, "type": "table"} for name in known.tables])
            if known.tags.get(TABLES) != shown:
                known.tags[TABLES] = rows.tags[TABLES] = shown

    # --- pieces -----------------------------------------------------------------------------------------

    def _rows(self, key: RunKey) -> Rows:
        if key not in self._pending:
            run = self.runs[key]
            self._pending[key] = Rows(key, run.name, run.start, run.identity)
        return self._pending[key]

    def _summary(self, study: str, t: int, family: str | None = None) -> Rows:
        """The rows of a study's summary run, which begins with the first that is heard of the study."""
        key = RunKey(study, None)
        if key not in self.runs:
            self.runs[key] = Rows(key, study, t, _identity(key, None))
            self._studies[study] = _Study()
        rows, tags = self._rows(key), self._studies[study].tags
        if family is not None and tags.get("schedule.family") != family:
            tags["schedule.family"] = rows.tags["schedule.family"] = family
        return rows

    def _add_point(self, key: RunKey, metric: Metric, kept: bool) -> None:
        """Send it, or keep it in mind as the last one; a value that is not finite is a tag instead."""
        trial, rows = self._trials[key], self._rows(key)
        if not math.isfinite(metric.value):
            if metric.key not in trial.not_finite:
                trial.not_finite[metric.key] = metric.step
                rows.tags["not_finite"] = ", ".join(f"{name} at {step}" for name, step in trial.not_finite.items())
            return
        metric = metric._replace(key=key_text(metric.key))
        self._metrics.add(metric.key)
        if kept:
            rows.metrics.append(metric)
        trial.last[metric.key] = _Last(metric, kept)


# --- what a run says --------------------------------------------------------------------------------


def _identity(key: RunKey, family: str | None) -> dict[str, str]:
    """The tags by which a run is found again, and those it is grouped by."""
    if key.trial is None:
        return {"sweep.role": "study", "sweep.study": key.study}
    return {
        "sweep.role": "trial",
        "sweep.study": key.study,
        "trial.number": str(key.trial),
        "schedule.family": family or "",
    }


def _params(event: OpenEvent) -> dict[str, str]:
    seeds = ", ".join(str(member["seed"]) for member in event["members"])
    return _texts(
        {"family": event["family"], **event["params"], **event["hparams"], "steps": event["steps"], "seed": seeds}
    )


def _texts(values: Mapping[str, Value]) -> dict[str, str]:
    return {key_text(name): str(value) for name, value in values.items()}


def key_text(name: str) -> str:
    """A name that MLflow accepts: no brackets, no "@", a clean relative path, at most 250 characters."""
    plain = re.sub(r"[^\w./: -]", "_", name)
    parts = [part if part.strip(".") else "_" * len(part) for part in plain.split("/") if part]
    return ("/".join(parts) or "_")[:250]


# --- which values -----------------------------------------------------------------------------------


def _traces(trial: _Trial, event: ReportEvent) -> dict[str, Floats]:
    """Every trace of a report, from update trial.step on. A trainer that reports no LR used the planned one."""
    traces = {name: decode(text) for name, text in event["traces"].items()}
    traces.setdefault(LR, trial.lr_S[trial.step : event["step"]])
    return traces


def _medians(traces: list[dict[str, Floats]]) -> dict[str, Floats]:
    """Every trace since the last report; of several members their median.

    A member that diverged may have stopped earlier: the median is then that of the others.
    """
    if len(traces) == 1:
        return traces[0]
    names = dict.fromkeys(name for of_member in traces for name in of_member)
    return {name: _median(name, [of_member[name] for of_member in traces if name in of_member]) for name in names}


def _median(name: str, values: list[Floats]) -> Floats:
    """Median at each update over those members that did it."""
    parts, begin = [], 0
    for stop in sorted({len(of_member) for of_member in values}):
        values_MK = np.array([of_member[begin:stop] for of_member in values if len(of_member) >= stop])
        parts.append(_median_of_measured(values_MK) if name in MEASURED else np.median(values_MK, axis=0))
        begin = stop
    return np.concatenate(parts)


def _median_of_measured(values_MK: Floats) -> Floats:
    """Median at each update over the members that have a number there; NaN where none has."""
    median_K = np.full(values_MK.shape[1], np.nan)
    some_K = ~np.isnan(values_MK).all(axis=0)  # of the others np.nanmedian would warn
    median_K[some_K] = np.nanmedian(values_MK[:, some_K], axis=0)
    return median_K


def _choose_indices(trial: _Trial, name: str, values: Floats) -> Indices:
    """Positions in `values`, the updates from trial.step on, that are sent.

    The LR by the shape of the whole planned trace; where a controller changed it, and for any other LR or momentum,
    by the shape of this piece; what is measured at some updates only wherever it is, of which there are no more than
    MOST_POINTS; everything else at the trial's fixed stride.
    """
    if name in MEASURED:
        return np.flatnonzero(~np.isnan(values))
    begin, stop = trial.step, trial.step + len(values)
    planned = trial.lr_S[begin:stop]
    if name == LR and len(planned) == len(values) and np.allclose(values, planned, rtol=LR_RTOL, atol=0):
        at = trial.lr_at
    elif name.startswith(("lr/", "momentum")):
        return indices_by_shape(values)
    else:
        at = trial.loss_at
    return at[np.searchsorted(at, begin) : np.searchsorted(at, stop)] - begin


def _is_report_kept(trial: _Trial, step: int) -> bool:
    """Whether the evaluation at `step` is among at most MOST_POINTS of them, the last one always."""
    count = len(trial.report_steps)
    if count <= MOST_POINTS or step >= trial.report_steps[-1]:
        return True
    position = int(np.searchsorted(trial.report_steps, step))
    return position in even_indices(count, MOST_POINTS - 1)
