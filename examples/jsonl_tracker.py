"""A custom tracker that writes JSON lines: each training is a run with log(values, step) and a summary, as in W&B.

    PYTHONPATH=examples python -m sweeper \\
        tracking._target_=jsonl_tracker.JsonLines tracking.path=runs.jsonl

Replace `_log` with the calls of your tracker. The same command resumes a sweep that was killed. Rounds that were not
committed are then trained again, so `start` drops their lines.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sweeper.tracking.clock import first_step
from sweeper.types import ConfiguredTracker, Ending, Job, JobId, Report, Summary, TrackedSweep, TrialId


class JsonLines(ConfiguredTracker):
    """Writes runs to a file of JSON lines.

    Args:
        path: The file, relative to the sweep's folder or absolute.
    """

    def __init__(self, path: str = "runs.jsonl") -> None:
        self._name, self._lines = path, list[dict[str, Any]]()

    def start(self, sweep: TrackedSweep) -> None:
        self._path = sweep.folder / self._name
        before = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        whole = [line for line in before if line.endswith("\n")]  # after a kill the last line may be incomplete
        new = self._path.with_suffix(".new")
        new.write_text("".join(line for line in whole if json.loads(line)["round"] <= sweep.round))
        new.replace(self._path)

    def open(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._log(job.id, config={"family": job.family, "seed": job.seed, **job.params, **job.hparams})

    def append(self, reports: Sequence[Report]) -> None:
        for report in reports:
            at: dict[int, dict[str, float]] = defaultdict(dict)
            for name, values in report.traces.items():
                first = report.step - len(values) + first_step(name)  # an LR is at the step before its update's loss
                for step, value in enumerate(values, start=first):
                    at[step][name] = float(value)
            at[report.step].update(report.metrics)
            for step in sorted(at):
                self._log(report.id, step=step, **at[step])

    def close(self, ending: Ending) -> None:
        self._log(ending.trial, summary={"state": ending.state, "objective": ending.value, **ending.measures})

    def describe(self, study: str, summary: Summary) -> None:
        self._log(study, summary={**summary.metrics, "note": summary.note})

    def commit(self, round: int) -> None:
        with self._path.open("a") as file:
            file.writelines(json.dumps({"round": round, **line}, default=str) + "\n" for line in self._lines)
            file.flush()
            os.fsync(file.fileno())
        self._lines.clear()

    def _log(self, run: JobId | TrialId | str, **values: Any) -> None:
        finite = {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}
        self._lines.append({"run": run if isinstance(run, str) else ":".join(map(str, run)), **finite})
