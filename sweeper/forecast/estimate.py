"""What a sweep would cost and could find, before it is paid for: trials, updates, time, disk, memory, smallest gap.

Trains for a few seconds to see how fast it goes, and writes nothing.
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
from sweeper.forecast.disk import Disk, Tracked, disk, points_of_a_trial
from sweeper.results.power import smallest_gap
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import BASELINES, DEFAULT, TUNED
from sweeper.run import trainers
from sweeper.spec.question import seeds_and_folds, settle
from sweeper.spec.sweep import SweepSpec, TrainerSpec, example
from sweeper.types import Job, Record, Trainer

if TYPE_CHECKING:
    from sweeper.search.family import FamilyStudy

TIMED_BATCHES = 4  # of trainings, out of the sweep's first ones
USUAL_METRICS = 2  # of a report, where none was seen
ENOUGH = 10  # ended trials from which on their share of updates is a guide
# Beside training, seconds: of a command (imports, the table), of other processes' start, of asking and ending a trial,
# of a round's commit, of sending a point; benchmarks/RESULTS.md.
COMMAND_SECONDS, PROCESSES_SECONDS, TRIAL_SECONDS, ROUND_SECONDS, POINT_SECONDS = 6.0, 5.0, 0.015, 0.02, 1e-4


@dataclass(frozen=True)
class Row:
    """A study of the plan. trials: in all; done: those that ended; open: those begun.

    reports: left of each trial that has not ended, the open ones first. updates: left in all, of every member.
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
    """Everything `plan` says.

    pace: None where nothing is left to train. training, beside: seconds of training where no trial ends early, and of
    all else. share: of their updates that ended trials did so far, None where too few have ended. disk: of the whole
    sweep; disk_now: of its folder. memory: of the open trials' models. tuned: whether the tuned constant is among the
    families, else they are compared with the best of them. spread: standard deviation of a paired difference, in units
    of the objective, where it is known.
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
    beside: float
    share: float | None
    disk: Disk
    disk_now: int
    memory: int
    comparisons: int
    tuned: bool
    seeds: int
    spread: float | None


@dataclass(frozen=True)
class Comparison:
    """Of the winners on fresh seeds.

    seeds: how many. spread: standard deviation of one training's objective over seeds; None: as a stored sweep with
    several seeds shows it, if one does.
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
    """Look at what is asked, and train for some seconds. Raises InputError as the sweep itself would."""
    from sweeper.search.study import build_studies
    from sweeper.tracking.mlflow.tracker import MLflow

    home = settle(root, spec.name, spec.question, fresh=spec.fresh)
    stored = StoredSweep(home) if home.config.exists() else None
    studies = build_studies(spec.studies, spec.terms)
    jobs = first_jobs(studies)
    rows = tuple(_row(study, spec, stored.records if stored else []) for study in studies)
    counts = open_jobs(rows, spec.search.concurrent_trials, len(spec.partitions))
    began = time.monotonic()
    chosen = trainers.choose(spec, trainers.begun_with(home))
    choosing = time.monotonic() - began if stored is None else 0.0  # which a new sweep does once more
    processes = _processes(chosen.trainer, spec.device)
    pace = _pace(spec, chosen.trainer, jobs, max(counts), seconds) if counts else None
    left, sent = sum(len(row.reports) for row in rows), isinstance(spec.tracker, MLflow) and spec.tracker.is_on
    tracked = _tracked(spec, jobs, pace)
    families = {study.family.name for study in spec.studies}
    known = _paired_spread(stored) if comparison.spread is None else math.sqrt(2) * comparison.spread
    return Estimate(
        name=home.name,
        exists=stored is not None,
        rows=rows,
        steps=spec.train.steps,
        members=len(spec.partitions),
        trainer=chosen.why or chosen.trainer.target.rpartition(".")[2],
        processes=processes,
        pace=pace,
        training=_training(pace, counts),
        beside=choosing
        + (_beside(left, len(counts), processes, points_of_a_trial(tracked) if sent else 0) if left else 0.0),
        share=_share(rows, stored.records, spec.train.steps) if stored else None,
        disk=disk(tracked, trials=sum(row.trials for row in rows), studies=len(rows), sent=sent),
        disk_now=sum(path.stat().st_size for path in home.path.rglob("*") if path.is_file()) if stored else 0,
        memory=max(counts, default=0) * _bytes_of_a_model(spec),
        comparisons=len(families - set(BASELINES)) if BASELINES[0] in families else len(families - {BASELINES[1]}) - 1,
        tuned=BASELINES[0] in families,
        seeds=comparison.seeds,
        spread=known,
    )


def gap(estimate: Estimate, seeds: int) -> float | None:
    """The smallest difference that so many fresh seeds find, in standard deviations of a paired difference."""
    return smallest_gap(seeds, estimate.comparisons) if estimate.comparisons >= 1 and seeds >= 2 else None


