"""The cost of a sweep before it runs: trials, updates, time, disk, memory, and the smallest gap it could detect.

It trains for a few seconds to measure the speed, and writes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from sweeper.forecast import timing
from sweeper.forecast.disk import TrackedTrials, disk_space, points_per_trial
from sweeper.results.power import smallest_gap
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import BASELINES, DEFAULT, TUNED
from sweeper.run import trainers
from sweeper.spec.question import seeds_and_folds, settle
from sweeper.spec.sweep import SweepSpec, TrainerSpec, example
from sweeper.types import Job, Record, Trainer

if TYPE_CHECKING:
    from sweeper.search.family import FamilyStudy

TIMED_BATCHES = 4  # batches of the sweep's first trainings that are timed
USUAL_METRICS = 2  # metrics of a report, if none was trained
ENOUGH = 10  # ended trials needed to extrapolate their share of updates
# Seconds in addition to training: of a command (imports, table), of starting processes, of proposing and ending a
# trial, of committing a round, of sending a point to MLflow. benchmarks/RESULTS.md has the measurements.
COMMAND_SECONDS, PROCESSES_SECONDS, TRIAL_SECONDS, ROUND_SECONDS, POINT_SECONDS = 6.0, 5.0, 0.015, 0.02, 1e-4


@dataclass(frozen=True)
class Row:
    """A study of the plan.

    Attributes:
        family: Its family.
        study: Its name.
        trials: Trials in all.
        done: Trials that ended.
        open: Trials that started and have not ended.
        reports: Remaining reports of each trial that has not ended, the open ones first.
        updates: Remaining updates of all trials and members.
    """

    family: str
    study: str
    trials: int
    done: int
    open: int
    reports: tuple[int, ...]
    updates: int


@dataclass(frozen=True)
class Estimate:
    """Everything that `plan` prints.

    Attributes:
        name: The sweep's name.
        exists: Whether the sweep is stored already.
        rows: The studies.
        steps: Updates of a trial.
        members: Members of a trial.
        trainer: The trainer, and why it was chosen.
        processes: Processes that train.
        pace: The measured speed; None if nothing is left to train.
        training: Seconds of training if no trial ends early.
        other: Seconds of everything else.
        share: Mean share of its updates that an ended trial was trained for; None if too few have ended.
        disk: Bytes of the whole sweep, at most.
        disk_now: Bytes of its folder now.
        memory: Bytes of the open trials' models.
        comparisons: Families that are compared with the reference.
        tuned: Whether the reference is the tuned constant, else it is the best family.
        seeds: Fresh seeds of the comparison.
        spread: Standard deviation of a paired difference in units of the objective; None if unknown.
    """

    name: str
    exists: bool
    rows: tuple[Row, ...]
    steps: int
    members: int
    trainer: str
    processes: int
    pace: timing.Pace | None
    training: float
    other: float
    share: float | None
    disk: int
    disk_now: int
    memory: int
    comparisons: int
    tuned: bool
    seeds: int
    spread: float | None


@dataclass(frozen=True)
class Comparison:
    """A comparison of the winners on fresh seeds.

    Attributes:
        seeds: Number of seeds.
        spread: Standard deviation of one training's objective over seeds. None to take it from the stored sweep, if
            that has several seeds.
    """

    seeds: int = 5
    spread: float | None = None


def estimate(
    spec: SweepSpec,
    comparison: Comparison = Comparison(),
    *,
    root: Path = Path("sweeps"),
    seconds: float = timing.SECONDS,
) -> Estimate:
    """Estimate the cost of a sweep.

    Args:
        spec: The sweep.
        comparison: The comparison of winners to plan for.
        root: The folder of the sweeps.
        seconds: Time to train for.

    Raises:
        InputError: If the sweep itself would raise it, or if a training fails.
    """
    from sweeper.search.study import build_studies
    from sweeper.tracking.mlflow.tracker import MLflow

    home = settle(root, spec.name, spec.question, fresh=spec.fresh)
    stored = StoredSweep(home) if home.is_stored else None
    studies = build_studies(spec.studies, spec.terms, home.journal)
    jobs = first_jobs(studies)
    rows = tuple(_row(study, spec, stored.records if stored else []) for study in studies)
    counts = open_jobs(rows, spec.search.concurrent_trials, len(spec.partitions))
    start = time.monotonic()
    chosen = trainers.choose(spec, trainers.stored_trainer(home))
    choosing = time.monotonic() - start if stored is None else 0.0  # a new sweep does it again
    processes = len(trainers.process_devices(spec, chosen.trainer.workers))
    pace = _measure_pace(spec, chosen.trainer, jobs, max(counts), seconds) if counts else None
    left, is_sent = sum(len(row.reports) for row in rows), isinstance(spec.tracker, MLflow) and spec.tracker.is_on
    tracked = _tracked_trials(spec, jobs, pace)
    points = points_per_trial(tracked) if is_sent else 0
    families = {study.family.name for study in spec.studies}
    spread = _paired_spread(stored) if comparison.spread is None else math.sqrt(2) * comparison.spread
    return Estimate(
        name=home.name,
        exists=stored is not None,
        rows=rows,
        steps=spec.train.steps,
        members=len(spec.partitions),
        trainer=chosen.why or chosen.trainer.target.rpartition(".")[2],
        processes=processes,
        pace=pace,
        training=_training_seconds(pace, counts),
        other=choosing + (_other_seconds(left, len(counts), processes, points) if left else 0.0),
        share=_share_done(rows, stored.records, spec.train.steps) if stored else None,
        disk=disk_space(tracked, trials=sum(row.trials for row in rows), studies=len(rows), is_sent=is_sent),
        disk_now=sum(path.stat().st_size for path in home.path.rglob("*") if path.is_file()) if stored else 0,
        memory=max(counts, default=0) * _model_bytes(spec),
        comparisons=len(families - set(BASELINES)) if BASELINES[0] in families else len(families - {BASELINES[1]}) - 1,
        tuned=BASELINES[0] in families,
        seeds=comparison.seeds,
        spread=spread,
    )


def gap(estimate: Estimate, seeds: int) -> float | None:
    """Return the smallest difference that `seeds` fresh seeds detect, in standard deviations of a paired difference."""
    return smallest_gap(seeds, estimate.comparisons) if estimate.comparisons >= 1 and seeds >= 2 else None


def first_jobs(studies: Sequence[FamilyStudy]) -> list[Job]:
    """Return the jobs that a new sweep of these studies would start with, alternating between studies.

    They are proposed in memory, so nothing is written.
    """
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.InMemoryStorage()
        proposed: list[list[Job]] = []
        for study in studies:
            study.attach(storage)
            proposed.append([])
            while study.can_ask:
                proposed[-1] += study.ask()
    finally:
        optuna.logging.set_verbosity(level)
    return [job for turn in zip_longest(*proposed) for job in turn if job is not None]


def open_jobs(rows: Sequence[Row], concurrent: int, members: int) -> list[int]:
    """Return the number of jobs that each round advances if every trial reaches its end, one entry per round.

    Args:
        rows: The studies.
        concurrent: Concurrent trials of a study.
        members: Members of a trial.
    """
    counts: list[int] = []
    for row in rows:
        waiting, round = list(row.reports), 0
        running: list[int] = []
        while waiting or running:
            running += [waiting.pop(0) for _ in range(min(len(waiting), concurrent - len(running)))]
            if round == len(counts):
                counts.append(0)
            counts[round] += len(running) * members
            running = [left - 1 for left in running if left > 1]
            round += 1
    return counts


# --- pieces -----------------------------------------------------------------------------------------


def _row(study: FamilyStudy, spec: SweepSpec, records: Sequence[Record]) -> Row:
    """Return what a study has and what is left to do. A failed trial is retried once, and then counts."""
    trials = [record for record in records if record.study == study.plan.name]
    counted = [record for record in trials if record.state != "failed" or record.retry_of is not None]
    reports = len(spec.train.report_steps)
    running = [reports - len(record.intermediate) for record in trials if record.state == "running"]
    pending = max(0, study.limit - len(counted))
    left = (*running, *[reports] * pending)
    members = len(spec.partitions)
    done = [spec.train.report_steps[reports - left - 1] if left < reports else 0 for left in running]
    return Row(
        family=study.plan.family.name,
        study=study.plan.name,
        trials=max(study.limit, len(counted)),
        done=len(counted) - len(running),
        open=len(running),
        reports=left,
        updates=members * (len(left) * spec.train.steps - sum(done)),
    )


def _measure_pace(spec: SweepSpec, trainer: TrainerSpec, jobs: Sequence[Job], most: int, seconds: float) -> timing.Pace:
    """Measure the speed with as many processes as the sweep will use, because they slow each other down."""
    processes = len(trainers.process_devices(spec, trainer.workers))
    with closing(trainers.make(spec, replace(trainer, workers=1))) as alone:
        together = max(1, min(_lane_count(alone, jobs[0]) * processes, most, len(jobs)))
        some = jobs[: together * TIMED_BATCHES]
        if processes == 1:
            return timing.measure_pace(alone, some, at_once=together, seconds=seconds)
    with closing(trainers.make(spec, trainer)) as in_processes:
        return timing.measure_pace(in_processes, some, at_once=together, seconds=seconds)


def _lane_count(trainer: Trainer, job: Job) -> int:
    """Return how many jobs it trains at once. A trainer that stacks models knows that after its first job."""
    first = replace(job, report_steps=(1, job.steps))
    trainer.start([first])
    list(trainer.advance([first.id]))
    trainer.stop(first.id)
    return trainer.capacity()


def _training_seconds(pace: timing.Pace | None, counts: Sequence[int]) -> float:
    """Return the training seconds of all rounds. Each round trains its jobs in groups of `pace.at_once`."""
    return (
        0.0 if pace is None else sum(math.ceil(count / pace.at_once) for count in counts) * pace.at_once * pace.interval
    )


def _other_seconds(trials: int, rounds: int, processes: int, points: float) -> float:
    """Return the seconds of everything but training. `points` per trial are sent to MLflow, on the same cores."""
    start = PROCESSES_SECONDS if processes > 1 else 0.0
    return COMMAND_SECONDS + start + trials * (TRIAL_SECONDS + points * POINT_SECONDS) + rounds * ROUND_SECONDS


def _share_done(rows: Sequence[Row], records: Sequence[Record], steps: int) -> float | None:
    """Return the mean share of its updates that an ended trial was trained for; None if too few have ended."""
    studies = {row.study for row in rows}
    ended = [r.steps_done for r in records if r.study in studies and r.state in ("complete", "pruned", "diverged")]
    return fmean(ended) / steps if len(ended) >= ENOUGH else None


def _tracked_trials(spec: SweepSpec, jobs: Sequence[Job], pace: timing.Pace | None) -> TrackedTrials:
    return TrackedTrials(
        jobs=[job for job in jobs if job.id.member == 0],
        members=len(spec.partitions),
        metrics=len(pace.metrics) if pace else USUAL_METRICS,
        norms=spec.train.recipe.norms,
    )


def _model_bytes(spec: SweepSpec) -> int:
    """Return the bytes of weights, gradients, buffers and optimizer state of one training."""
    import torch

    from sweeper.training.optimizers.optim import make_optimizer, options_of

    hparams = example(spec).hparams
    model = spec.task.build(0, **options_of(hparams, "model"))
    if spec.train.recipe.precision == "float64":
        model.double()
    optimizer = make_optimizer(spec.train.recipe.optimizer, hparams, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = [value for values in optimizer.state.values() for value in values.values()]
    tensors = [*model.parameters(), *(p.grad for p in model.parameters()), *model.buffers(), *state]
    return sum(value.numel() * value.element_size() for value in tensors if isinstance(value, torch.Tensor))


def _paired_spread(stored: StoredSweep | None) -> float | None:
    """Return the standard deviation of the difference of two families' best trials at equal seeds.

    It is pooled over the families with a trial that learned something. They are compared with the tuned constant if it
    is in the sweep, else with the best one. Only the first fold counts. None if trials have one seed.
    """
    if stored is None or seeds_and_folds(stored.config["question"])[0] < 2:
        return None
    best = stored.families[stored.families["learned"] > 0]
    reference = best[best["role"] == TUNED] if (best["role"] == TUNED).any() else best[best["rank"] == 1]
    others = best[~best["study"].isin(reference["study"].iloc[:1]) & (best["role"] != DEFAULT)]
    if reference.empty or others.empty:
        return None
    reference_values = _last_values(stored, reference.iloc[0])
    variances = [
        variance([a - b for a, b in zip(_last_values(stored, row), reference_values, strict=True)])
        for _, row in others.iterrows()
    ]
    return math.sqrt(fmean(variances))


def _last_values(stored: StoredSweep, row: Any) -> list[float]:
    """Return the objective's metric of each seed at the last report, on the first fold."""
    seeds, folds = seeds_and_folds(stored.config["question"])
    members = range(0, seeds * folds, folds)
    traces = (stored.trace(row["study"], int(row["best_trial"]), member) for member in members)
    return [float(trace[stored.objective["metric"]].dropna().iloc[-1]) for trace in traces]
