"""How much disk a sweep takes, from the numbers of its trials; bytes as measured on stored sweeps.

At most, because pruned and diverged trials end earlier. Not counted: checkpoint/, which holds the open trials' models
while the sweep runs, and what MLflow's database needs to be made, once for all sweeps in a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sweeper.tracking.mlflow.thinning import MOST_POINTS, indices_by_shape, indices_by_stride
from sweeper.types import Job

# Measured on sweeps of 19 and 161 trials, MLflow 3.17 on SQLite, Optuna 5.0; benchmarks/RESULTS.md.
SPOOL_VALUE = 32 / 3  # float64 in base64
SPOOL_MEASURED = 16  # with its position, of a trace with gaps
SPOOL_REPORT, SPOOL_TRIAL = 300, 800  # bytes of a line around its values
JOURNAL_REPORT, JOURNAL_CLOCK, JOURNAL_TRIAL = 284, 4, 1400  # clock: for each report that came before
PARQUET_VALUE, PARQUET_FILE = 7, 6000  # compressed; the number of the update is almost nothing
MLFLOW_POINT, MLFLOW_RUN = 272, 8200
PICTURES, PICTURE, MOST_PICTURES = 370_000, 140_000, 9  # of the sweep; of one study
TABLE_ROW = 240  # of trials.csv
END_POINTS = 14  # metrics that a trial has once


@dataclass(frozen=True)
class Disk:
    """Bytes by where they are: the sweep's folder and MLflow's database and artifacts."""

    spool: int
    journal: int
    traces: int
    mlflow: int
    files: int

    @property
    def total(self) -> int:
        return self.spool + self.journal + self.traces + self.mlflow + self.files


@dataclass(frozen=True)
class Tracked:
    """What is tracked of each trial of a sweep.

    Attributes:
        jobs: Some of the sweep's own, first members.
        members: Of a trial.
        metrics: How many a report evaluates.
        norms: Whether reports have the traces of sweeper.training.norms.
    """

    jobs: Sequence[Job]
    members: int
    metrics: int
    norms: bool


def disk(tracked: Tracked, *, trials: int, studies: int, sent: bool) -> Disk:
    """Return how much a whole sweep takes. sent: to MLflow."""
    jobs, members = tracked.jobs, tracked.members
    steps, report_steps = jobs[0].steps, jobs[0].report_steps
    reports = len(report_steps)
    dense = fmean(2 if job.momentum_S is None else 3 for job in jobs) * steps
    gaps = _measured(jobs[0]) if tracked.norms else 0
    spool_trial = SPOOL_TRIAL + SPOOL_VALUE * steps
    spool_trial += members * (reports * SPOOL_REPORT + dense * SPOOL_VALUE + gaps * SPOOL_MEASURED)
    journal_trial = JOURNAL_TRIAL + reports * (JOURNAL_REPORT + JOURNAL_CLOCK * reports)
    traces = trials * members * PARQUET_VALUE * (dense + gaps) + studies * PARQUET_FILE
    table = trials * TABLE_ROW
    points = trials * points_of_a_trial(tracked)
    own = min(studies, MOST_PICTURES) * PICTURE
    return Disk(
        spool=round(trials * spool_trial),
        journal=round(trials * journal_trial),
        traces=round(traces),
        mlflow=round(points * MLFLOW_POINT + (trials + studies) * MLFLOW_RUN) if sent else 0,
        files=round(
            PICTURES + own + table + (studies * (PICTURES + table) + own + traces if sent else 0)
        ),  # and copies
    )


def points_of_a_trial(tracked: Tracked) -> float:
    """Return how many points of its metrics MLflow has, after thinning."""
    jobs, members = tracked.jobs, tracked.members
    steps, report_steps = jobs[0].steps, jobs[0].report_steps
    lr = fmean(len(indices_by_shape(job.lr_S)) for job in jobs)
    momentum = fmean(0 if job.momentum_S is None else 2 * len(report_steps) for job in jobs)
    evaluated = min(MOST_POINTS, len(report_steps)) * tracked.metrics * (1 if members == 1 else members + 1)
    gaps = _measured(jobs[0]) if tracked.norms else 0
    return lr + momentum + len(indices_by_stride(steps, report_steps)) + gaps + evaluated + END_POINTS


def _measured(job: Job) -> int:
    """Values of its traces with gaps."""
    from sweeper.training.norms import NAMES, measured_steps

    return len(NAMES) * len(measured_steps(job.steps, job.report_steps))
