"""What tracking costs: our spool and sender beside `client.log_metric`, in one interleaved run.

    python benchmarks/tracking.py [--repeats 5] [--away 10]

Figures: points/s into MLflow on SQLite and over http; microseconds a point and the longest call in the training loop
while the server is away; CPU of all processes for a step; milliseconds of a whole trial.
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
from sweeper.types import Ending, Floats, Job, JobId, Report, TrackedSweep, Tracker, TrialId

POINTS = 320
PEER_POINTS = 100  # a turn
OPEN_TRIALS = 8
STEP_SECONDS = 0.003


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--away", type=float, default=10.0, help="seconds for which the server is stopped")
    asked = parser.parse_args()
    os.environ.update(sender.ENVIRONMENT)
    from sweeper.tracking.mlflow.client import make_database

    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_database(folder / "mlflow.db")
        make_database(folder / "served" / "mlflow.db")
        with served(folder / "served" / "mlflow.db") as (address, process):
            rates(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'theirs.db'}", "SQLite", asked.repeats)
            rates(address, address, "http to SQLite", asked.repeats)
            whole_trials(f"sqlite:///{folder / 'mlflow.db'}", asked.repeats)
            ranks_of_a_study(f"sqlite:///{folder / 'mlflow.db'}")
            in_the_loop(folder / "away", address, process, asked.away)
            cpu_of_a_step(folder / "cpu", f"sqlite:///{folder / 'mlflow.db'}")


@contextmanager
def served(database: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = view.free_port(5500)
    base = f"http://{view.HOST}:{port}"
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            view._command(f"sqlite:///{database}", database, port),
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            view._wait_for(base, process, said)
            yield base, process
        finally:
            view._end(process)


# --- into MLflow ------------------------------------------------------------------------------------


def new_store(uri: str) -> Any:
    from sweeper.tracking.mlflow.client import Store

    id = uuid.uuid4().hex
    return Store(Destination(uri, id, id))


def rows_of(number: int, points: int) -> Rows:
    key, t = RunKey("cosine", number), time.time_ns() // 1_000_000
    identity = {"sweep.study": "cosine", "trial.number": str(number)}
    metrics = [Metric(f"m{k % 3}", float(k), t, k // 3) for k in range(points)]
    return Rows(key, f"cosine-{number:03d}", t, identity, metrics=metrics)


def rates(uri: str, their_uri: str, name: str, repeats: int) -> None:
    """Points/s of our rows and, in turns, of one call a point on a store as MLflow makes it."""
    from mlflow.tracking import MlflowClient

    store, client, ours, theirs = new_store(uri), MlflowClient(their_uri), [], []
    run_id = client.create_run(client.create_experiment(uuid.uuid4().hex)).info.run_id
    for number in range(repeats):
        rows = rows_of(number, 5000)
        begun = time.perf_counter()
        store.write(rows, Path())
        ours.append(len(rows.metrics) / (time.perf_counter() - begun))
        begun = time.perf_counter()
        for k in range(PEER_POINTS):
            client.log_metric(run_id, "theirs", float(k), step=number * PEER_POINTS + k)
        theirs.append(PEER_POINTS / (time.perf_counter() - begun))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    print(f"{name:15s} client.log_metric {slow:7.0f} points/s, sender {fast:7.0f} points/s: {fast / slow:.0f}x")


def whole_trials(uri: str, repeats: int) -> None:
    """A trial as it is sent, and one whose three traces all have POINTS points."""
    store, points = new_store(uri), 0
    thinned: list[float] = []
    full: list[float] = []
    for number in range(3 * repeats):
        for times, rows in ((thinned, translated(number)), (full, translated(number + 10_000))):
            if times is full:
                rows.metrics = rows_of(0, 3 * POINTS).metrics
            begun = time.perf_counter()
            store.write(rows, Path())
            times.append(1e3 * (time.perf_counter() - begun))
        points = len(translated(number).metrics)
    print(
        f"whole trial     {statistics.median(full):.0f} ms at 3 x {POINTS} points, "
        f"{statistics.median(thinned):.0f} ms as sent ({points} points of a run of 600 updates)"
    )


def translated(number: int) -> Rows:
    job = job_of(number, 600, 20)
    lines = [events.open_line([job], 0), *(events.report_line(report, 0) for report in reports_of(job))]
    lines.append(events.close_line(Ending(TrialId("cosine", number), "complete", 600, 0.5), 0))
    translation = Translation()
    translation.add_events(json.loads(line) for line in lines)
    return next(rows for rows in translation.pop_rows() if rows.key.trial == number)


def ranks_of_a_study(uri: str, trials: int = 50) -> None:
    """What the tag `trial.rank` adds to a trial, sent one by one (the most rewriting) and in turns."""
    for a_turn in (1, 8):
        stores = {ranked: (new_store(uri), Translation()) for ranked in (False, True)}
        seconds, calls = dict.fromkeys(stores, 0.0), dict.fromkeys(stores, 0)
        values = np.random.default_rng(0).random(trials)
        for first in range(0, trials, a_turn):
            for ranked, (store, translation) in stores.items():
                lines = [events.describe_line("cosine", {}, {events.DIRECTION: "minimize"}, {}, 0)] if ranked else []
                for number in range(first, min(first + a_turn, trials)):
                    job = job_of(number, 600, 20)
                    lines += [
                        events.open_line([job], 0),
                        *(events.report_line(report, 0) for report in reports_of(job)),
                    ]
                    ending = Ending(TrialId("cosine", number), "complete", 600, float(values[number]))
                    lines.append(events.close_line(ending, 0))
                begun = time.perf_counter()
                translation.add_events(json.loads(line) for line in lines)
                for rows in translation.pop_rows():
                    store.write(rows, Path())
                    calls[ranked] += 1
                seconds[ranked] += time.perf_counter() - begun
        ms, more = (1e3 * (seconds[True] - seconds[False]) / trials, (calls[True] - calls[False]) / trials)
        print(
            f"ranks           {ms:+.1f} ms and {more:+.2f} calls a trial ({1e3 * seconds[False] / trials:.1f} ms "
            f"without), {a_turn} trials a turn, {trials} in all"
        )


# --- in the loop ------------------------------------------------------------------------------------


def job_of(number: int, steps: int, reports: int) -> Job:
    t = np.arange(steps)
    lr_S: Floats = 0.1 * 0.5 * (1 + np.cos(np.pi * t / steps))
    at = tuple(round((k + 1) * steps / reports) for k in range(reports))
    params = dict.fromkeys(("peak_lr", "warmup", "decay", "cycle", "a", "b", "c", "d", "e", "f"), 0.1)
    return Job(JobId("cosine", number, 0), "cosine", params, number, lr_S, at)


def reports_of(job: Job) -> Iterator[Report]:
    rng, begin = np.random.default_rng(job.seed), 0
    for step in job.report_steps:
        traces = {"train/loss": rng.random(step - begin), "lr/group0": job.lr_S[begin:step]}
        metrics = {"valid/loss": float(rng.random()), "valid/accuracy": 0.5}
        yield Report(job.id, step, traces, metrics, 0.1, "complete" if step == job.steps else "running")
        begin = step


class Timed:
    """Seconds of every call, by what it does: "note" in memory, "commit" to disk, and a bare write of one block."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"note": [], "commit": [], "bare fsync": []}

    def __call__(self, kind: str, call: Callable[..., Any], *arguments: Any) -> None:
        begun = time.perf_counter()
        call(*arguments)
        self.seconds[kind].append(time.perf_counter() - begun)

    def total(self, *kinds: str) -> float:
        return sum(sum(self.seconds[kind]) for kind in kinds)


