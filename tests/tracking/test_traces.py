"""Full traces come back exactly, from the spool and from Parquet."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from sweeper.tracking.spool import Spool
from sweeper.tracking.traces import read_trace, write_parquet
from sweeper.types import Ending, Report


@pytest.fixture
def home(tmp_path, played):
    tracker = Spool(tmp_path / "spool", 0)
    list(played(tracker, trials=4, members=2))
    tracker.finish()
    return tmp_path


def expected(job, last, end_state, a_report):
    reports = [a_report(job, begin, min(begin + 20, last), "running") for begin in range(0, last - 20, 20)]
    begin = 20 * len(reports)
    return [*reports, a_report(job, begin, last, end_state)]


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(("trial", "last", "state"), [(0, 200, "complete"), (1, 60, "running"), (2, 47, "diverged")])
@pytest.mark.parametrize("member", [0, 1])
def test_a_trace_comes_back(home, a_job, a_report, parquet, trial, last, state, member):
    if parquet:
        write_parquet(home / "spool", home / "traces")
        (home / "spool" / "events.jsonl").unlink()
    job = a_job("wsd", trial, member)
    reports = expected(job, last, state, a_report)
    frame = read_trace(home, "wsd", trial, member)
    assert frame["step"].tolist() == list(range(last + 1))
    assert frame["step"].dtype == np.int64
    assert frame["lr/group0"].tolist()[:-1] == job.lr_S[:last].tolist()
    losses = np.concatenate([report.traces["train/loss"] for report in reports])
    assert frame["train/loss"].tolist()[1:] == losses.tolist()
    assert np.isnan([frame["lr/group0"].iloc[-1], frame["train/loss"][0]]).all()
    evaluated = frame.set_index("step")["valid/loss"].dropna().to_dict()
    assert evaluated == {report.step: report.metrics["valid/loss"] for report in reports if report.metrics}


def test_one_file_a_study_with_every_row(home):
    written = write_parquet(home / "spool", home / "traces")
    assert sorted(written) == ["cosine", "wsd"]
    table = pq.read_table(written["cosine"])
    assert table.column_names == ["trial", "member", "step", "train/loss", "lr/group0", "valid/loss"]
    assert len(table) == 2 * (201 + 61 + 48 + 81)
    assert not list((home / "traces").glob("*.new"))


def test_writing_twice_gives_the_same_file(home):
    path = write_parquet(home / "spool", home / "traces")["wsd"]
    first = path.read_bytes()
    assert write_parquet(home / "spool", home / "traces")["wsd"].read_bytes() == first


def test_a_trial_that_went_on_is_read_from_the_spool(tmp_path, a_job, a_report):
    job = a_job("cosine", 0)
    tracker = Spool(tmp_path / "spool", 0)
    tracker.open([job])
    tracker.append([a_report(job, 0, 20, "running")])
    tracker.commit(1)
    write_parquet(tmp_path / "spool", tmp_path / "traces")
    tracker.append([a_report(job, 20, 40, "running")])
    tracker.commit(2)
    assert len(read_trace(tmp_path, "cosine", 0)) == 41
    tracker.append([a_report(job, 40, 60, "running")])
    assert len(read_trace(tmp_path, "cosine", 0)) == 41
    tracker.finish()


@pytest.mark.parametrize("parquet", [False, True])
def test_what_is_measured_at_some_updates_only_comes_back_with_its_gaps(tmp_path, a_job, parquet):
    job = a_job("cosine", 0)
    norms = np.where(np.arange(20) % 5 == 4, np.arange(20.0), np.nan)
    tracker = Spool(tmp_path / "spool", 0)
    tracker.open([job])
    tracker.append([Report(job.id, 20, {"train/loss": np.ones(20), "grad_norm": norms}, {}, 0.1)])
    tracker.close(Ending(job.id.of, "pruned", 20))
    tracker.commit(1)
    tracker.finish()
    if parquet:
        write_parquet(tmp_path / "spool", tmp_path / "traces")
        (tmp_path / "spool" / "events.jsonl").unlink()
    np.testing.assert_array_equal(read_trace(tmp_path, "cosine", 0)["grad_norm"], norms)


def test_an_unknown_trial_is_a_key_error(home):
    with pytest.raises(KeyError, match="cosine trial 99 member 0 has no committed report"):
        read_trace(home, "cosine", 99)


def test_a_sweep_without_trials_writes_nothing(tmp_path):
    Spool(tmp_path / "spool", 0).finish()
    assert write_parquet(tmp_path / "spool", tmp_path / "traces") == {}
