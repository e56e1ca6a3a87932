"""How long an update and a report of a sweep's trainings take here: some are trained for seconds, and dropped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import median

from sweeper.types import InputError, Job, JobId, Report, Trainer

SECONDS = 5.0  # of training, about
SLOW = 0.1  # of them: a block of updates that takes longer is made shorter
MOST_BLOCKS = 500  # of each length, of one training
CALM = 1e-3  # a trial that diverges is timed with its LRs times this: they do not change its speed


@dataclass(frozen=True)
class Pace:
    """Seconds of one training while `at_once` of them share the trainer: an update, a report with its evaluations.

    interval: from one report to the next, `updates` updates and the report, measured as a whole unless updates are
    slow. blocks: how many of them were timed. metrics: what a report evaluates.
    """

    update: float
    report: float
    interval: float
    updates: int
    at_once: int
    blocks: int
    metrics: tuple[str, ...]


def measure_pace(trainer: Trainer, jobs: Sequence[Job], *, at_once: int, seconds: float = SECONDS) -> Pace:
    """Train the jobs in batches of `at_once`, each for a while, until the seconds are over or all had their turn.

    Blocks of one update and blocks from report to report take turns: what they differ by is the updates'. Where there
    is no time for both, all is counted as updates, which is too much. Raises InputError where a training fails, as the
    sweep's first trial would.
    """
    began = time.monotonic()
    steps, updates = jobs[0].steps, max(1, jobs[0].steps // len(jobs[0].report_steps))
    batches = [jobs[first : first + at_once] for first in range(0, len(jobs) - at_once + 1, at_once)]
    warm = _time_blocks(trainer, batches[0], [1, 1, 1], began + seconds)
    one = min((block.seconds for block in warm[1:]), default=warm[0].seconds)  # the first one builds the models
    size = max(1, min(updates, max(2, int(SLOW * seconds / one)), steps - 3))
    pattern = [1, *[size, 1] * max(1, min(MOST_BLOCKS, (steps - 1) // (size + 1)))]
    timed: list[_Block] = []
    for turn, batch in enumerate(batches, start=1):
        if time.monotonic() > began + seconds:
            break
        timed += _time_blocks(trainer, batch, pattern, began + seconds * turn / len(batches))[1:]
    ones, blocks = ([block.seconds for block in timed if block.updates == count] for count in (1, size))
    short = median(ones or [one]) / at_once
    whole = median(blocks or [size * one]) / at_once
    update = short if size == 1 else max(0.0, whole - short) / (size - 1)
    report = max(0.0, short - update)
    interval = whole if size == updates else report + updates * update
    return Pace(update, report, interval, updates, at_once, len(blocks), tuple(warm[-1].metrics))


@dataclass(frozen=True)
class _Block:
    """Updates of a batch of trainings up to a report, and how long all of them took."""

    updates: int
    seconds: float
    metrics: Sequence[str]


def _time_blocks(
    trainer: Trainer, batch: Sequence[Job], pattern: Sequence[int], until: float, *, calm: bool = False
) -> list[_Block]:
    """Train a batch in blocks of so many updates until the time is over; three blocks at least.

    One that diverges is trained again with LRs so low that it does not.
    """
    jobs = [_with_reports(job, place, pattern) for place, job in enumerate(batch)]
    blocks: list[_Block] = []
    trainer.start(jobs)
    reports: list[Report] = []
    for updates in pattern:
        began = time.perf_counter()
        reports = list(trainer.advance([job.id for job in jobs]))
        took = time.perf_counter() - began
        _check_reports(reports)
        if any(report.state == "diverged" for report in reports):
            break
        blocks.append(_Block(updates, took, list(reports[0].metrics)))
        if reports[0].state == "complete" or (time.monotonic() > until and len(blocks) >= 3):
            break
    for job in jobs:
        trainer.stop(job.id)
    if calm or all(report.state != "diverged" for report in reports):
        return blocks
    return _time_blocks(trainer, [replace(job, lr_S=CALM * job.lr_S) for job in batch], pattern, until, calm=True)


def _with_reports(job: Job, place: int, pattern: Sequence[int]) -> Job:
    """The job, with reports after blocks of so many updates and at its end."""
    report_steps = (*(end for end in accumulate(pattern) if end < job.steps), job.steps)
    return replace(job, id=JobId("timed", place, job.id.member), report_steps=report_steps)


def _check_reports(reports: Sequence[Report]) -> None:
    failed = next((report for report in reports if report.state == "failed"), None)
    if failed is not None:
        raise InputError("model", None, f"a trial fails ({failed.reason})", "Mend that; a sweep could not be trained")
