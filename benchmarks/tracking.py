"""Measure what tracking costs: our spool and sender compared with `client.log_metric`, in one interleaved run.

    python benchmarks/tracking.py [--repeats 5] [--away 10]

It prints points per second into MLflow on SQLite and over HTTP, milliseconds per whole trial, microseconds per point
and the longest call in the training loop while the server is stopped, and the CPU time of all processes per step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.tracking import events, trackers
from sweeper.tracking.mlflow import sender, view
from sweeper.tracking.mlflow.destination import Destination
from sweeper.tracking.mlflow.rows import Metric, Rows, RunKey, Translation
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.types import Ending, Floats, Job, JobId, Report, Summary, TrackedSweep, Tracker, TrialId

POINTS = 320
PEER_POINTS = 100  # per repeat
OPEN_TRIALS = 8
STEP_SECONDS = 0.003


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--away", type=float, default=10.0, help="seconds during which the server is stopped")
    args = parser.parse_args()
    os.environ.update(sender.ENVIRONMENT)
    from sweeper.tracking.mlflow.client import make_database

    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_database(folder / "mlflow.db")
        make_database(folder / "served" / "mlflow.db")
        with serve_mlflow(folder / "served" / "mlflow.db") as (address, process):
            measure_rates(
                f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'theirs.db'}", "SQLite", args.repeats
            )
            measure_rates(address, address, "http to SQLite", args.repeats)
            measure_whole_trials(f"sqlite:///{folder / 'mlflow.db'}", args.repeats)
            measure_places(f"sqlite:///{folder / 'mlflow.db'}")
            measure_loop(folder / "away", address, process, args.away)
            measure_cpu(folder / "cpu", f"sqlite:///{folder / 'mlflow.db'}")


@contextmanager
def serve_mlflow(database: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run an MLflow server on the database and yield its address and its process."""
    port = view.free_port(5500)
    base = f"http://{view.HOST}:{port}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            view._command(f"sqlite:///{database}", database, port),
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            view._wait_for(base, process, output)
            yield base, process
        finally:
            view._end(process)


# --- into MLflow ------------------------------------------------------------------------------------


def new_store(uri: str) -> Any:
    """Return a store that writes to a new experiment."""
    from sweeper.tracking.mlflow.client import Store

    id = uuid.uuid4().hex
    return Store(Destination(uri, id, id))


