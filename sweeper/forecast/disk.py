"""The disk space of a sweep, from the number and length of its trials.

It is an upper limit, because pruned and diverged trials end earlier. Not counted are checkpoint/, which holds the open
trials' models while the sweep runs, and the fixed size of MLflow's database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sweeper.tracking.mlflow.thinning import MOST_POINTS, indices_by_shape, indices_by_stride
from sweeper.types import Job

# Bytes, measured on stored sweeps: docs/decisions/0015-disk.md.
VALUE = 36  # of a trace at an update, in the spool, in Parquet and in MLflow's copy of that
REPORT = 300  # of each member in the spool, and of the trial in the journal
CLOCK = 4  # of each earlier report, which a report in the journal repeats
TRIAL = 2500  # in spool, journal and tables, without its reports
MLFLOW_POINT, MLFLOW_RUN = 272, 8200
FIGURES, STUDY_FIGURE = 370_000, 140_000  # of the sweep; one more for each study
END_POINTS = 14  # metrics that a trial logs once


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


def disk_space(tracked: TrackedTrials, *, trials: int, studies: int, is_sent: bool) -> int:
    """Return the bytes of a whole sweep, in its folder and in MLflow.

    Args:
        tracked: What is tracked of each trial.
        trials: Number of trials in all studies.
        studies: Number of studies.
        is_sent: Whether it is sent to MLflow.
    """
    job, reports = tracked.jobs[0], len(tracked.jobs[0].report_steps)
    dense = fmean(2 if job.momentum_S is None else 3 for job in tracked.jobs) * job.steps
    gaps = _measured_values(job) if tracked.norms else 0
    trial: float = TRIAL + reports * ((tracked.members + 1) * REPORT + CLOCK * reports)
    trial += tracked.members * (dense + gaps) * VALUE
    figures = FIGURES + studies * STUDY_FIGURE
    if is_sent:
        trial += MLFLOW_RUN + points_per_trial(tracked) * MLFLOW_POINT
        figures += studies * (FIGURES + STUDY_FIGURE)  # every study's run has the figures of the sweep
    return round(trials * trial + figures)


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
