"""The contract of Tracker, run by every tracker: what was committed is remembered once, however commands ended.

A new tracker joins KINDS, with a way to read back what it remembers.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from sweeper.tracking import trackers
from sweeper.tracking.events import EVENTS, decode, rounds
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.types import ConfiguredTracker, Job, Report, Summary, TrackedStudy, TrackedSweep, Tracker, TrialId

EXAMPLES = Path(__file__).parents[2] / "examples"
LOSS = "train/loss"

Call = tuple[str, tuple[Any, ...]]
Point = tuple[TrialId, int, float]  # the update, from 0, and its loss
End = tuple[TrialId, str]


class Remembered(NamedTuple):
    """losses: every finite one, or the same share of them always. ends: how trials ended."""

    losses: list[Point]
    ends: list[End]


class Kind(NamedTuple):
    build: Callable[[Path], ConfiguredTracker | None]
    read: Callable[[TrackedSweep], Remembered]


def of_spool(sweep: TrackedSweep) -> Remembered:
    events = [event for of_round, _ in rounds(sweep.spool / EVENTS) for event in of_round]
    found = Remembered([], [])
    for event in events:
        if event["e"] == "report":
            losses = decode(event["traces"][LOSS])
            id, first = TrialId(event["study"], event["trial"]), event["step"] - len(losses) + 1
            found.losses.extend((id, first + k, loss) for k, loss in enumerate(losses) if math.isfinite(loss))
        elif event["e"] == "close":
            found.ends.append((TrialId(event["study"], event["trial"]), event["state"]))
    return found


def of_lines(sweep: TrackedSweep) -> Remembered:
    found = Remembered([], [])
    for line in map(json.loads, (sweep.folder / "runs.jsonl").read_text().splitlines()):
        study, *numbers = line["run"].split(":")
        if LOSS in line:
            found.losses.append((TrialId(study, int(numbers[0])), line["step"], line[LOSS]))
        elif "state" in line.get("summary", {}):
            found.ends.append((TrialId(study, int(numbers[0])), line["summary"]["state"]))
    return found


RUN = "(SELECT value FROM tags WHERE run_uuid = of.run_uuid AND key = '{}')"
RUN = f"{RUN.format('sweep.study')}, {RUN.format('trial.number')}"


def of_mlflow(sweep: TrackedSweep) -> Remembered:
    with sqlite3.connect(sweep.folder / "mlflow.db") as database:
        losses = database.execute(f"SELECT {RUN}, step, value FROM metrics AS of WHERE key = '{LOSS}'").fetchall()
        ends = database.execute(f"SELECT {RUN}, value FROM tags AS of WHERE key = 'trial.state'").fetchall()
    return Remembered(
        [(TrialId(study, int(number)), step, value) for study, number, step, value in losses],
        [(TrialId(study, int(number)), state) for study, number, state in ends if state != "running"],
    )


def a_mlflow(folder: Path) -> ConfiguredTracker:
    return MLflow(f"sqlite:///{folder / 'mlflow.db'}", flush_seconds=120)


def example(folder: Path) -> ConfiguredTracker | None:
    return trackers.build({"_target_": "jsonl_tracker.JsonLines", "path": "runs.jsonl"})


KINDS = {
    "spool": Kind(lambda folder: None, of_spool),
    "mlflow": Kind(a_mlflow, of_mlflow),
    "example": Kind(example, of_lines),
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name == "mlflow" else ()) for name in KINDS])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    monkeypatch.syspath_prepend(EXAMPLES)
    return KINDS[request.param]


@pytest.fixture(scope="module")
def calls(played: Any) -> list[list[Call]]:
    """The calls of each round of a sweep, from the first to its commit."""
    of_rounds: list[list[Call]] = [[]]

    class Notes:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *arguments: of_rounds[-1].append((name, arguments))

        def publish(self, round: int) -> None:
            of_rounds.append([])

    list(played(Notes()))
    return of_rounds[:-1]


def make(tracker: Tracker, calls: Sequence[Call]) -> None:
    for name, arguments in calls:
        getattr(tracker, name)(*arguments)


def play(tracker: Tracker, of_rounds: Sequence[Sequence[Call]]) -> int:
    """Whole rounds, published; the last one's number."""
    round = 0
    for of_round in of_rounds:
        make(tracker, of_round)
        round = of_round[-1][1][0]
        tracker.publish(round)
    return round