def rows_of(number: int, points: int) -> Rows:
    """Return the rows of a trial with that many points, in three metrics."""
    key, t = RunKey("cosine", number), time.time_ns() // 1_000_000
    identity = {"sweep.study": "cosine", "trial.number": str(number)}
    metrics = [Metric(f"m{k % 3}", float(k), t, k // 3) for k in range(points)]
    return Rows(key, f"cosine-{number:03d}", t, identity, metrics=metrics)


def measure_rates(uri: str, their_uri: str, name: str, repeats: int) -> None:
    """Print points per second of our rows and of one `log_metric` per point, interleaved."""
    from mlflow.tracking import MlflowClient

    store, client, ours, theirs = new_store(uri), MlflowClient(their_uri), [], []
    run_id = client.create_run(client.create_experiment(uuid.uuid4().hex)).info.run_id
    for number in range(repeats):
        rows = rows_of(number, 5000)
        start = time.perf_counter()
        store.write(rows, Path())
        ours.append(len(rows.metrics) / (time.perf_counter() - start))
        start = time.perf_counter()
        for k in range(PEER_POINTS):
            client.log_metric(run_id, "theirs", float(k), step=number * PEER_POINTS + k)
        theirs.append(PEER_POINTS / (time.perf_counter() - start))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    print(f"{name:15s} client.log_metric {slow:7.0f} points/s, sender {fast:7.0f} points/s: {fast / slow:.0f}x")


def measure_whole_trials(uri: str, repeats: int) -> None:
    """Print milliseconds of a trial as it is sent, and of one whose three traces all have POINTS points."""
    store, points = new_store(uri), 0
    thinned: list[float] = []
    full: list[float] = []
    for number in range(3 * repeats):
        for times, rows in ((thinned, build_rows(number)), (full, build_rows(number + 10_000))):
            if times is full:
                rows.metrics = rows_of(0, 3 * POINTS).metrics
            start = time.perf_counter()
            store.write(rows, Path())
            times.append(1e3 * (time.perf_counter() - start))
        points = len(build_rows(number).metrics)
    print(
        f"whole trial     {statistics.median(full):.0f} ms at 3 x {POINTS} points, "
        f"{statistics.median(thinned):.0f} ms as sent ({points} points of a run of 600 updates)"
    )


def build_rows(number: int) -> Rows:
    """Return the rows of a whole trial of 600 updates, as the sender makes them."""
    job = job_of(number, 600, 20)
    lines = [events.open_line([job], 0), *(events.report_line(report, 0) for report in reports_of(job))]
    lines.append(events.close_line(Ending(TrialId("cosine", number), "complete", 600, 0.5), 0))
    translation = Translation()
    translation.add_events(json.loads(line) for line in lines)
    return next(rows for rows in translation.pop_rows() if rows.key.trial == number)


def measure_places(uri: str, trials: int = 50) -> None:
    """Print what the tag `family.place` adds to a trial, sent one by one (the most rewriting) and eight at a time."""
    for per_turn in (1, 8):
        stores = {placed: (new_store(uri), Translation()) for placed in (False, True)}
        seconds, calls = dict.fromkeys(stores, 0.0), dict.fromkeys(stores, 0)
        values = np.random.default_rng(0).random(trials)
        for first in range(0, trials, per_turn):
            for placed, (store, translation) in stores.items():
                direction = Summary(tags={events.DIRECTION: "minimize"})
                lines = [events.describe_line("cosine", direction, 0)] if placed else []
                for number in range(first, min(first + per_turn, trials)):
                    job = job_of(number, 600, 20)
                    lines += [
                        events.open_line([job], 0),
                        *(events.report_line(report, 0) for report in reports_of(job)),
                    ]
                    ending = Ending(TrialId("cosine", number), "complete", 600, float(values[number]))
                    lines.append(events.close_line(ending, 0))
                start = time.perf_counter()
                translation.add_events(json.loads(line) for line in lines)
                for rows in translation.pop_rows():
                    store.write(rows, Path())
                    calls[placed] += 1
                seconds[placed] += time.perf_counter() - start
        ms, more = (1e3 * (seconds[True] - seconds[False]) / trials, (calls[True] - calls[False]) / trials)
        print(
            f"places          {ms:+.1f} ms and {more:+.2f} calls per trial ({1e3 * seconds[False] / trials:.1f} ms "
            f"without), {per_turn} trials at a time, {trials} in all"
        )


# --- in the loop ------------------------------------------------------------------------------------


def job_of(number: int, steps: int, reports: int) -> Job:
    t = np.arange(steps)
    lr_S: Floats = 0.1 * 0.5 * (1 + np.cos(np.pi * t / steps))
    at = tuple(round((k + 1) * steps / reports) for k in range(reports))
    params = dict.fromkeys(("peak_lr", "warmup", "decay", "cycle", "a", "b", "c", "d", "e", "f"), 0.1)
    return Job(JobId("cosine", number, 0), "cosine", params, number, lr_S, at)


def reports_of(job: Job) -> Iterator[Report]:
    rng, previous = np.random.default_rng(job.seed), 0
    for step in job.report_steps:
        traces = {"train/loss": rng.random(step - previous), "lr/group0": job.lr_S[previous:step]}
        metrics = {"valid/loss": float(rng.random()), "valid/accuracy": 0.5}
        yield Report(job.id, step, traces, metrics, 0.1, "complete" if step == job.steps else "running")
        previous = step


class Timer:
    """Times calls by kind: "note" in memory, "commit" to disk, and "bare fsync", a write of one block.

    Attributes:
        seconds: Seconds of each call, by kind.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"note": [], "commit": [], "bare fsync": []}

    def __call__(self, kind: str, call: Callable[..., Any], *arguments: Any) -> None:
        start = time.perf_counter()
        call(*arguments)
        self.seconds[kind].append(time.perf_counter() - start)

    def total(self, *kinds: str) -> float:
        return sum(sum(self.seconds[kind]) for kind in kinds)


def run_sweep(tracker: Tracker, folder: Path, groups: int, timer: Timer, step_seconds: float = 0.0) -> int:
    """Run a sweep that trains nothing, with OPEN_TRIALS trials side by side, and return the number of points."""
    round = points = 0
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for group in range(groups):
        jobs = [job_of(group * OPEN_TRIALS + k, 1000, 20) for k in range(OPEN_TRIALS)]
        for job in jobs:
            timer("note", tracker.open, [job])
        for reports in zip(*(reports_of(job) for job in jobs), strict=True):
            time.sleep(step_seconds * OPEN_TRIALS * len(reports[0].traces["train/loss"]))
            timer("note", tracker.append, reports)
            points += sum(len(values) for report in reports for values in report.traces.values())
            if reports[0].state == "complete":
                for report in reports:
                    timer("note", tracker.close, Ending(report.id.of, "complete", 1000, 0.5))
            round += 1
            timer("commit", tracker.commit, round)
            timer("commit", tracker.publish, round)
            timer("bare fsync", _write_and_sync, bare)
    os.close(bare)
    return points


def _write_and_sync(file: int) -> None:
    os.write(file, b"x" * 4096)
    os.fsync(file)


def measure_loop(folder: Path, address: str, process: subprocess.Popen[bytes], away: float) -> None:
    """Print the times of the loop's calls while the server is stopped for `away` seconds in mid-sweep."""
    timer, tracked_sweep = Timer(), TrackedSweep(folder, "away", uuid.uuid4().hex, 0)
    tracker = trackers.start(tracked_sweep, MLflow(address, flush_seconds=120))
    stop = threading.Timer(5.0, os.killpg, (process.pid, signal.SIGSTOP))
    resume = threading.Timer(5.0 + away, os.killpg, (process.pid, signal.SIGCONT))
    stop.start()
    resume.start()
    points = run_sweep(tracker, folder, int((away + 6) / 0.8), timer, step_seconds=0.0001)
    resume.join()
    unsent = tracker.finish()
    print(
        f"loop            {1e6 * timer.total('note') / points:.2f} us per point; "
        f"server away {away:.0f} s, {unsent} unsent"
    )
    for kind, seconds in timer.seconds.items():
        worst, usual = 1e3 * max(seconds), 1e3 * statistics.median(seconds)
        print(f"                {kind}: median {usual:.2f} ms, longest of {len(seconds)} {worst:.1f} ms")


def measure_cpu(folder: Path, uri: str) -> None:
    """Print the CPU time of the loop's calls and of the sender per step of STEP_SECONDS, without the sender's start."""

    def child_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    used, groups = [], (1, 6)
    for count in groups:
        before, timer = child_seconds(), Timer()
        tracked_sweep = TrackedSweep(folder / str(count), f"cpu {count}", uuid.uuid4().hex, 0)
        tracker = trackers.start(tracked_sweep, MLflow(uri, flush_seconds=120))
        run_sweep(tracker, tracked_sweep.folder, count, timer)
        tracker.finish()
        used.append(child_seconds() - before + timer.total("note", "commit"))
    steps = (groups[1] - groups[0]) * OPEN_TRIALS * 1000
    share = (used[1] - used[0]) / (steps * STEP_SECONDS)
    print(
        f"CPU             {100 * share:.1f} % of steps of {1e3 * STEP_SECONDS:.0f} ms, "
        f"plus {used[0]:.1f} s at the start"
    )


if __name__ == "__main__":
    main()
