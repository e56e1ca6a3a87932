"""The spool keeps exactly the committed rounds, whatever happened to the file, and its sender learns only of those."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.tracking import events, spool
from sweeper.tracking.events import EVENTS, decode, encode, last_mark, rounds
from sweeper.tracking.spool import Spool, published_bytes
from sweeper.types import Summary, TrialId


def events_of(folder, end=None):
    return [event for events, _ in rounds(folder / EVENTS, 0, end) for event in events]


def test_arrays_come_back_bit_for_bit():
    values = np.array([0.1, -0.0, np.inf, np.nan, 5e-324, 1e308])
    assert decode(encode(values)).tobytes() == values.tobytes()
    assert decode(encode(np.arange(10.0)[::2])).tolist() == [0, 2, 4, 6, 8]


@given(st.lists(st.one_of(st.just(math.nan), st.floats(allow_nan=False)), max_size=60))
def test_arrays_that_are_nan_for_the_most_part_come_back_too(values):
    np.testing.assert_array_equal(decode(encode(np.array(values))), np.array(values))
    sparse = np.full(1000, np.nan)
    sparse[: len(values)] = values
    np.testing.assert_array_equal(decode(encode(sparse)), sparse)
    assert len(encode(sparse)) < 1100


def test_nothing_is_in_the_file_before_its_commit(tmp_path, a_job):
    tracker = Spool(tmp_path, 0)
    tracker.open([a_job("cosine", 0)])
    assert (tmp_path / EVENTS).read_bytes() == b""
    tracker.commit(1)
    assert [event["e"] for event in events_of(tmp_path)] == ["open"]
    tracker.finish()


def test_an_array_that_changes_later_is_kept_as_it_was(tmp_path, a_job, a_report):
    job = a_job("cosine", 0)
    tracker = Spool(tmp_path, 0)
    tracker.open([job])
    loss = np.ones(20)
    original = a_report(job, 0, 20, "running")
    tracker.append([type(original)(job.id, 20, {"train/loss": loss}, {}, 0.0)])
    loss[:] = 7
    tracker.commit(1)
    assert decode(events_of(tmp_path)[1]["traces"]["train/loss"]).tolist() == [1.0] * 20
    tracker.finish()


@pytest.mark.parametrize("kept", [0, 1, 7, 30])
def test_opening_cuts_what_the_journal_does_not_know(tmp_path, played, kept):
    tracker = Spool(tmp_path, 0)
    ends = {0: 0}
    for round in played(tracker):
        ends[round] = (tmp_path / EVENTS).stat().st_size
    tracker.finish()
    whole = (tmp_path / EVENTS).read_bytes()
    again = Spool(tmp_path, kept)
    assert (tmp_path / EVENTS).read_bytes() == whole[: ends[kept]]
    again.finish()


def test_any_torn_tail_is_cut(tmp_path, played):
    tracker = Spool(tmp_path, 0)
    ends = {round: (tmp_path / EVENTS).stat().st_size for round in played(tracker, trials=2)}
    tracker.finish()
    whole = (tmp_path / EVENTS).read_bytes()
    first, second = ends[5], ends[6]
    rng = np.random.default_rng(0)
    for size in sorted({first, first + 1, second - 1, *(int(n) for n in rng.integers(first, second, 20))}):
        (tmp_path / EVENTS).write_bytes(whole[:size])
        again = Spool(tmp_path, 6)
        assert (tmp_path / EVENTS).read_bytes() == whole[:first]
        again.finish()


def test_what_is_noted_after_the_last_round_is_kept(tmp_path, played):
    tracker = Spool(tmp_path, 0)
    last = list(played(tracker, trials=1))[-1]
    tracker.describe("cosine", Summary(metrics={"best": 0.5}))
    tracker.commit(last)
    tracker.publish(last)
    tracker.finish()
    again = Spool(tmp_path, last)
    assert events_of(tmp_path)[-1]["metrics"] == {"best": 0.5}
    assert published_bytes(tmp_path) == (tmp_path / EVENTS).stat().st_size
    again.finish()


def test_a_round_that_the_journal_has_not_is_not_published(tmp_path, a_job):
    tracker = Spool(tmp_path, 0)
    tracker.open([a_job("cosine", 0)])
    tracker.commit(1)
    assert published_bytes(tmp_path) == 0
    tracker.publish(0)
    assert published_bytes(tmp_path) == 0
    tracker.publish(1)
    assert published_bytes(tmp_path) == (tmp_path / EVENTS).stat().st_size
    tracker.finish()


def test_the_last_mark_is_found_behind_long_lines(tmp_path, a_job):
    tracker = Spool(tmp_path, 0)
    tracker.open([a_job("cosine", 0)])
    tracker.commit(1)
    end = (tmp_path / EVENTS).stat().st_size
    tracker.describe("cosine", Summary(tags={"mlflow.note.content": "x" * 900_000}))
    tracker.commit(2)
    tracker.finish()
    assert last_mark(tmp_path / EVENTS, 1) == (1, end)


def test_a_full_disk_loses_nothing(tmp_path, a_job, monkeypatch):
    tracker = Spool(tmp_path, 0)
    tracker.open([a_job("cosine", 0)])
    tracker.commit(1)
    before = (tmp_path / EVENTS).read_bytes()
    tracker.tag(TrialId("cosine", 0), {"a": "b"})

    def full(file, view):
        os.truncate(tmp_path / EVENTS, len(before))
        monkeypatch.undo()
        with open(tmp_path / EVENTS, "ab") as torn:  # noqa: PTH123 - what a short write leaves
            torn.write(bytes(view[:10]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        tracker.commit(2)
    assert (tmp_path / EVENTS).read_bytes() == before
    tracker.commit(2)
    assert [event["e"] for event in events_of(tmp_path)] == ["open", "tag"]
    tracker.finish()


def test_a_kill_at_any_moment_leaves_whole_rounds(tmp_path):
    """A process that commits as fast as it can is killed; the file opens at its last mark with every event."""
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from sweeper.tracking.spool import Spool
        from sweeper.types import TrialId
        tracker = Spool(Path(sys.argv[1]), 0)
        for round in range(1, 1_000_000):
            for number in range(5):
                tracker.tag(TrialId("cosine", number), {"round": str(round), "padding": "x" * 2000})
            tracker.commit(round)
            print(round, flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    done = max(int(line) for line in said if line.strip().isdigit())
    tracker = Spool(tmp_path, done)
    events = events_of(tmp_path)
    assert [event["tags"]["round"] for event in events] == [str(r) for r in range(1, done + 1) for _ in range(5)]
    tracker.finish()


def test_an_artifact_is_remembered_by_its_content_and_place(tmp_path):
    home = tmp_path / "sweep"
    tracker = Spool(home / "spool", 0)
    (home / "traces").mkdir()
    (home / "traces" / "a.txt").write_text("one")
    tracker.artifact("cosine", home / "traces" / "a.txt")
    (home / "traces" / "a.txt").write_text("two")
    tracker.artifact("cosine", home / "traces" / "a.txt")
    tracker.artifact("cosine", home / "traces")
    tracker.commit(1)
    first, second, folder = events_of(home / "spool")
    assert first["path"] == second["path"] == os.path.join("traces", "a.txt")  # noqa: PTH118 - its text
    assert first["digest"] != second["digest"]
    assert folder["path"] == "traces"
    with pytest.raises(FileNotFoundError):
        tracker.artifact("cosine", home / "nothing")
    tracker.finish()


def test_times_never_go_back_whatever_the_clock_does(tmp_path):
    """Also in the next command: MLflow shows the later of two values of a metric, not the second."""
    clock = iter([t * 10**9 for t in (1000, 5000, 2000, 3000, 10, 20, 30, 40, 6000, 50, 60, 70)])
    for round in (1, 2):
        spool = Spool(tmp_path, round - 1, clock=lambda: next(clock))
        for value in (1.0, 2.0):
            spool.describe("cosine", Summary(metrics={"best_value": value + round}))
        spool.commit(round)
        spool.publish(round)
        spool.finish()
    written = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    times = [event["t"] for event in written]
    assert times == sorted(times)
    assert times[2] < times[3], "a value of the next command is later than every one of this command"


@pytest.mark.parametrize(("last", "concluded"), [("artifact", True), ("describe", False), (None, False)])
def test_a_command_that_ended_is_known_by_the_files_it_recorded_last(tmp_path, last, concluded):
    events_file = tmp_path / "spool" / "events.jsonl"
    assert not events.is_concluded(events_file, 0)
    spool = Spool(tmp_path / "spool", 0)
    (tmp_path / "table.csv").write_text("1")
    spool.describe("cosine", Summary())
    if last == "artifact":
        spool.artifact("cosine", tmp_path / "table.csv")
    elif last == "describe":
        spool.artifact("cosine", tmp_path / "table.csv")
        spool.describe("cosine", Summary())
    spool.commit(1)
    assert events.is_concluded(events_file, 1) == concluded
    spool.commit(2)
    assert not events.is_concluded(events_file, 2)
    spool.finish()
