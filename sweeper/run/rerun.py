"""A stored trial trained again: the same numbers to the last bit, or where they part and what is not as it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.results.stored import StoredSweep, Which
from sweeper.run import machine
from sweeper.run.trainers import make, parse_chosen
from sweeper.spec.composing import compose
from sweeper.spec.parse import parse
from sweeper.spec.question import differences
from sweeper.spec.requests import Request
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.training.kept import write_weights
from sweeper.types import InputError, Job, JobId, Record, Report, Trainer, TrialId

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(frozen=True)
class Rerun:
    """What came of it.

    updates: trained, of each member. values: compared, of all traces and metrics. parted: where the numbers differ,
    the first update of each trace, in words; empty where every bit is the same. machine: what differs here from every
    machine that the sweep was trained on; and that time is never the same, where the schedule goes by it.
    """

    trial: TrialId
    family: str
    updates: int
    values: int
    parted: tuple[str, ...]
    machine: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.parted


def again(sweep: StoredSweep, trial: Which, subject: Subject, weights: Path | None) -> Rerun:
    """Train a trial of the sweep again, as far as it came, and compare all that was logged of it.

    weights: a file for the final weights, of several members FILE.0.pt, FILE.1.pt, ... Raises InputError, before
    anything is trained, where data, model or code are no longer those of the sweep.
    """
    record = sweep.record(trial)
    if record.state in ("failed", "running"):
        told = f"{record.family}:{record.number}"
        raise InputError("--trial", told, f"is {record.state}: there is no end to reach again", "Choose another trial")
    spec = _spec(sweep, record, subject)
    jobs = _jobs(sweep, spec, record)
    with closing(make(spec, parse_chosen(sweep.config["trainer"]).trainer)) as trainer:
        found = _train(trainer, jobs, record.steps_done)
        if weights is not None:
            _write_weights(trainer, jobs, weights)
    pairs = [(sweep.trace(record.study, record.number, job.id.member), _columns(found[job.id])) for job in jobs]
    return Rerun(
        TrialId(record.study, record.number),
        record.family,
        record.steps_done,
        sum(len(values) for _, columns in pairs for values in columns.values()),
        tuple(text for member, (before, now) in enumerate(pairs) for text in _parted(before, now, member, len(jobs))),
        (*_by_the_clock(jobs), *_other_machine(sweep)),
    )


def made_of(sweep: StoredSweep) -> dict[str, Any]:
    """Return the nodes of data, model and task, of which the command line makes a task.

    Raises InputError for a sweep whose task was an object of Python.
    """
    question = sweep.config["question"]
    if "data" not in question:
        remedy = f'Give it: sweeper.load("{sweep.name}").rerun("cosine:17", task)'
        raise InputError("sweep", sweep.name, "was begun in Python, and its task is stored nowhere", remedy)
    return {"data": question["data"], "model": question["model"], "task": question["task"]}


def text(rerun: Rerun) -> list[str]:
    """What came of it, for a person."""
    name = f"{rerun.family}:{rerun.trial.trial}"
    if rerun.same:
        return [f"{name} trained again, {rerun.updates} updates: all {rerun.values} numbers are the same, bit for bit."]
    cause = "; ".join(rerun.machine) or "the machine, as far as it is known, is the same"
    return [
        f"{name} trained again, {rerun.updates} updates: the numbers are not the same.",
        *(f"  {line}" for line in rerun.parted),
        f"What differs: {cause}.",
    ]


# --- as it was --------------------------------------------------------------------------------------


def _spec(sweep: StoredSweep, record: Record, subject: Subject) -> SweepSpec:
    """The sweep's question, asked again for one study."""
    question, study = sweep.config["question"], sweep.config["studies"][record.study]
    default = compose(Request()).nodes
    traced = sweep.trace(record.study, record.number).columns
    config = {
        **default,
        "schedule": {record.family: study["schedule"]},
        "optimizer": question["optimizer"],
        "train": {**default["train"], **question["train"], "epochs": None, "norms": "grad_norm" in traced},
        "objective": {**default["objective"], **question["objective"]},
        "search": {
            **default["search"], **question["search"], "sampler": study["sampler"], "n_trials": study["trials"]
        },
        "pruner": study["pruner"],
        "schedule_unit": question.get("schedule_unit", default["schedule_unit"]),
        "tracking": {"_target_": None},
        "device": sweep.config["trainer"]["device"],
    }  # fmt: skip
    spec = parse(config, subject)
    other = differences(question, spec.question)
    if other:
        told = f"the sweep asked about something else than what is here now ({'; '.join(other)})"
        raise InputError("sweep", sweep.name, told, "Bring it back as it was")
    if spec.studies[0].name != record.study:
        told = "what defines this family, or its own code, is not as it was"
        raise InputError(f"schedule.{record.family}", None, told, "Bring it back as it was")
    return spec


