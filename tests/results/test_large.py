"""The table of a sweep of 2,000 trials: what it costs to open it."""

import subprocess
import sys

import numpy as np
import pytest

from sweeper.run import sweeping
from sweeper.types import Report

SWEEP = [
    "data=digits", "model=mlp", "model.width=4", "train.steps=100", "search.reports=20", "search.n_trials=1000",
    "search=random", "pruner=none", "schedule=[cosine,linear]", "tracking=none", "trainer=sequential",
    "trainer.workers=1", "name=large",
]  # fmt: skip
TIMES, MEGABYTES = 4.5, 400  # measured: 3.0 to 3.4 times the CPU time of a table of two trials, and 200 MB
# Runs the command and prints its seconds and kilobytes. A process counts the memory of the one that started it as its
# own until its program is loaded, so a small one starts it.
LAUNCHER = """
import os, subprocess, sys
with open("table.txt", "w") as file:
    command = [sys.executable, "-m", "sweeper", "status", sys.argv[1], "--columns", "all"]
    process = subprocess.Popen(command, stdout=file)
    _, status, usage = os.wait4(process.pid, 0)
assert status == 0
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


class Quick:
    """A trainer that computes losses from the LR instead of training."""

    def __init__(self, *_, **__):
        self.jobs, self.done = {}, {}

    def start(self, jobs):
        self.jobs |= {job.id: job for job in jobs}
        self.done |= {job.id: 0 for job in jobs}

    def advance(self, ids):
        for id in ids:
            job, start = self.jobs[id], self.done[id]
            step = self.done[id] = start + 5
            loss = 1 / step + abs(float(np.log10(job.lr_S.max())) + 1)
            traces = {"lr/group0": job.lr_S[start:step], "train/loss": np.full(5, loss)}
            yield Report(id, step, traces, {"valid/loss": loss}, 0.1, "complete" if step == job.steps else "running")

    def stop(self, id):
        del self.jobs[id]

    def restore(self, folder, jobs, last_round):
        return {}

    def save(self, folder, round): ...

    def close(self): ...


@pytest.mark.slow
def test_the_table_of_two_thousand_trials_is_printed_at_once(sweeper, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "make", Quick)
    assert sweeper(*SWEEP)[0] == 0
    assert sweeper(*SWEEP, "search.n_trials=1", "name=small")[0] == 0
    (few, _), (many, kilobytes) = (_cost(tmp_path, name) for name in ("small", "large"))
    assert "1000" in (tmp_path / "table.txt").read_text()
    assert many < TIMES * few
    assert kilobytes < MEGABYTES * 1024


def _cost(folder, name):
    """Return the processor seconds and the kilobytes that a sweep's table takes."""
    command = [sys.executable, "-c", LAUNCHER, name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return map(float, done.stdout.split())
