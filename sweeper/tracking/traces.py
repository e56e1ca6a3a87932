"""Full traces: write the spool to one Parquet file per study, and read them back.

Columns: trial, member, step, then one float64 column for each trace and metric, by its tracking name, NaN where a step
has no value. `sweeper.tracking.clock` defines the steps.

Files of earlier versions have a row for each update, numbered from 1, with the LR and the loss of that update. They
lack the metadata STEPS, and are arranged by the clock when they are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.tracking.clock import Traces, by_step
from sweeper.tracking.events import EVENTS, ReportEvent, decode, last_mark, lines, report_prefix, rounds
from sweeper.types import Floats, Report

if TYPE_CHECKING:
    import pandas as pd

ROWS_A_GROUP = 1 << 17
# Metadata of the file:
OPEN = b"sweeper.open"  # trials that were still running, so the spool has more of them
STEPS = b"sweeper.steps"  # b"from 0": the rows are arranged by the clock


def write_parquet(spool: Path, folder: Path) -> dict[str, Path]:
    """Write what is committed in `spool` to `folder`/<study>.parquet, each file atomically.

    Returns:
        The file of each study.
    """
    written = {}
    for study, (columns, still_open) in _studies(spool).items():
        folder.mkdir(parents=True, exist_ok=True)
        written[study] = _parquet_path(folder, study)
        _write_study(spool, study, columns, still_open, written[study])
    return written


def read_trace(folder: Path, study: str, trial: int, member: int = 0) -> pd.DataFrame:
    """Return everything that a job of the sweep in `folder` reported, from the study's Parquet file or from the spool.

    Returns:
        A row for each step of the clock, with "step" and a column for each trace and metric.

    Raises:
        KeyError: The job has no committed report.
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
    start = report_prefix(study, trial, member)
    end = last_mark(spool / EVENTS)[1]
    parts = [_rows_of_event(json.loads(line)) for line in lines(spool / EVENTS, 0, end) if line.startswith(start)]
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


def _studies(spool: Path) -> dict[str, tuple[list[str], list[int]]]:
    """Return the columns of each study, in the order of their first report, and its trials that have not ended."""
    columns: dict[str, dict[str, None]] = {}
    still_open: dict[str, dict[int, None]] = {}
    for events, _ in rounds(spool / EVENTS):
        for event in events:
            study = event["study"]
            if event["e"] == "open":
                columns.setdefault(study, {})
                still_open.setdefault(study, {})[event["trial"]] = None
            elif event["e"] == "close":
                still_open[study].pop(event["trial"], None)
            elif event["e"] == "report":
                columns[study].update(dict.fromkeys([*event["traces"], *event["metrics"]]))
    return {study: (list(columns[study]), list(still_open[study])) for study in columns}


def _jobs(spool: Path, study: str) -> Iterator[tuple[int, int, list[Traces]]]:
    """Yield trial, member and reports of each job, in the order in which trials end. Open trials come last."""
    waiting: dict[int, dict[int, list[Traces]]] = {}
    for events, _ in rounds(spool / EVENTS):
        for event in events:
            if event["study"] != study:
                continue
            if event["e"] == "report":
                waiting.setdefault(event["trial"], {}).setdefault(event["member"], []).append(_rows_of_event(event))
            elif event["e"] == "close":
                members = waiting.pop(event["trial"], {})
                yield from ((event["trial"], member, parts) for member, parts in members.items())
    for trial, members in waiting.items():
        yield from ((trial, member, parts) for member, parts in members.items())


# --- the file ---------------------------------------------------------------------------------------


def _write_study(spool: Path, study: str, columns: list[str], still_open: list[int], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = [("trial", pa.int64()), ("member", pa.int64()), ("step", pa.int64())]
    metadata = {OPEN: json.dumps(still_open), STEPS: "from 0"}
    schema = pa.schema([*ids, *((name, pa.float64()) for name in columns)], metadata)
    new = path.with_name(f"{path.name}.new")
    with pq.ParquetWriter(new, schema, compression="zstd") as writer:
        tables: list[Any] = []
        for trial, member, parts in _jobs(spool, study):
            tables.append(_table(trial, member, by_step(_join(parts, ["step", *columns])), schema))
            if sum(len(table) for table in tables) >= ROWS_A_GROUP:
                writer.write_table(pa.concat_tables(tables))
                tables = []
        if tables:
            writer.write_table(pa.concat_tables(tables))
    new.replace(path)


def _table(trial: int, member: int, values: Traces, schema: Any) -> Any:
    import pyarrow as pa

    count = len(values["step"])
    ids = {"trial": np.full(count, trial), "member": np.full(count, member), "step": values["step"].astype(np.int64)}
    return pa.table({**values, **ids}, schema=schema)


def _from_parquet(path: Path, trial: int, member: int) -> Traces | None:
    """Return the traces of a job, or None if the file does not exist or does not have all of the trial."""
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    metadata = _metadata(path)
    if trial in json.loads(metadata.get(OPEN, b"[]")):
        return None
    table = pq.read_table(path, filters=[("trial", "==", trial), ("member", "==", member)])
    if len(table) == 0:
        return None
    columns = {name: table[name].to_numpy().astype(np.float64) for name in table.column_names[2:]}
    columns = columns if STEPS in metadata else by_step(columns)
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def _metadata(path: Path) -> Mapping[bytes, bytes]:
    import pyarrow.parquet as pq

    return pq.read_schema(path).metadata or {}