def _jobs(sweep: StoredSweep, spec: SweepSpec, record: Record) -> tuple[Job, ...]:
    """The trial's jobs, out of a copy of the journal: whoever opens one for trials writes to it."""
    from sweeper.search.study import Studies

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / sweep.home.journal.name
        shutil.copyfile(sweep.home.journal, copy)
        return Studies(copy, spec.studies, spec.terms).jobs(TrialId(record.study, record.number))


def _train(trainer: Trainer, jobs: Sequence[Job], until: int) -> dict[JobId, list[Report]]:
    """The reports of each job up to that update, or to its end before."""
    found: dict[JobId, list[Report]] = {job.id: [] for job in jobs}
    trainer.start(jobs)
    going = list(found)
    while going:
        for report in list(trainer.advance(going)):
            found[report.id].append(report)
        going = [id for id in going if found[id][-1].state == "running" and found[id][-1].step < until]
    return found


def _write_weights(trainer: Trainer, jobs: Sequence[Job], path: Path) -> None:
    for job in jobs:
        write_weights(
            path if len(jobs) == 1 else path.with_name(f"{path.name}.{job.id.member}.pt"), trainer.weights(job.id)
        )


# --- what differs -----------------------------------------------------------------------------------


def _columns(reports: Sequence[Report]) -> Columns:
    """Traces by name, one value an update, and each metric at the reports, NaN between them."""
    steps = reports[-1].step
    found = {name: np.full(steps, np.nan) for report in reports for name in (*report.traces, *report.metrics)}
    for report in reports:
        for name, values in report.traces.items():
            found[name][report.step - len(values) : report.step] = values
        for name, value in report.metrics.items():
            found[name][report.step - 1] = value
    return found


def _parted(before: pd.DataFrame, now: Columns, member: int, members: int) -> Iterator[str]:
    """For each trace that differs, its first different value."""
    of_member = f" of member {member}" if members > 1 else ""
    for name, values in now.items():
        if name not in before.columns:
            if not np.isnan(values).all():
                yield f"{name}{of_member}: not logged then"
            continue
        there = before[name].to_numpy()
        count = min(len(there), len(values))
        differs = (there[:count] != values[:count]) & ~(np.isnan(there[:count]) & np.isnan(values[:count]))
        if differs.any():
            at = int(differs.argmax())
            yield f"{name}{of_member} parts at update {at + 1}: {there[at]!r} there, {values[at]!r} here"
        elif len(there) != len(values):
            yield f"{name}{of_member}: {len(there)} updates there, {len(values)} here"


def _by_the_clock(jobs: Sequence[Job]) -> tuple[str, ...]:
    by_time = any(job.controller is not None and job.controller["name"] == "wall_time" for job in jobs)
    return ("the schedule goes by the time that training takes",) if by_time else ()


def _other_machine(sweep: StoredSweep) -> tuple[str, ...]:
    """What is otherwise here than on the most similar machine of the sweep."""
    now = machine.here(sweep.config["trainer"]["device"])
    unlike = [tuple(machine.unlike(there, now)) for there in sweep.config.get("machines", [])]
    return min(unlike, key=len) if unlike else ("the sweep's machine was not written down",)