def first_jobs(studies: Sequence[FamilyStudy]) -> list[Job]:
    """The jobs with which a new sweep of these studies would begin, by turns from each, asked for in memory."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.InMemoryStorage()
        asked: list[list[Job]] = []
        for study in studies:
            study.attach(storage)
            asked.append([])
            while study.can_ask:
                asked[-1] += study.ask()
    finally:
        optuna.logging.set_verbosity(level)
    return [job for turn in zip_longest(*asked) for job in turn if job is not None]


def open_jobs(rows: Sequence[Row], concurrent: int, members: int) -> list[int]:
    """How many jobs each round advances, if every trial goes to its end; as many entries as there are rounds."""
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
    """What there is of a study and what is to come; a failed trial is tried again once, and then counts."""
    own = [record for record in records if record.study == study.plan.name]
    counted = [record for record in own if record.state != "failed" or record.retry_of is not None]
    reports = len(spec.train.report_steps)
    running = [reports - len(record.intermediate) for record in own if record.state == "running"]
    fresh = max(0, study.limit - len(counted))
    left = (*running, *[reports] * fresh)
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


def _processes(trainer: TrainerSpec, device: str) -> int:
    """How many train."""
    if trainer.workers == 1:
        return 1
    from sweeper.training.workers.cores import places

    return len(places(trainer.workers, device))


def _pace(spec: SweepSpec, trainer: TrainerSpec, jobs: Sequence[Job], most: int, seconds: float) -> timing.Pace:
    """As fast as the sweep itself will go, once all its processes have started: they slow each other down."""
    processes = _processes(trainer, spec.device)
    with closing(trainers.make(spec, replace(trainer, workers=1))) as alone:
        together = max(1, min(_lanes(alone, jobs[0]) * processes, most, len(jobs)))
        some = jobs[: together * TIMED_BATCHES]
        if processes == 1:
            return timing.pace(alone, some, at_once=together, seconds=seconds)
    with closing(trainers.make(spec, trainer, head_start=0)) as in_processes:
        return timing.pace(in_processes, some, at_once=together, seconds=seconds)


def _lanes(trainer: Trainer, job: Job) -> int:
    """How many it trains at once; one that stacks models has to look at a job before it knows."""
    first = replace(job, report_steps=(1, job.steps))
    trainer.start([first])
    list(trainer.advance([first.id]))
    trainer.stop(first.id)
    return trainer.capacity()


def _training(pace: timing.Pace | None, counts: Sequence[int]) -> float:
    """Seconds of all rounds: in each, `at_once` jobs after `at_once` others."""
    return (
        0.0 if pace is None else sum(math.ceil(count / pace.at_once) for count in counts) * pace.at_once * pace.interval
    )


def _beside(trials: int, rounds: int, processes: int, points: float) -> float:
    """Seconds of all that is not training. points: of a trial in MLflow, whose sending needs the same cores."""
    started = PROCESSES_SECONDS if processes > 1 else 0.0
    return COMMAND_SECONDS + started + trials * (TRIAL_SECONDS + points * POINT_SECONDS) + rounds * ROUND_SECONDS


def _share(rows: Sequence[Row], records: Sequence[Record], steps: int) -> float | None:
    """The share of their updates that ended trials did: what pruning and divergence left of the plan, so far."""
    studies = {row.study for row in rows}
    ended = [r.steps_done for r in records if r.study in studies and r.state in ("complete", "pruned", "diverged")]
    return fmean(ended) / steps if len(ended) >= ENOUGH else None


def _tracked(spec: SweepSpec, jobs: Sequence[Job], pace: timing.Pace | None) -> Tracked:
    return Tracked(
        jobs=[job for job in jobs if job.id.member == 0],
        members=len(spec.partitions),
        metrics=len(pace.metrics) if pace else USUAL_METRICS,
        norms=spec.train.recipe.norms,
    )


def _bytes_of_a_model(spec: SweepSpec) -> int:
    """Weights, gradients, buffers and the optimizer's state of one training."""
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
    state = [value for of_one in optimizer.state.values() for value in of_one.values()]
    tensors = [*model.parameters(), *(p.grad for p in model.parameters()), *model.buffers(), *state]
    return sum(value.numel() * value.element_size() for value in tensors if isinstance(value, torch.Tensor))


def _paired_spread(stored: StoredSweep | None) -> float | None:
    """Standard deviation of the difference of two families' best trials at equal seeds, pooled over the families.

    On the first fold where there are several.

    Against the tuned constant where there is one; None unless the trials have several seeds.
    """
    if stored is None or seeds_and_folds(stored.config["question"])[0] < 2:
        return None
    best = stored.families[stored.families["best_trial"].notna()]
    reference = best[best["role"] == TUNED] if (best["role"] == TUNED).any() else best[best["rank"] == 1]
    others = best[~best["study"].isin(reference["study"].iloc[:1]) & (best["role"] != DEFAULT)]
    if reference.empty or others.empty:
        return None
    of_reference = _last_values(stored, reference.iloc[0])
    variances = [
        variance([a - b for a, b in zip(_last_values(stored, row), of_reference, strict=True)])
        for _, row in others.iterrows()
    ]
    return math.sqrt(fmean(variances))


def _last_values(stored: StoredSweep, row: Any) -> list[float]:
    """The objective's metric of each seed, on the first fold, at its last report."""
    seeds, folds = seeds_and_folds(stored.config["question"])
    members = range(0, seeds * folds, folds)
    traces = (stored.trace(row["study"], int(row["best_trial"]), member) for member in members)
    return [float(trace[stored.objective["metric"]].dropna().iloc[-1]) for trace in traces]
