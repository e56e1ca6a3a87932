"""The clock: the same steps in every record of a trained sweep, and in files of earlier versions."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sweeper
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.models import MLP
from sweeper.tracking.clock import by_step, first_step
from sweeper.tracking.events import decode, rounds
from sweeper.tracking.mlflow.rows import Translation
from sweeper.tracking.traces import read_trace
from sweeper.views.figures import losses, schedules

STEPS, REPORTS = 12, (3, 6, 9, 12)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
TRIAL = "onecycle:0"
USED = ("lr/group0", "momentum/group0")
RESULTS = ("train/loss", "grad_norm", "update_to_weight")
EVALUATED = ("valid/loss", "valid/accuracy")


def train(folder, tracking):
    """Train one trial whose LR and momentum move."""
    return sweeper.sweep(
        Supervised(Arrays(X, X[:, 0] > 0), MLP),
        {"onecycle": {"peak_lr": 0.1, "momentum": "cycled"}},
        steps=STEPS,
        n_trials=1,
        search={"reports": len(REPORTS)},
        trainer={"sequential": {"workers": 1}},
        tracking=tracking,
        device="cpu",
        root=folder / "sweeps",
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return train(tmp_path_factory.mktemp("clock"), "none")


def points(steps, values):
    """Return the values by step, without those that are missing."""
    return {int(step): value for step, value in zip(steps, values, strict=True) if value is not None and value == value}


def in_trace(sweep):
    trace = sweep.trace(TRIAL)
    return {name: points(trace["step"], trace[name]) for name in trace.columns[1:]}


def in_parquet(sweep):
    (path,) = sweep.home.traces.glob("*.parquet")
    table = pq.read_table(path).to_pydict()
    return {name: points(table["step"], table[name]) for name in list(table)[3:]}


def for_mlflow(sweep):
    """Return what MLflow's run gets. tests/tracking/mlflow/test_sender.py shows that it arrives."""
    translation = Translation()
    for events, _ in rounds(sweep.home.spool / "events.jsonl"):
        translation.add_events(events)
    (run,) = (rows for rows in translation.pop_rows() if rows.key.trial == 0)
    return {name: {m.step: m.value for m in run.metrics if m.key == name} for name in {m.key for m in run.metrics}}


def in_spool(sweep):
    """Return what a reader without our clock finds: arrays of the updates before each report."""
    found = {}
    for line in (sweep.home.spool / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["e"] == "report":
            for name, text in event["traces"].items():
                values = decode(text)
                steps = event["step"] - len(values) + np.arange(len(values)) + (name in RESULTS)
                found.setdefault(name, {}).update(points(steps, values))
            for name, value in event["metrics"].items():
                found.setdefault(name, {})[event["step"]] = value
    return found


@pytest.mark.parametrize("read", [in_trace, in_parquet, for_mlflow, in_spool])
def test_every_record_has_the_same_steps(sweep, read):
    record, trace = read(sweep), in_trace(sweep)
    for name in USED:
        assert list(trace[name]) == list(range(STEPS))
    assert list(trace["train/loss"]) == list(range(1, STEPS + 1))
    for name in EVALUATED:
        assert list(trace[name]) == list(REPORTS)
    assert set(REPORTS) <= set(trace["grad_norm"]) <= set(range(1, STEPS + 1))
    for name in (*USED, *RESULTS, *EVALUATED):
        assert record[name].items() <= trace[name].items(), name
        ends = (0, STEPS - 1) if name in USED else (STEPS,)
        assert set(ends) <= set(record[name]), name  # MLflow has the points that show a trace's shape
    if read is not for_mlflow:
        assert {name: record[name] for name in trace} == trace


@pytest.mark.slow
def test_mlflow_has_these_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = in_trace(train(tmp_path, "mlflow"))
    with closing(sqlite3.connect("mlflow.db")) as connection:
        rows = connection.execute(
            "SELECT metrics.key, metrics.step, metrics.value FROM metrics JOIN tags USING (run_uuid) "
            "WHERE tags.key = 'sweep.role' AND tags.value = 'trial'"
        ).fetchall()
    for name in (*USED, *RESULTS, *EVALUATED):
        points_there = {step: value for key, step, value in rows if key == name}
        assert points_there, name
        assert points_there.items() <= trace[name].items(), name


def test_the_lr_at_step_k_is_that_of_the_schedule(sweep):
    lr_S = sweep.lr(TRIAL)
    assert lr_S[0] < 0.05 < lr_S.max()
    assert in_trace(sweep)["lr/group0"] == dict(enumerate(lr_S.tolist()))


def test_the_tables_count_updates_done(sweep):
    trials = pd.read_csv(sweep.home.tables / "trials.csv")
    assert trials["steps"].tolist() == [STEPS]
    (record,) = sweep.records
    assert dict(record.intermediate) == in_trace(sweep)["valid/loss"]


def test_figures_have_these_steps(sweep):
    trace = in_trace(sweep)
    drawn, _ = schedules(sweep).axes
    x, y = drawn.lines[0].get_data()
    assert points(x, y) == trace["lr/group0"]
    whole, _ = losses(sweep).axes
    train, valid = (points(*line.get_data()) for line in whole.lines)
    assert train == trace["train/loss"]
    assert valid == trace["valid/loss"]


def test_a_trace_of_an_earlier_version_is_read_on_the_clock(sweep, tmp_path):
    """Such a file has a row for each update, from 1, and no metadata about steps."""
    trace = in_trace(sweep)
    columns = {"trial": [0] * STEPS, "member": [0] * STEPS, "step": range(1, STEPS + 1)}
    for name, values in trace.items():
        columns[name] = [values.get(step - 1 + first_step(name)) for step in range(1, STEPS + 1)]
    (study,) = sweep.config["studies"]
    (tmp_path / "traces").mkdir()
    old = pa.table(columns).replace_schema_metadata({b"sweeper.open": b"[]"})
    pq.write_table(old, tmp_path / "traces" / f"{study}.parquet")
    pd.testing.assert_frame_equal(read_trace(tmp_path, study, 0), sweep.trace(TRIAL))


def test_reports_without_traces_keep_their_steps():
    updates = {"step": np.array([4.0, 8.0]), "valid/loss": np.array([2.0, 1.0]), "lr/group0": np.full(2, np.nan)}
    assert by_step(updates)["step"].tolist() == [4, 8]
    assert by_step(updates)["valid/loss"].tolist() == [2, 1]


def test_a_failure_after_a_report_takes_nothing_from_it():
    """It comes with the step of that report, and without values."""
    updates = {"step": np.array([1.0, 2.0, 2.0]), "train/loss": np.array([3.0, 2.0, np.nan])}
    table = by_step(updates)
    assert (table["step"].tolist(), table["train/loss"].tolist()) == ([1, 2], [3, 2])
