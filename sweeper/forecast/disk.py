"""The disk space of a sweep, from the number and length of its trials.

The bytes are measured on stored sweeps. The result is an upper limit, because pruned and diverged trials end earlier.
Not counted are checkpoint/, which holds the open trials' models while the sweep runs, and the fixed size of MLflow's
database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sweeper.tracking.mlflow.thinning import MOST_POINTS, indices_by_shape, indices_by_stride
from sweeper.types import Job

# Measured on sweeps of 19 and 161 trials, MLflow 3.17 on SQLite, Optuna 5.0; benchmarks/RESULTS.md.
SPOOL_VALUE = 32 / 3  # float64 in base64
SPOOL_MEASURED = 16  # a value and its position, in a trace with gaps
SPOOL_REPORT, SPOOL_TRIAL = 300, 800  # a line without its values
JOURNAL_REPORT, JOURNAL_CLOCK, JOURNAL_TRIAL = 284, 4, 1400  # clock: for each earlier report
PARQUET_VALUE, PARQUET_FILE = 7, 6000  # compressed; the column of updates takes almost nothing
MLFLOW_POINT, MLFLOW_RUN = 272, 8200
PICTURES, PICTURE, MOST_PICTURES = 370_000, 140_000, 9  # figures of the sweep; of one study; studies with figures
TABLE_ROW = 240  # of trials.csv
END_POINTS = 14  # metrics that a trial logs once


@dataclass(frozen=True)
class Disk:
    """The bytes of a sweep, by place.

    Attributes:
        spool: The spool.
        journal: The journal.
        traces: The Parquet files of the traces.
        mlflow: MLflow's database.
        files: Tables and figures, and the artifacts in MLflow.
    """

    spool: int
    journal: int
    traces: int
    mlflow: int
    files: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.spool + self.journal + self.traces + self.mlflow + self.files


@dataclass(frozen=True)
class TrackedTrials:
    """What is tracked of each trial of a sweep.

    Attributes:
        jobs: Some of the sweep's jobs, of first members.
        members: Members of a trial.
        metrics: Number of metrics in a report.
        norms: Whether reports have the traces of `sweeper.training.norms`.
    """

    jobs: Sequence[Job]
    members: int
    metrics: int
    norms: bool


def disk(tracked: TrackedTrials, *, trials: int, studies: int, is_sent: bool) -> Disk:
    """Return the disk space of a whole sweep.

    Args:
        tracked: What is tracked of each trial.
        trials: Number of trials in all studies.
        studies: Number of studies.
        is_sent: Whether it is sent to MLflow.
    """
    jobs, members = tracked.jobs, tracked.members
    steps, report_steps = jobs[0].steps, jobs[0].report_steps
    reports = len(report_steps)
    dense = fmean(2 if job.momentum_S is None else 3 for job in jobs) * steps
    gaps = _measured_values(jobs[0]) if tracked.norms else 0
    spool_trial = SPOOL_TRIAL + SPOOL_VALUE * steps
    spool_trial += members * (reports * SPOOL_REPORT + dense * SPOOL_VALUE + gaps * SPOOL_MEASURED)
    journal_trial = JOURNAL_TRIAL + reports * (JOURNAL_REPORT + JOURNAL_CLOCK * reports)
    traces = trials * members * PARQUET_VALUE * (dense + gaps) + studies * PARQUET_FILE
    table = trials * TABLE_ROW
    points = trials * points_per_trial(tracked)
    study_pictures = min(studies, MOST_PICTURES) * PICTURE
    copies = studies * (PICTURES + table) + study_pictures + traces  # MLflow stores the sweep's files in every study
    return Disk(
        spool=round(trials * spool_trial),
        journal=round(trials * journal_trial),
        traces=round(traces),
        mlflow=round(points * MLFLOW_POINT + (trials + studies) * MLFLOW_RUN) if is_sent else 0,
        files=round(PICTURES + study_pictures + table + (copies if is_sent else 0)),
    )


def points_per_trial(tracked: TrackedTrials) -> float:
    """Return the number of points that MLflow stores of a trial's metrics, after thinning."""
    jobs, members = tracked.jobs, tracked.members
    steps, report_steps = jobs[0].steps, jobs[0].report_steps
    lr = fmean(len(indices_by_shape(job.lr_S)) for job in jobs)
    momentum = fmean(0 if job.momentum_S is None else 2 * len(report_steps) for job in jobs)
    evaluated = min(MOST_POINTS, len(report_steps)) * tracked.metrics * (1 if members == 1 else members + 1)
    gaps = _measured_values(jobs[0]) if tracked.norms else 0
    return lr + momentum + len(indices_by_stride(steps, report_steps)) + gaps + evaluated + END_POINTS


def _measured_values(job: Job) -> int:
    """Return the number of values in the traces of norms, which are not measured at every update."""
    from sweeper.training.norms import NAMES, measured_steps

    return len(NAMES) * len(measured_steps(job.steps, job.report_steps))
