"""The time of an update and of a report on this machine, measured by training for some seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import median

from sweeper.types import InputError, Job, JobId, Report, Trainer

SECONDS = 5.0  # of training, approximately
SLOW = 0.1  # share of the time that a block of updates may take; longer blocks are shortened
MOST_BLOCKS = 500  # of each length, in one training
CALM = 1e-3  # factor of the LRs of a trial that diverges; they do not change its speed


@dataclass(frozen=True)
class Pace:
    """The speed of one training while `at_once` of them share the trainer.

    Attributes:
        update: Seconds of an update.
        report: Seconds of a report with its evaluations.
        interval: Seconds from one report to the next, measured as a whole unless updates are slow.
        updates: Updates from one report to the next.
        at_once: Trainings at once.
        blocks: Number of timed blocks.
        metrics: Metrics of a report.
    """

    update: float
    report: float
    interval: float
    updates: int
    at_once: int
    blocks: int
    metrics: tuple[str, ...]


def measure_pace(trainer: Trainer, jobs: Sequence[Job], *, at_once: int, seconds: float = SECONDS) -> Pace:
    """Measure the speed of jobs by training each for a short time.

    Blocks of one update alternate with blocks from report to report. The difference is the time of the updates. If
    there is no time for both, everything counts as updates, which is an upper limit.

    Args:
        trainer: The trainer.
        jobs: Jobs of the sweep.
        at_once: Jobs that train at once.
        seconds: Time to train for.

    Raises:
        InputError: If a training fails.
    """
    start = time.monotonic()
    steps, updates = jobs[0].steps, max(1, jobs[0].steps // len(jobs[0].report_steps))
    batches = [jobs[first : first + at_once] for first in range(0, len(jobs) - at_once + 1, at_once)]
    warm = _time_blocks(trainer, batches[0], [1, 1, 1], start + seconds)
    one = min((block.seconds for block in warm[1:]), default=warm[0].seconds)  # the first block builds the models
    size = max(1, min(updates, max(2, int(SLOW * seconds / one)), steps - 3))
    pattern = [1, *[size, 1] * max(1, min(MOST_BLOCKS, (steps - 1) // (size + 1)))]
    timed: list[_Block] = []
    for turn, batch in enumerate(batches, start=1):
        if time.monotonic() > start + seconds:
            break
        timed += _time_blocks(trainer, batch, pattern, start + seconds * turn / len(batches))[1:]
    ones, blocks = ([block.seconds for block in timed if block.updates == count] for count in (1, size))
    short = median(ones or [one]) / at_once
    whole = median(blocks or [size * one]) / at_once
    update = short if size == 1 else max(0.0, whole - short) / (size - 1)
    report = max(0.0, short - update)
    interval = whole if size == updates else report + updates * update
    return Pace(update, report, interval, updates, at_once, len(blocks), tuple(warm[-1].metrics))


@dataclass(frozen=True)
class _Block:
    """A number of updates of a batch of trainings, and the seconds until all of them reported."""

    updates: int
    seconds: float
    metrics: Sequence[str]


def _time_blocks(
    trainer: Trainer, batch: Sequence[Job], pattern: Sequence[int], until: float, *, calm: bool = False
) -> list[_Block]:
    """Train a batch in blocks of `pattern` updates until the time is over, but at least three blocks.

    If a job diverges, the batch is trained again with LRs that are low enough.
    """
    jobs = [_with_reports(job, place, pattern) for place, job in enumerate(batch)]
    blocks: list[_Block] = []
    trainer.start(jobs)
    reports: list[Report] = []
    for updates in pattern:
        start = time.perf_counter()
        reports = list(trainer.advance([job.id for job in jobs]))
        seconds = time.perf_counter() - start
        _check_reports(reports)
        if any(report.state == "diverged" for report in reports):
            break
        blocks.append(_Block(updates, seconds, list(reports[0].metrics)))
        if reports[0].state == "complete" or (time.monotonic() > until and len(blocks) >= 3):
            break
    for job in jobs:
        trainer.stop(job.id)
    if calm or all(report.state != "diverged" for report in reports):
        return blocks
    return _time_blocks(trainer, [replace(job, lr_S=CALM * job.lr_S) for job in batch], pattern, until, calm=True)


def _with_reports(job: Job, place: int, pattern: Sequence[int]) -> Job:
    """Return the job with reports after each block of `pattern`, and at its end."""
    report_steps = (*(end for end in accumulate(pattern) if end < job.steps), job.steps)
    return replace(job, id=JobId("timed", place, job.id.member), report_steps=report_steps)


def _check_reports(reports: Sequence[Report]) -> None:
    failed = next((report for report in reports if report.state == "failed"), None)
    if failed is not None:
        raise InputError(
            "model", None, f"a trial fails ({failed.reason})", "Fix this first; the sweep would fail the same way"
        )
