"""Measure what a trial costs besides its training, from the hundredth to the last trial of a study.

    python benchmarks/trials.py [--trials 2000] [--updates 200] [--search tpe] [--pruner median]

The loop, the study, the journal and MLflow (SQLite) are real. A stub replaces the trainer, and its time is subtracted.
Each row is a window of trials that ends at 100, 300, 1,000, 3,000, 10,000 or the last trial:

    ask          milliseconds of CPU time of an ask, median
    loop         milliseconds of CPU time per trial of everything else in the loop's thread
    background   milliseconds of CPU time per trial of the process that sends to MLflow
    memory       growth of the loop's process since the previous window, kB per trial

CPU time, because the machine may be shared. On an idle machine it is nearly equal to wall-clock time.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import psutil
import yaml

from sweeper import conf
from sweeper.importing import parse_target
from sweeper.run import loop
from sweeper.schedules import family
from sweeper.search.objective import Objective
from sweeper.search.plan import Terms
from sweeper.search.study import Studies, StudyPlan
from sweeper.tracking import trackers
from sweeper.tracking.events import EVENTS
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.types import Ending, Job, JobId, Report, TrackedStudy, TrackedSweep

CONF = Path(conf.__path__[0])
REPORTS = 20
UNTRAINED, DIVERGES_BEYOND = 2.3, 3.0
ENDS = (100, 300, 1_000, 3_000, 10_000, 30_000)
WINDOW = 0.3  # fraction of the trials so far: 70 to 100, 700 to 1,000, ...


class Snapshot(NamedTuple):
    """What was used after a number of trials.

    Attributes:
        ended: Trials that ended.
        thread: CPU seconds of the loop's thread.
        stub: CPU seconds of the stub trainer, in that thread.
        asks: CPU seconds of asks, in that thread.
        memory: Bytes of the process.
    """

    ended: int
    thread: float
    stub: float
    asks: float
    memory: int


class StubTrainer:
    """A trainer that trains nothing. The loss is a function of peak LR and progress; above an LR, trials diverge."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.reports: dict[JobId, int] = {}
        self.seconds = 0.0

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.jobs[job.id], self.reports[job.id] = job, 0

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        for id in ids:
            start = time.thread_time()
            report = self._report(self.jobs[id])
            self.seconds += time.thread_time() - start
            yield report

    def stop(self, id: JobId) -> None:
        del self.jobs[id], self.reports[id]

    def save(self, folder: Path, round: int) -> None: ...

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        return {}

    def _report(self, job: Job) -> Report:
        index = self.reports[job.id]
        self.reports[job.id] += 1
        first, end = (0, *job.report_steps)[index], job.report_steps[index]
        peak = float(job.lr_S.max())
        noise_K = np.random.default_rng((job.seed, job.id.trial, index)).normal(0, 0.02, end - first)
        level = abs(np.log10(peak / 0.2)) / 4 + 0.3 * np.exp(-3 * end / job.steps)
        measured_K = np.where(np.arange(first, end) % max(1, job.steps // 100) == 0, 1.0, np.nan)
        traces = {"train/loss": level + noise_K, "lr/group0": job.lr_S[first:end]}
        norms = {"grad_norm": measured_K, "update_to_weight": measured_K}
        metrics = {"valid/loss": level + float(noise_K[0]), "valid/accuracy": 1 / (1 + level)}
        if peak > DIVERGES_BEYOND and index == 2:
            return Report(job.id, end, {**traces, **norms}, {}, 0.1, "diverged", "loss beyond the bound")
        state = "complete" if end == job.steps else "running"
        return Report(job.id, end, {**traces, **norms}, metrics, 0.1, state)


class TimedSearch:
    """A Search that measures the CPU time of each ask."""

    def __init__(self, search: Studies) -> None:
        self.search, self.asks = search, []

    def ask(self) -> tuple[Job, ...] | None:
        start = time.thread_time()
        jobs = self.search.ask()
        if jobs:
            self.asks.append(time.thread_time() - start)
        return jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.search, name)


class SnapshotView:
    """A View that takes a snapshot at the ends of the windows."""

    def __init__(self, search: TimedSearch, trainer: StubTrainer, at: set[int]) -> None:
        self.search, self.trainer, self.at = search, trainer, at
        self.ended, self.snapshots = 0, {0: self._now(0)}

    def close(self, ending: Ending) -> None:
        self.ended += 1
        if self.ended in self.at:
            self.snapshots[self.ended] = self._now(self.ended)

    def _now(self, ended: int) -> Snapshot:
        memory = psutil.Process().memory_info().rss
        return Snapshot(ended, time.thread_time(), self.trainer.seconds, sum(self.search.asks), memory)

    def open(self, jobs: Sequence[Job]) -> None: ...
    def arrived(self, report: Report) -> None: ...
    def append(self, reports: Sequence[Report]) -> None: ...
    def commit(self, round: int) -> None: ...


class Sender(threading.Thread):
    """Samples the sending process once a second: (bytes of the spool that were sent, CPU seconds)."""

    def __init__(self, spool: Path, mlflow: MLflow) -> None:
        super().__init__(daemon=True)
        self.folder, self.process = spool, psutil.Process(mlflow._sender._process.pid)
        self.samples = [(0, 0.0)]
        self.start()

    def run(self) -> None:
        import json

        while True:
            try:
                times = self.process.cpu_times()
                sent = json.loads((self.folder / "sent.json").read_text()).values()
                self.samples.append((max(int(one["offset"]) for one in sent), times.user + times.system))
            except FileNotFoundError:
                pass  # not connected yet
            except psutil.Error:
                return  # it has ended
            time.sleep(1)

    def at(self, offsets: Sequence[int]) -> list[float]:
        """Return the CPU seconds at those offsets."""
        return list(np.interp(offsets, *zip(*self.samples, strict=True)))


def read_node(group: str, name: str) -> Any:
    """Return a file of conf."""
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


def build_studies(journal: Path, trials: int, updates: int, search: str, pruner: str) -> Studies:
    """Return the studies of one family, cosine."""
    space = {
        "factor": "cosine",
        "peak_lr": {"low": 1e-3, "high": 10.0, "log": True},
        "warmup": {"choice": [0, 0.02, 0.05, 0.1, 0.2]},
        "decay": {"low": 1e-3, "high": 0.3, "log": True},
    }
    sampler = parse_target(read_node("search", search)["sampler"])
    plan = StudyPlan("cosine", family("cosine", space), sampler, parse_target(read_node("pruner", pruner)), trials)
    report_steps = tuple(round(updates * (i + 1) / REPORTS) for i in range(REPORTS))
    return Studies(journal, [plan], Terms(0, report_steps, 8, Objective(), UNTRAINED))


def ends_of_trials(events: Path) -> list[int]:
    """Return the spool's size in bytes at the end of each trial, in the order in which they ended."""
    with events.open("rb") as file:
        ends = itertools.accumulate(((len(line), line.startswith(b'{"e":"close"')) for line in file), add_line)
        return [size for size, closes in ends if closes]


def add_line(so_far: tuple[int, bool], line: tuple[int, bool]) -> tuple[int, bool]:
    """Return the size with the line added, and whether the line closes a trial."""
    return so_far[0] + line[0], line[1]


def windows(trials: int) -> list[tuple[int, int]]:
    """Return the first and the last trial of each window."""
    ends = [end for end in ENDS if end < trials] + [trials]
    return [(round((1 - WINDOW) * end), end) for end in ends]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--search", default="tpe")
    parser.add_argument("--pruner", default="median")
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}: {vars(args)}", flush=True)
    spans = windows(args.trials)
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name), time.perf_counter()
        search = TimedSearch(build_studies(folder / "journal.log", args.trials, args.updates, args.search, args.pruner))
        trainer, mlflow = StubTrainer(), MLflow(f"sqlite:///{folder / 'mlflow.db'}", flush_seconds=3600)
        tracked_sweep = TrackedSweep(folder, "trials", "trials", 0)
        tracker = trackers.start(tracked_sweep, mlflow)
        tracker.introduce(TrackedStudy("cosine", "cosine", "valid/loss", "minimize", ("peak_lr", "decay")))
        sender = Sender(tracked_sweep.spool, mlflow)
        view = SnapshotView(search, trainer, {end for span in spans for end in span})
        rooms = loop.Rooms(search, trainer, tracker, view)
        loop.run(rooms, checkpoint=folder / "checkpoint", stop=lambda: False, due=lambda: False)
        loop_seconds = time.perf_counter() - start
        unsent = tracker.finish()
        seconds = time.perf_counter() - start
        print(f"{loop_seconds:.0f} s in the loop, {seconds:.0f} s until MLflow had it; unsent: {unsent}")
        ends = [0, *ends_of_trials(tracked_sweep.spool / EVENTS)]
        print_windows(spans, search.asks, view.snapshots, dict(zip(range(len(ends)), sender.at(ends), strict=True)))


def print_windows(
    spans: Sequence[tuple[int, int]], asks: Sequence[float], at: dict[int, Snapshot], sent: dict[int, float]
) -> None:
    print(f"{'trials':>15} {'ask ms':>8} {'loop ms':>8} {'background ms':>14} {'memory kB':>10}")
    before = at[0]
    for begin, end in spans:
        first, last, count = at[begin], at[end], end - begin
        other = (last.thread - first.thread) - (last.stub - first.stub) - (last.asks - first.asks)
        background = (sent[end] - sent[begin]) / count
        memory = (last.memory - before.memory) / (end - before.ended) / 1024
        ask = median(asks[begin:end])
        figures = f"{1e3 * ask:8.1f} {1e3 * other / count:8.2f} {1e3 * background:14.1f} {memory:10.1f}"
        print(f"{begin:>7} - {end:<5} {figures}")
        before = last


if __name__ == "__main__":
    main()