def a_sweep(folder: Path, round: int = 0) -> TrackedSweep:
    return TrackedSweep(folder, "digits-mlp", "ab" * 16, round)


def expected(of_rounds: Sequence[Sequence[Call]]) -> Remembered:
    found = Remembered([], [])
    for name, (noted, *_) in (call for of_round in of_rounds for call in of_round):
        if name == "append":
            for report in noted:
                first = report.step - len(report.traces[LOSS]) + 1
                losses = [(report.id.of, first + k, loss) for k, loss in enumerate(report.traces[LOSS])]
                found.losses.extend(point for point in losses if math.isfinite(point[2]))
        elif name == "close":
            found.ends.append((noted.trial, noted.state))
    return found


def assert_remembered(found: Remembered, expected: Remembered, *, all_losses: bool) -> None:
    assert sorted(found.ends) == sorted(expected.ends)
    assert len(set(found.losses)) == len(found.losses)
    assert set(found.losses) <= set(expected.losses)
    assert {(id, step) for id, step, _ in found.losses if step == 1} == {(id, 1) for id, _, _ in expected.losses}
    assert not all_losses or len(found.losses) == len(expected.losses)


def test_everything_is_remembered_once(kind: Kind, calls: list[list[Call]], tmp_path: Path) -> None:
    tracker = trackers.start(a_sweep(tmp_path), kind.build(tmp_path))
    tracker.introduce(TrackedStudy("cosine", "cosine", "valid/loss", "minimize", ("peak_lr",)))
    last = play(tracker, calls)
    (tmp_path / "table.json").write_text('{"columns": ["rank"], "data": [["1"]]}')
    tracker.tag(TrialId("cosine", 0), {"mine": "yes"})
    tracker.describe("cosine", Summary({"n": 1}, {"sweep.finished": "true"}, {"best": 0.5}, note="# Answer"))
    tracker.artifact("cosine", tmp_path / "table.json", table=True)
    tracker.commit(last)
    tracker.publish(last)
    assert tracker.finish() == 0
    assert_remembered(kind.read(a_sweep(tmp_path)), expected(calls), all_losses=kind.read is not of_mlflow)


def test_a_round_that_the_journal_does_not_know_is_dropped(kind: Kind, calls: list[list[Call]], tmp_path: Path) -> None:
    """Killed between the commit of a round and the journal's, and in the next command once more, in mid-round."""
    for first, last in ((0, 12), (12, 20)):
        beside = kind.build(tmp_path)
        killed = trackers.start(a_sweep(tmp_path, first), beside)
        play(killed, calls[first:last])
        make(killed, calls[last])
        if last == 20:
            make(killed, calls[last + 1][:-1])
        if isinstance(beside, MLflow):  # its sender goes when the sweep dies; here the process lives on
            beside.finish()
    tracker = trackers.start(a_sweep(tmp_path, 20), kind.build(tmp_path))
    play(tracker, calls[20:])
    assert tracker.finish() == 0
    assert_remembered(kind.read(a_sweep(tmp_path)), expected(calls), all_losses=kind.read is not of_mlflow)


def test_a_trainer_may_use_its_memory_again(
    kind: Kind, a_job: Callable[..., Job], a_report: Callable[..., Report], tmp_path: Path
) -> None:
    tracker = trackers.start(a_sweep(tmp_path), kind.build(tmp_path))
    job, loss = a_job("cosine", 0), np.ones(20)
    tracker.open([job])
    tracker.append([Report(job.id, 20, {LOSS: loss, "lr/group0": job.lr_S[:20]}, {"valid/loss": 1.0}, 0.0)])
    loss[:] = 7
    tracker.commit(1)
    tracker.publish(1)
    assert tracker.finish() == 0
    assert {value for _, _, value in kind.read(a_sweep(tmp_path)).losses} == {1.0}