def sweep(tracker: Tracker, folder: Path, groups: int, timed: Timed, step_seconds: float = 0.0) -> int:
    """A sweep that trains nothing, OPEN_TRIALS trials side by side; how many points were noted."""
    round = points = 0
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for group in range(groups):
        jobs = [job_of(group * OPEN_TRIALS + k, 1000, 20) for k in range(OPEN_TRIALS)]
        for job in jobs:
            timed("note", tracker.open, [job])
        for reports in zip(*(reports_of(job) for job in jobs), strict=True):
            time.sleep(step_seconds * OPEN_TRIALS * len(reports[0].traces["train/loss"]))
            timed("note", tracker.append, reports)
            points += sum(len(values) for report in reports for values in report.traces.values())
            if reports[0].state == "complete":
                for report in reports:
                    timed("note", tracker.close, Ending(report.id.of, "complete", 1000, 0.5))
            round += 1
            timed("commit", tracker.commit, round)
            timed("commit", tracker.publish, round)
            timed("bare fsync", _write_and_sync, bare)
    os.close(bare)
    return points


def _write_and_sync(file: int) -> None:
    os.write(file, b"x" * 4096)
    os.fsync(file)


def in_the_loop(folder: Path, address: str, process: subprocess.Popen[bytes], away: float) -> None:
    """Every call of the loop while the server is stopped for `away` seconds in mid-sweep."""
    timed, tracked = Timed(), TrackedSweep(folder, "away", uuid.uuid4().hex, 0)
    tracker = trackers.start(tracked, MLflow(address, flush_seconds=120))
    stop = threading.Timer(5.0, os.killpg, (process.pid, signal.SIGSTOP))
    go_on = threading.Timer(5.0 + away, os.killpg, (process.pid, signal.SIGCONT))
    stop.start()
    go_on.start()
    points = sweep(tracker, folder, int((away + 6) / 0.8), timed, step_seconds=0.0001)
    go_on.join()
    left = tracker.finish()
    print(
        f"loop            {1e6 * timed.total('note') / points:.2f} us a point; server away {away:.0f} s, {left} unsent"
    )
    for kind, seconds in timed.seconds.items():
        worst, usual = 1e3 * max(seconds), 1e3 * statistics.median(seconds)
        print(f"                {kind}: median {usual:.2f} ms, longest of {len(seconds)} {worst:.1f} ms")


def cpu_of_a_step(folder: Path, uri: str) -> None:
    """CPU of the loop's calls and of the whole sender, its start apart, for each step of STEP_SECONDS."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    used, groups = [], (1, 6)
    for count in groups:
        before, timed = spent(), Timed()
        tracked = TrackedSweep(folder / str(count), f"cpu {count}", uuid.uuid4().hex, 0)
        tracker = trackers.start(tracked, MLflow(uri, flush_seconds=120))
        sweep(tracker, tracked.folder, count, timed)
        tracker.finish()
        used.append(spent() - before + timed.total("note", "commit"))
    steps = (groups[1] - groups[0]) * OPEN_TRIALS * 1000
    share = (used[1] - used[0]) / (steps * STEP_SECONDS)
    print(f"CPU             {100 * share:.1f} % of steps of {1e3 * STEP_SECONDS:.0f} ms, once {used[0]:.1f} s to begin")


if __name__ == "__main__":
    main()
