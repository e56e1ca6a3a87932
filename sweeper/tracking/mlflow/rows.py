"""Translate a spool to what MLflow stores: tags, params and thinned metrics of each run.

The translation is a pure function of the committed events: what is sent for a run does not depend on when, how often or
in how many pieces it is sent. Steps are those of `sweeper.tracking.clock`.

With several members, a metric's plain name is their median at equal steps, and `<name>.member<k>` is each member's
evaluation. The training traces of single members are only in the Parquet file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from sweeper.tracking import facts
from sweeper.tracking.clock import first_step, is_used
from sweeper.tracking.events import (
    COMMIT,
    DIRECTION,
    DIRTY,
    METRIC,
    ROLE,
    SEARCHED,
    SETUP,
    VERDICT,
    ArtifactEvent,
    CloseEvent,
    DescribeEvent,
    Event,
    OpenEvent,
    ReportEvent,
    TagEvent,
    Whole,
    decode,
    decode_order,
    planned_lr,
)
from sweeper.tracking.facts import LR, TrialFacts
from sweeper.tracking.mlflow import lineup
from sweeper.tracking.mlflow.names import run_color, run_name
from sweeper.tracking.mlflow.saved_view import ViewContent
from sweeper.tracking.mlflow.thinning import MOST_POINTS, Indices, even_indices, indices_by_shape, indices_by_stride
from sweeper.types import Direction, Floats, JobId, TrialId, Value

# MLflow marks every status but FINISHED with a red cross. A trial that was pruned or diverged is a result.
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "diverged": "FINISHED", "failed": "FAILED"}
MEASURED = ("grad_norm", "update_to_weight")  # traces that are NaN at updates that are not measured
NOTE, TABLES = "mlflow.note.content", "mlflow.loggedArtifacts"  # tags that MLflow shows as a note and as tables
SOURCE_COMMIT = "mlflow.source.git.commit"  # the tag that MLflow shows as the version of the source
TARGET = "target"  # a study's metric; with it, its trials have the time to reach it as metrics
LR_RTOL = 1e-5  # a reported LR this close is the planned one in float32


class RunKey(NamedTuple):
    """Identifies a run: a trial, or the summary of a study (trial None)."""

    study: str
    trial: int | None


class Metric(NamedTuple):
    """One point of a metric; `t` is in milliseconds."""

    key: str
    value: float
    t: int
    step: int


@dataclass
class Rows:
    """What is to be stored in one run.

    Attributes:
        key: The run.
        name: Its name.
        start: When it started, in milliseconds.
        identity: Tags that are set when the run is created.
        tags: Other tags. Later ones overwrite earlier ones.
        params: Params.
        metrics: Points of metrics.
        artifacts: Paths of files and folders.
        status: MLflow's status; None if it does not change.
        end: When the run ended, in milliseconds; None if it is running.
    """

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
    """The newest value of a metric. It is sent at the end of the trial if thinning left it out."""

    metric: Metric
    sent: bool


@dataclass
class _Trial:
    """The state of a trial's translation.

    Attributes:
        lr_S: The planned LR.
        report_steps: Updates after which it reports.
        members: How many members it has.
        lr_at: Updates whose LR is sent.
        loss_at: Updates whose other traces are sent.
        facts: Collects its facts.
        step: Updates translated.
        seconds: Training time, of all members together.
        judged: (updates, objective's metric) of each report.
        clock: `seconds` at each report.
        last: Newest value of each metric.
        not_finite: First step at which a metric was not finite.
        ended: Whether the trial ended.
    """

    lr_S: Floats
    report_steps: tuple[int, ...]
    members: int
    lr_at: Indices
    loss_at: Indices
    facts: TrialFacts
    step: int = 0
    seconds: float = 0.0
    judged: list[tuple[int, float]] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    last: dict[str, _Last] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)
    ended: bool = False


@dataclass
class _Study:
    """What was sent to a study's summary run.

    Attributes:
        open: How many trials are running.
        tags: Tags of the run.
        metrics: Metrics of the run.
        artifacts: Digest of each file or folder, by path.
        tables: Names of those that are tables, as an ordered set.
        time_to_target: Facts of the ended trials about the target, as sent.
    """

    open: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, None] = field(default_factory=dict)
    time_to_target: dict[int, facts.Facts] = field(default_factory=dict)

    @property
    def direction(self) -> Direction | None:
        """The direction of the objective; None until an event has it."""
        tag = self.tags.get(DIRECTION)
        return "maximize" if tag == "maximize" else "minimize" if tag == "minimize" else None

    @property
    def searched_names(self) -> tuple[str, ...] | None:
        """Names of the searched hyperparameters; None until an event has them, as in spools of early versions."""
        return tuple(self.tags[SEARCHED].split()) if SEARCHED in self.tags else None

    @property
    def family(self) -> str:
        """Its family; "" until an event has it."""
        return self.tags.get("schedule.family", "")

    @property
    def is_search(self) -> bool:
        """Whether its trials search."""
        return ROLE not in self.tags

    @property
    def setup(self) -> dict[str, str]:
        """What each trial is made of, as far as events have it."""
        return {name: self.tags[name] for name in SETUP if name in self.tags}

    @property
    def commit(self) -> dict[str, str]:
        """The commit of the code, as far as events have it."""
        return {name: self.tags[name] for name in (COMMIT, DIRTY, SOURCE_COMMIT) if name in self.tags}


class Translation:
    """Translates committed events, in their order, to rows.

    Attributes:
        runs: Every run so far, with its identity and without content.
    """

    def __init__(self) -> None:
        self.runs: dict[RunKey, Rows] = {}
        self._trials: dict[RunKey, _Trial] = {}
        self._studies: dict[str, _Study] = {}
        self._metrics: set[str] = set()  # their names
        self._values: dict[TrialId, float] = {}  # of the complete trials of searches
        self._peaks: dict[TrialId, float] = {}  # the logarithm of their peak LRs
        self._judged: tuple[TrialId, ...] = ()  # the trials of the verdict, in its order
        self._places: dict[TrialId, str] = {}  # as sent
        self._pending: dict[RunKey, Rows] = {}
        self._is_whole = Whole()
        self._damaged: set[RunKey] = set()  # their facts are not known

    def add_events(self, events: Iterable[Event]) -> int:
        """Add the events of whole rounds. Returns how many points `pop_rows` would return.

        Of a trial whose record is damaged, only what came before and how it ended are added.
        """
        reports: dict[JobId, ReportEvent] = {}
        for event in filter(self._is_usable, events):
            if event["e"] != "report":
                self._reports(reports.values())
                reports = {}
                self._add_event(event)
                continue
            job = JobId(event["study"], event["trial"], event["member"])
            if job in reports:  # a second report of the job: add the earlier ones first
                self._reports(reports.values())
                reports = {}
            reports[job] = event
        self._reports(reports.values())
        return sum(len(rows.metrics) for rows in self._pending.values())

    def pop_rows(self) -> list[Rows]:
        """Return the rows of the events since the last call, with a study's summary before its trials."""
        if not self._pending:
            return []
        current = self._current_places()
        for trial, place in current.items():
            if self._places.get(trial) != place:
                self._rows(RunKey(*trial)).tags[lineup.TAG] = place
        self._places = current
        popped = sorted(self._pending.values(), key=lambda rows: (rows.key.trial is not None, rows.key))
        self._pending = {}
        return popped

    def view_content(self) -> ViewContent | None:
        """Return what the saved views show, as of the last `pop_rows`; None until the objective is known."""
        study = self._first_search()
        if study is None or study.direction is None:
            return None
        families = {study.family for study in self._studies.values() if study.is_search}
        leads = [trial for trial, place in self._places.items() if place != lineup.BEYOND]
        peaks = [self._peaks[trial] for trial in leads if trial in self._peaks]
        return ViewContent(
            study.tags.get(METRIC, ""),
            study.direction,
            len(families),
            tuple(sorted(self._metrics)),
            (math.floor(min(peaks)), math.floor(max(peaks))) if peaks else None,
            bool(self._judged),
        )

    def _first_search(self) -> _Study | None:
        """Return a study that searches and whose objective is known; None if there is none yet."""
        studies = self._studies.values()
        return next((study for study in studies if study.direction is not None and study.is_search), None)

    def _current_places(self) -> dict[TrialId, str]:
        """Return the place of every complete trial of a search; {} until the objective is known."""
        study = self._first_search()
        if study is None or study.direction is None:
            return {}
        families = {name: study.family for name, study in self._studies.items()}
        return lineup.places(self._values, families, self._judged, study.direction)

    def _is_usable(self, event: Event) -> bool:
        """Whether an event can be added: its run is known, and the reports before it are not damaged."""
        is_whole = self._is_whole(event)
        if event["e"] not in ("report", "close", "tag"):
            return True
        key = RunKey(event["study"], event["trial"])
        if not is_whole:
            self._damaged.add(key)
        return key in self.runs and (is_whole or event["e"] != "report")

    # --- one method for each event ----------------------------------------------------------------------

    def _add_event(self, event: OpenEvent | CloseEvent | TagEvent | DescribeEvent | ArtifactEvent) -> None:
        """Add an event that is not a report."""
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
        searched = self._studies[study].searched_names
        name = run_name(family, number, event["params"], event["hparams"], searched or ())
        role = self._studies[study].tags.get(ROLE, "trial")
        identity = {**_identity(key, family, role), "mlflow.runColor": run_color(family)}
        self.runs[key] = Rows(key, name, t, identity)
        rows = self._rows(key)
        rows.tags["trial.state"] = "running"
        rows.tags.update(self._studies[study].commit)
        rows.tags.update(self._studies[study].setup)
        rows.tags.update(_fixed(event, searched))
        rows.params.update(_searched(event, searched))
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
        """Add one report of each job, a trial's members together."""
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
            trial.facts.report(event["member"], event["step"], of_member, event["metrics"], event.get("sums", {}))
        for name, values in _medians(traces).items():
            chosen = _choose_indices(trial, name, values).tolist()
            last = [len(values) - 1] if len(values) and name not in MEASURED else []
            for k in dict.fromkeys([*chosen, *last]):
                step = trial.step + k + first_step(name)
                self._add_point(key, Metric(name, float(values[k]), t, step), is_chosen=k in chosen)
        trial.step = max(event["step"] for event in events)
        for event in events:
            self._add_evaluation(key, event, t, suffix=f".member{event['member']}" if trial.members > 1 else "")
        if len(events) == trial.members:
            self._add_medians(key, events, t)

    def _add_evaluation(self, key: RunKey, event: ReportEvent, t: int, suffix: str) -> None:
        is_chosen = _is_report_chosen(self._trials[key], event["step"])
        for name, value in event["metrics"].items():
            self._add_point(key, Metric(name + suffix, value, t, event["step"]), is_chosen=is_chosen)

    def _add_medians(self, key: RunKey, events: list[ReportEvent], t: int) -> None:
        """Add the medians over all members at one report. One of them is the objective's metric."""
        trial, objective = self._trials[key], self._studies[key.study].tags.get(METRIC)
        for name in events[0]["metrics"]:
            value = float(np.median([event["metrics"].get(name, math.nan) for event in events]))
            if trial.members > 1:
                self._add_point(key, Metric(name, value, t, trial.step), is_chosen=_is_report_chosen(trial, trial.step))
            if name == objective:
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
        # MLflow draws names with a "/" first, as if they were traces.
        numbers |= {name.replace("/", "."): value for name, value in event.get("measures", {}).items()}
        if key not in self._damaged:
            numbers |= trial.facts.facts_at_end(event["state"])
        if numbers.get("lr_max", 0) > 0:  # MLflow's scatter has no log axis
            numbers["log10_lr_max"] = math.log10(numbers["lr_max"])
        for name, value in numbers.items():
            self._add_point(key, Metric(name, value, t, step), is_chosen=True)
        if event["state"] == "complete" and self._studies[event["study"]].is_search:
            self._add_complete(TrialId(event["study"], event["trial"]), numbers)
        rows.tags["trial.state"] = event["state"]
        if event["state"] == "diverged":
            rows.tags["diverged.step"] = str(step)
        if event["reason"]:
            rows.tags["trial.reason"] = event["reason"]
        rows.status, rows.end = STATUS[event["state"]], t
        trial.ended = True
        self._add_time_to_target(key, t)
        self._close_study(event["study"], t)
        # A long sweep has many ended trials: free their memory.
        trial.lr_S, trial.facts = np.zeros(0), TrialFacts(np.zeros(0))

    def _add_complete(self, trial: TrialId, numbers: Mapping[str, float]) -> None:
        """Add a trial that may stand for its family."""
        if math.isfinite(numbers.get("objective", math.nan)):
            self._values[trial] = numbers["objective"]
        if "log10_lr_max" in numbers:
            self._peaks[trial] = numbers["log10_lr_max"]

    def _add_time_to_target(self, key: RunKey, t: int) -> None:
        """Add how long an ended trial took to reach the sweep's target, if there is one and this has changed.

        If the target is now harder and the trial does not reach it, the value is NaN: MLflow cannot delete a metric.
        """
        trial, study = self._trials[key], self._studies[key.study]
        if key.trial is None or study.direction is None or TARGET not in study.metrics:
            return
        earlier = study.time_to_target.get(key.trial, {})
        current = facts.time_to_target(trial.judged, study.metrics[TARGET], study.direction, trial.clock)
        for name in dict.fromkeys([*earlier, *current]):
            if earlier.get(name) != current.get(name):
                self._metrics.add(name)
                self._rows(key).metrics.append(Metric(name, current.get(name, math.nan), t, trial.step))
        study.time_to_target[key.trial] = current

    def _close_study(self, study: str, t: int) -> None:
        """Finish a study's summary run if none of its trials is open."""
        self._studies[study].open -= 1
        if self._studies[study].open == 0:
            summary = self._rows(RunKey(study, None))
            summary.status, summary.end = "FINISHED", t

    def _tag(self, event: TagEvent) -> None:
        self._rows(RunKey(event["study"], event["trial"])).tags.update(_texts(event["tags"]))

    def _describe(self, event: DescribeEvent) -> None:
        """Add what is new. A study searches, and nothing of itself is searched: its params are tags."""
        rows = self._summary(event["study"], event["t"])
        state = self._studies[event["study"]]
        note = {NOTE: event["note"]} if event.get("note") else {}
        commit = {SOURCE_COMMIT: event["tags"][COMMIT]} if COMMIT in event["tags"] else {}
        for name, value in _texts({**event["params"], **event["tags"], **commit, **note}).items():
            if state.tags.get(name) != value:
                state.tags[name] = rows.tags[name] = value
        if VERDICT in event["tags"]:
            self._judged = decode_order(event["tags"][VERDICT])
        for name, number in event["metrics"].items():
            if state.metrics.get(name) != number and math.isfinite(number):
                state.metrics[name] = number
                rows.metrics.append(Metric(key_text(name), number, event["t"], 0))
                if name == TARGET:
                    self._retarget(event["study"], event["t"])

    def _retarget(self, study: str, t: int) -> None:
        for key, trial in self._trials.items():
            if key.study == study and trial.ended:
                self._add_time_to_target(key, t)

    def _artifact(self, event: ArtifactEvent) -> None:
        rows = self._summary(event["study"], event["t"])
        state = self._studies[event["study"]]
        if state.artifacts.get(event["path"]) != event["digest"]:
            state.artifacts[event["path"]] = event["digest"]
            if event["path"] not in rows.artifacts:
                rows.artifacts.append(event["path"])
        if event.get("table"):
            state.tables[PurePath(event["path"]).name] = None
            tables = json.dumps([{"path": name, "type": "table"} for name in state.tables])
            if state.tags.get(TABLES) != tables:
                state.tags[TABLES] = rows.tags[TABLES] = tables

    # --- rows of a run ----------------------------------------------------------------------------------

    def _rows(self, key: RunKey) -> Rows:
        if key not in self._pending:
            run = self.runs[key]
            self._pending[key] = Rows(key, run.name, run.start, run.identity)
        return self._pending[key]

    def _summary(self, study: str, t: int, family: str | None = None) -> Rows:
        """Return the rows of a study's summary run, and create the run at the study's first event."""
        key = RunKey(study, None)
        if key not in self.runs:
            self.runs[key] = Rows(key, study, t, _identity(key, None))
            self._studies[study] = _Study()
        rows, tags = self._rows(key), self._studies[study].tags
        if family is not None and tags.get("schedule.family") != family:
            tags["schedule.family"] = rows.tags["schedule.family"] = family
        return rows

    def _add_point(self, key: RunKey, metric: Metric, is_chosen: bool) -> None:
        """Add a point of a metric. A value that is not finite becomes a tag.

        Args:
            key: The run.
            metric: The point.
            is_chosen: Whether to send it now. If not, it is sent at the end of the trial if it is then the newest.
        """
        trial, rows = self._trials[key], self._rows(key)
        if not math.isfinite(metric.value):
            if metric.key not in trial.not_finite:
                trial.not_finite[metric.key] = metric.step
                rows.tags["not_finite"] = ", ".join(f"{name} at {step}" for name, step in trial.not_finite.items())
            return
        metric = metric._replace(key=key_text(metric.key))
        self._metrics.add(metric.key)
        if is_chosen:
            rows.metrics.append(metric)
        trial.last[metric.key] = _Last(metric, is_chosen)


# --- tags and params --------------------------------------------------------------------------------


def _identity(key: RunKey, family: str | None, role: str = "trial") -> dict[str, str]:
    """Return the tags that find a run again, and those that group runs.

    Args:
        key: The run.
        family: Of a trial.
        role: "trial", or "replicate" for a training that confirms one.
    """
    if key.trial is None:
        return {"sweep.role": "study", "sweep.study": key.study}
    return {
        "sweep.role": role,
        "sweep.study": key.study,
        "trial.number": str(key.trial),
        "schedule.family": family or "",
    }


def _searched(event: OpenEvent, names: Sequence[str] | None) -> dict[str, str]:
    """Return the params of a trial's run: the searched hyperparameters. Only these are compared by MLflow's pages.

    Args:
        event: The trial.
        names: Names of the searched hyperparameters; None if they are unknown, so that any may be.
    """
    values = {**event["params"], **event["hparams"]}
    return _texts({name: value for name, value in values.items() if names is None or name in names})


def _fixed(event: OpenEvent, names: Sequence[str] | None) -> dict[str, str]:
    """Return the tags with everything else that a trial is made of."""
    seeds = ", ".join(str(member["seed"]) for member in event["members"])
    values = {**event["params"], **event["hparams"], "steps": event["steps"], "seed": seeds}
    searched = _searched(event, names)
    return {name: value for name, value in _texts(values).items() if name not in searched}


def _texts(values: Mapping[str, Value]) -> dict[str, str]:
    return {key_text(name): str(value) for name, value in values.items()}


def key_text(name: str) -> str:
    """Return a name that MLflow accepts: no brackets, no "@", a clean relative path, at most 250 characters."""
    plain = re.sub(r"[^\w./: -]", "_", name)
    parts = [part if part.strip(".") else "_" * len(part) for part in plain.split("/") if part]
    return ("/".join(parts) or "_")[:250]


# --- values -----------------------------------------------------------------------------------------


def _traces(trial: _Trial, event: ReportEvent) -> dict[str, Floats]:
    """Return every trace of a report, from update trial.step on, with the planned LR if none is reported."""
    traces = {name: decode(text) for name, text in event["traces"].items()}
    traces.setdefault(LR, trial.lr_S[trial.step : event["step"]])
    return traces


def _medians(traces: list[dict[str, Floats]]) -> dict[str, Floats]:
    """Return the median of every trace over the members.

    A member that diverged may have stopped earlier. The median is then that of the others.
    """
    if len(traces) == 1:
        return traces[0]
    names = dict.fromkeys(name for of_member in traces for name in of_member)
    return {name: _median(name, [of_member[name] for of_member in traces if name in of_member]) for name in names}


def _median(name: str, values: list[Floats]) -> Floats:
    """Return the median at each update, over the members that ran it."""
    parts, start = [], 0
    for stop in sorted({len(of_member) for of_member in values}):
        values_MK = np.array([of_member[start:stop] for of_member in values if len(of_member) >= stop])
        parts.append(_median_of_measured(values_MK) if name in MEASURED else np.median(values_MK, axis=0))
        start = stop
    return np.concatenate(parts)


def _median_of_measured(values_MK: Floats) -> Floats:
    """Return the median at each update, over the members that measured there; NaN if none did."""
    median_K = np.full(values_MK.shape[1], np.nan)
    some_K = ~np.isnan(values_MK).all(axis=0)  # np.nanmedian would warn about the others
    median_K[some_K] = np.nanmedian(values_MK[:, some_K], axis=0)
    return median_K


def _choose_indices(trial: _Trial, name: str, values: Floats) -> Indices:
    """Return the positions in `values`, the updates from trial.step on, that are sent.

    The planned LR is thinned by the shape of its whole trace. An LR that a controller changed, any other LR, and
    momentum are thinned by the shape of this piece. Of traces measured at some updates only, every measured value is
    sent, at most MOST_POINTS in all. Everything else is thinned by the trial's fixed stride.
    """
    if name in MEASURED:
        return np.flatnonzero(~np.isnan(values))
    start, stop = trial.step, trial.step + len(values)
    planned = trial.lr_S[start:stop]
    if name == LR and len(planned) == len(values) and np.allclose(values, planned, rtol=LR_RTOL, atol=0):
        index_K = trial.lr_at
    elif is_used(name):
        return indices_by_shape(values)
    else:
        index_K = trial.loss_at
    return index_K[np.searchsorted(index_K, start) : np.searchsorted(index_K, stop)] - start


def _is_report_chosen(trial: _Trial, step: int) -> bool:
    """Return whether the evaluation at `step` is sent: at most MOST_POINTS of them are, always with the last."""
    count = len(trial.report_steps)
    if count <= MOST_POINTS or step >= trial.report_steps[-1]:
        return True
    position = int(np.searchsorted(trial.report_steps, step))
    return position in even_indices(count, MOST_POINTS - 1)
