"""Train a stored trial again and compare every value, bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweeper import temporary
from sweeper.results.stored import StoredSweep, Which
from sweeper.run import machine
from sweeper.run.restoring import restore_spec
from sweeper.run.trainers import make, parse_chosen
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.tracking.clock import Traces
from sweeper.tracking.traces import trace_of
from sweeper.training.weights import write_weights
from sweeper.types import InputError, Job, JobId, Record, Report, Trainer, TrialId

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rerun:
    """The result of training a trial again.

    Attributes:
        trial: The trial.
        family: Its family.
        updates: Updates trained, of each member.
        values: Values compared, of all traces and metrics.
        differences: In words, the first update at which each trace differs; empty if every bit is the same.
        machine: What differs from every machine that trained the sweep, and whether the schedule depends on time.
    """

    trial: TrialId
    family: str
    updates: int
    values: int
    differences: tuple[str, ...]
    machine: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.differences


def rerun_trial(sweep: StoredSweep, trial: Which, subject: Subject, weights: Path | None) -> Rerun:
    """Train a trial again, up to the update it reached, and compare everything that was logged.

    Args:
        sweep: The stored sweep.
        trial: A trial, as the methods of `StoredSweep` take it.
        subject: Data, model and task of the sweep.
        weights: A file for the final weights; with several members FILE.0.pt, FILE.1.pt, ...

    Raises:
        InputError: If data, model or code are no longer those of the sweep. Nothing was trained then.
    """
    record = sweep.record(trial)
    if record.state in ("failed", "running"):
        name = f"{record.family}:{record.number}"
        raise InputError("--trial", name, f"the trial is {record.state}, so it has no end", "Choose another trial")
    norms = "grad_norm" in sweep.trace(record.study, record.number)
    spec = restore_spec(sweep, record.study, subject, norms=norms)
    jobs = _jobs(sweep, spec, record)
    with closing(make(spec, parse_chosen(sweep.config["trainer"]).trainer)) as trainer:
        reports = _train(trainer, jobs, record.steps_done)
        if weights is not None:
            _write_weights(trainer, jobs, weights)
    pairs = [(sweep.trace(record.study, record.number, job.id.member), trace_of(reports[job.id])) for job in jobs]
    return Rerun(
        TrialId(record.study, record.number),
        record.family,
        record.steps_done,
        sum(int((~np.isnan(values)).sum()) for _, now in pairs for name, values in now.items() if name != "step"),
        tuple(
            text
            for member, (before, now) in enumerate(pairs)
            for text in _first_differences(before, now, member, len(jobs))
        ),
        (*_timed_schedule(jobs), *_machine_differences(sweep)),
    )


def report_lines(rerun: Rerun) -> list[str]:
    """Return the result for the terminal."""
    name = f"{rerun.family}:{rerun.trial.trial}"
    if rerun.same:
        return [f"{name} trained again, {rerun.updates} updates: all {rerun.values} values are the same, bit for bit."]
    cause = "; ".join(rerun.machine) or "nothing that is known of the machine"
    return [
        f"{name} trained again, {rerun.updates} updates: the values differ.",
        *(f"  {line}" for line in rerun.differences),
        f"What changed: {cause}.",
    ]


# --- training it again -------------------------------------------------------------------------------


def _jobs(sweep: StoredSweep, spec: SweepSpec, record: Record) -> tuple[Job, ...]:
    """Return the trial's jobs, from a copy of the journal, because opening one for trials writes to it."""
    from sweeper.search.study import Studies

    copy = temporary.make_folder() / sweep.home.journal.name
    try:
        shutil.copyfile(sweep.home.journal, copy)
        return Studies(copy, spec.studies, spec.terms).jobs(TrialId(record.study, record.number))
    finally:
        temporary.remove(copy.parent)


def _train(trainer: Trainer, jobs: Sequence[Job], until: int) -> dict[JobId, list[Report]]:
    """Return the reports of each job up to that update, or up to its end."""
    reports: dict[JobId, list[Report]] = {job.id: [] for job in jobs}
    trainer.start(jobs)
    running = list(reports)
    while running:
        for report in list(trainer.advance(running)):
            reports[report.id].append(report)
        running = [id for id in running if reports[id][-1].state == "running" and reports[id][-1].step < until]
    return reports


def _write_weights(trainer: Trainer, jobs: Sequence[Job], path: Path) -> None:
    for job in jobs:
        write_weights(
            path if len(jobs) == 1 else path.with_name(f"{path.name}.{job.id.member}.pt"), trainer.weights(job.id)
        )


# --- what differs -----------------------------------------------------------------------------------


def _first_differences(before: pd.DataFrame, now: Traces, member: int, members: int) -> Iterator[str]:
    """Yield the first different value of each trace that differs."""
    of_member = f" of member {member}" if members > 1 else ""
    for name, values in now.items():
        if name not in before.columns:
            if not np.isnan(values).all():
                yield f"{name}{of_member}: not logged before"
            continue
        there = before[name].to_numpy()
        count = min(len(there), len(values))
        differs = (there[:count] != values[:count]) & ~(np.isnan(there[:count]) & np.isnan(values[:count]))
        if differs.any():
            at = int(differs.argmax())
            step = int(now["step"][at])
            yield f"{name}{of_member} differs from step {step} on: {there[at]!r} there, {values[at]!r} here"
        elif len(there) != len(values):
            yield f"{name}{of_member}: {len(there)} steps there, {len(values)} here"


def _timed_schedule(jobs: Sequence[Job]) -> tuple[str, ...]:
    by_time = any(job.controller is not None and job.controller["name"] == "wall_time" for job in jobs)
    return ("the schedule depends on the time that training takes",) if by_time else ()


def _machine_differences(sweep: StoredSweep) -> tuple[str, ...]:
    """Return what differs from the most similar machine that trained the sweep."""
    here = machine.describe(sweep.config["trainer"]["device"])
    differences = [tuple(machine.differences(there, here)) for there in sweep.config.get("machines", [])]
    return min(differences, key=len) if differences else ("the sweep's machine was not recorded",)
