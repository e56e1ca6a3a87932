"""Full traces: write the spool to one Parquet file per study, and read them back.

Columns: trial, member, step, then one float64 column for each trace and metric, by its tracking name, NaN where a step
has no value. `sweeper.tracking.clock` defines the steps.

The spool is written first and has everything. If it was damaged since, the files keep the traces that it lost. A trial
of which only a part is left has no traces.

Files of earlier versions have a row for each update, numbered from 1, with the LR and the loss of that update. They
lack the metadata STEPS, and are arranged by the clock when they are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.files import writing
from sweeper.tracking.clock import Traces, by_step
from sweeper.tracking.events import (
    EVENTS,
    Event,
    ReportEvent,
    Whole,
    decode,
    last_mark,
    lines,
    parse,
    rounds,
    trial_prefix,
)
from sweeper.types import Floats, Report

if TYPE_CHECKING:
    import pandas as pd

ROWS_A_GROUP = 1 << 17
IDS = ("trial", "member", "step")  # the first columns
# Metadata of the file:
OPEN = b"sweeper.open"  # trials that were still running, so the spool has more of them
STEPS = b"sweeper.steps"  # b"from 0": the rows are arranged by the clock


def write_parquet(spool: Path, folder: Path) -> dict[str, Path]:
    """Write what is committed in `spool` to `folder`/<study>.parquet, each file atomically.

    Returns:
        The file of each study.

    Raises:
        StorageError: A file cannot be written.
    """
    written = {}
    for study, content in _studies(spool).items():
        written[study] = _parquet_path(folder, study)
        with writing(written[study]):
            folder.mkdir(parents=True, exist_ok=True)
            _write_study(spool, study, content, written[study])
    return written


def read_trace(folder: Path, study: str, trial: int, member: int = 0) -> pd.DataFrame:
    """Return everything that a job of the sweep in `folder` reported, from the study's Parquet file or from the spool.

    Returns:
        A row for each step of the clock, with "step" and a column for each trace and metric.

    Raises:
        KeyError: The job has no committed report, or some of them are lost.
    """
    import pandas as pd

    traces = _from_parquet(_parquet_path(folder / "traces", study), trial, member)
    if traces is None:
        traces = _from_spool(folder / "spool", study, trial, member)
    return pd.DataFrame(traces).astype({"step": np.int64})


def trace_of(reports: Sequence[Report]) -> Traces:
    """Return the reports of one job as columns, a row for each step of the clock."""
    return _arrange([_rows(report.step, report.traces, report.metrics) for report in reports])


def _parquet_path(folder: Path, study: str) -> Path:
    return folder / (re.sub(r"[^\w.-]", "_", study) + ".parquet")


# --- the spool --------------------------------------------------------------------------------------


def _from_spool(spool: Path, study: str, trial: int, member: int) -> Traces:
    opening, report, close = (trial_prefix(kind, study, trial) for kind in ("open", "report", "close"))
    end = last_mark(spool / EVENTS)[1]
    parts: list[Traces] = []
    is_whole = Whole()
    for line in lines(spool / EVENTS, 0, end):
        if not line.startswith((opening, report, close)):
            continue
        event: Event | None = parse(line)
        if event is None and line.startswith(close):
            continue  # its end has no traces
        if event is None or not is_whole(event):
            raise KeyError(f"{study} trial {trial}: some of its reports are damaged or missing")
        if event["e"] == "report" and event["member"] == member:
            parts.append(_rows_of_event(event))
    if not parts:
        raise KeyError(f"{study} trial {trial} member {member} has no committed report")
    return _arrange(parts)


def _rows_of_event(event: ReportEvent) -> Traces:
    return _rows(event["step"], {name: decode(text) for name, text in event["traces"].items()}, event["metrics"])


def _rows(step: int, traces: Mapping[str, Floats], metrics: Mapping[str, float]) -> Traces:
    """Return a report as columns, a row for each update; a report without traces is one row."""
    count = max((len(values) for values in traces.values()), default=1)
    rows = {"step": np.arange(step - count + 1, step + 1, dtype=np.float64), **traces}
    for name, value in metrics.items():
        rows[name] = np.full(count, np.nan)
        rows[name][-1] = value
    return rows


def _arrange(parts: list[Traces]) -> Traces:
    """Return the parts of a job as one table by step, with all of their columns."""
    return by_step(_join(parts, list(dict.fromkeys(name for part in parts for name in part))))


def _join(parts: list[Traces], columns: list[str]) -> Traces:
    """Concatenate parts along the updates, with NaN where a part lacks a column."""
    return {
        name: np.concatenate([part[name] if name in part else np.full(len(part["step"]), np.nan) for part in parts])
        for name in columns
    }


@dataclass
class _Content:
    """What the spool has of a study.

    Attributes:
        columns: Traces and metrics in the order of their first report, as an ordered set.
        open: Trials that have not ended, or whose record is damaged.
        ended: Trials whose record is complete.
    """

    columns: dict[str, None] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)


def _studies(spool: Path) -> dict[str, _Content]:
    """Return what the spool has of each study."""
    studies: dict[str, _Content] = {}
    for event in _whole_events(spool):
        if event["e"] == "open":
            studies.setdefault(event["study"], _Content()).open.add(event["trial"])
        elif event["e"] == "close":
            studies[event["study"]].open.remove(event["trial"])
            studies[event["study"]].ended.add(event["trial"])
        elif event["e"] == "report":
            studies[event["study"]].columns.update(dict.fromkeys([*event["traces"], *event["metrics"]]))
    return studies


def _jobs(spool: Path, study: str) -> Iterator[tuple[int, int, list[Traces]]]:
    """Yield trial, member and reports of each job, in the order in which trials end. Open trials come last."""
    waiting: dict[int, dict[int, list[Traces]]] = {}
    for event in _whole_events(spool):
        if event["study"] != study:
            continue
        if event["e"] == "report":
            waiting.setdefault(event["trial"], {}).setdefault(event["member"], []).append(_rows_of_event(event))
        elif event["e"] == "close":
            members = waiting.pop(event["trial"], {})
            yield from ((event["trial"], member, parts) for member, parts in members.items())
    for trial, members in waiting.items():
        yield from ((trial, member, parts) for member, parts in members.items())


def _whole_events(spool: Path) -> Iterator[Event]:
    is_whole = Whole()
    return (event for events, _ in rounds(spool / EVENTS) for event in events if is_whole(event))


# --- the file ---------------------------------------------------------------------------------------


def _write_study(spool: Path, study: str, content: _Content, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = _kept_rows(path, content.ended)
    kept_trials = set() if kept is None else set(kept["trial"].to_pylist())
    columns = list(content.columns if kept is None else content.columns | dict.fromkeys(kept.column_names[len(IDS) :]))
    metadata = {OPEN: json.dumps(sorted(content.open - kept_trials)), STEPS: "from 0"}
    schema = _schema(columns, metadata)
    new = path.with_name(f"{path.name}.new")
    with pq.ParquetWriter(new, schema, compression="zstd", write_page_checksum=True) as writer:
        tables: list[Any] = [] if kept is None else [_with_columns(kept, schema)]
        for trial, member, parts in _jobs(spool, study):
            if trial in kept_trials:
                continue
            tables.append(_table(trial, member, by_step(_join(parts, ["step", *columns])), schema))
            if sum(len(table) for table in tables) >= ROWS_A_GROUP:
                writer.write_table(pa.concat_tables(tables))
                tables = []
        if tables:
            writer.write_table(pa.concat_tables(tables))
    new.replace(path)


def _kept_rows(path: Path, ended: set[int]) -> Any:
    """Return the rows of the trials that an earlier file has completely and the spool lost; None if there are none."""
    try:
        metadata = _metadata(path)
        trials = set(_read_table(path, columns=["trial"])["trial"].to_pylist())
        lost = trials - ended - _open_trials(metadata)
        kept = _read_table(path, filters=[("trial", "in", lost)]) if lost else None
    except _unreadable():
        return None
    return kept if kept is None or STEPS in metadata else _arranged(kept)


def _arranged(table: Any) -> Any:
    """Return the rows of a file of an earlier version, arranged by the clock."""
    import pyarrow as pa

    names = table.column_names[len(IDS) :]
    id_N2 = np.stack([table[name].to_numpy() for name in IDS[:2]], axis=1)
    jobs = []
    for trial, member in np.unique(id_N2, axis=0).tolist():
        rows = table.filter(pa.array((id_N2 == (trial, member)).all(axis=1)))
        values = {name: rows[name].to_numpy().astype(np.float64) for name in ("step", *names)}
        jobs.append(_table(trial, member, by_step(values), _schema(names)))
    return pa.concat_tables(jobs)


def _with_columns(table: Any, schema: Any) -> Any:
    import pyarrow as pa

    empty = np.full(len(table), np.nan)
    return pa.table({name: table[name] if name in table.column_names else empty for name in schema.names}, schema)


def _table(trial: int, member: int, values: Traces, schema: Any) -> Any:
    import pyarrow as pa

    count = len(values["step"])
    ids = {"trial": np.full(count, trial), "member": np.full(count, member), "step": values["step"].astype(np.int64)}
    return pa.table({**values, **ids}, schema=schema)


def _from_parquet(path: Path, trial: int, member: int) -> Traces | None:
    """Return the traces of a job, or None if the file is missing or damaged, or does not have all of the trial."""
    try:
        metadata = _metadata(path)
        if trial in _open_trials(metadata):
            return None
        table = _read_table(path, filters=[("trial", "==", trial), ("member", "==", member)])
    except _unreadable():
        return None
    if len(table) == 0:
        return None
    columns = {name: table[name].to_numpy().astype(np.float64) for name in table.column_names[2:]}
    columns = columns if STEPS in metadata else by_step(columns)
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def _read_table(path: Path, **selection: Any) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path, page_checksum_verification=True, **selection)


def _metadata(path: Path) -> Mapping[bytes, bytes]:
    import pyarrow.parquet as pq

    return pq.read_schema(path).metadata or {}


def _open_trials(metadata: Mapping[bytes, bytes]) -> set[int]:
    """Return the trials of which the spool has more than the file."""
    return set(json.loads(metadata.get(OPEN, b"[]")))


def _schema(columns: Iterable[str], metadata: Mapping[bytes, str] | None = None) -> Any:
    import pyarrow as pa

    ids = [(name, pa.int64()) for name in IDS]
    return pa.schema([*ids, *((name, pa.float64()) for name in columns)], metadata)


def _unreadable() -> tuple[type[Exception], ...]:
    """Return what reading a missing, foreign or damaged file raises."""
    import pyarrow as pa

    return (OSError, LookupError, TypeError, ValueError, pa.ArrowException)
