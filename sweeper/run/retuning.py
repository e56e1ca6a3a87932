"""Tune again for another question, and learn whether the winner of an earlier sweep would have done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sweeper.results import retune
from sweeper.results.chosen import Chosen, chosen
from sweeper.results.retune import Earlier, Retune
from sweeper.results.stored import StoredSweep
from sweeper.results.verdict import Reference
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.run.restoring import whole_configuration
from sweeper.run.writing import write_json
from sweeper.search.plan import StudyPlan
from sweeper.search.records import replicate_study
from sweeper.search.space import point
from sweeper.spec.composing import Composed
from sweeper.spec.config_files import choices
from sweeper.spec.inherited import inherit
from sweeper.spec.parse import parse
from sweeper.spec.question import differences
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.types import InputError, Record, Value

NEAR = 1e-12  # relative difference of numbers that went through the journal


@dataclass(frozen=True)
class Retuning:
    """A new sweep that begins with the winner of an earlier one.

    Attributes:
        spec: The new sweep. The winner is the first start point of its family.
        old: The winner.
        study: The study of its family in the new sweep.
        start: Its searched hyperparameters there.
        earlier: Where it is from, and what is different.
    """

    spec: SweepSpec
    old: Chosen
    study: str
    start: dict[str, Value]
    earlier: Earlier


def check_options(asked: ConfirmSpec) -> ConfirmSpec:
    """Return the options of the confirmation. Raises InputError for new searches, which compare no configurations."""
    if asked.searches is not None:
        raise InputError("confirm.searches", asked.searches, "retune compares configurations", "Leave it out")
    return asked


def known_families(old: StoredSweep) -> list[str]:
    """Return the families of a sweep that are files of conf/schedule."""
    return sorted({study["family"] for study in old.config["studies"].values()} & set(choices("schedule")))


def refuse_unstored(old: StoredSweep, *, is_given: bool = False) -> None:
    """Raise InputError for a sweep that was started in Python, if its task is not given."""
    if old.is_from_python and not is_given:
        problem = "it was started in Python, and its task is not stored"
        raise InputError("--from", old.name, problem, f'Retune it there: sweeper.retune("{old.name}", task)')


def inherited(old: StoredSweep, composed: Composed, typed: Sequence[str]) -> Composed:
    """Return the configuration of an earlier sweep with what a command asks for (`spec.inherited`)."""
    return inherit(whole_configuration(old, chosen(old).record.study), composed, typed)


def plan(old: StoredSweep, composed: Composed, subject: Subject) -> Retuning:
    """Return the new sweep.

    Args:
        old: The earlier sweep.
        composed: The configuration of the new one (`inherited`).
        subject: Data, model and task of the new one.

    Raises:
        InputError: If nothing is different, or the winner is no point of the new space.
    """
    found = chosen(old)
    spec = parse(composed.nodes, subject)
    changed = differences(old.config["question"], spec.question)
    if not changed:
        problem = "the question is the same: data, model, optimizer and training are as they were"
        remedy = f"Change one of them, or confirm what was found: python -m sweeper confirm {old.name}"
        raise InputError("--from", old.name, problem, remedy)
    family = found.record.family
    study = next((one for one in spec.studies if one.family.name == family), None)
    if study is None:
        names = ",".join([*(one.family.name for one in spec.studies), family])
        problem = f"it lacks {family}, the family of the old winner"
        raise InputError("schedule", None, problem, f"Add it: 'schedule=[{names}]'")
    start = _start(found.record, study)
    begun = replace(study, start=(start, *study.start))
    studies = tuple(begun if one is study else one for one in spec.studies)
    earlier = Earlier(
        sweep=old.name, name=found.name, why=found.words, params=dict(found.record.params), changed=changed
    )
    return Retuning(replace(spec, studies=studies), found, study.name, start, earlier)


def _start(record: Record, study: StudyPlan) -> dict[str, Value]:
    """Return the winner as a start point of a study. Raises InputError if it is none."""
    axes, family = study.axes, study.family.name
    for name, value in axes.fixed.items():
        if "." not in name and name in record.params and not _is_same(value, record.params[name]):
            problem = f"the old winner has {record.params[name]}, and this sweep does not search it"
            raise InputError(f"schedule.{family}.{name}", value, problem, "Leave it out, or give a range that has both")
    start = {name: record.params[name] for name in axes.searched if name in record.params}
    for name, value in start.items():
        key = name if "." in name else f"schedule.{family}.{name}"
        try:
            point(axes, {name: value}, key)
        except InputError as error:
            problem = f"the old winner has {value}, which this sweep does not search ({error.problem})"
            raise InputError(key, None, problem, f"Give it a range that has it. Now: {error.remedy}") from error
    return start


def asked_for(sweep: StoredSweep, retuning: Retuning, asked: ConfirmSpec) -> ConfirmSpec:
    """Return the options of the confirmation, in which the old winner is judged too.

    Raises:
        InputError: If the new sweep has not trained it.
    """
    return replace(asked, also=(*asked.also, f"{retuning.study}:{_trial(sweep, retuning).number}"))


def _trial(sweep: StoredSweep, retuning: Retuning) -> Record:
    """Return the old winner as a trial of the new sweep."""
    for record in sweep.records:
        is_it = all(_is_same(record.params.get(name), value) for name, value in retuning.start.items())
        if record.study == retuning.study and is_it and record.state not in ("failed", "running"):
            return record
    failed = [record for record in sweep.records if record.study == retuning.study and record.state == "failed"]
    family = retuning.old.record.family
    problem = f"the new sweep has no trial of {family} with the settings of {retuning.old.name}"
    remedy = "Look at its error: python -m sweeper status" if failed else "Raise it by one, then repeat this command"
    raise InputError("search.n_trials", None, problem, remedy)


def conclude(sweep: StoredSweep, retuning: Retuning, confirm_seed: int) -> Retune | None:
    """Write retune.json, and return it; None if there is no verdict.

    Args:
        sweep: The new sweep, read after its confirmation.
        retuning: What it began with.
        confirm_seed: Which confirmation.
    """
    verdict = sweep.verdict_of(confirm_seed)
    if verdict is None:
        return None
    record = _trial(sweep, retuning)
    old = Reference(family=record.family, trial=record.number)
    of_confirmation = [one for one in sweep.replicates if one.study.endswith(replicate_study("", confirm_seed))]
    found = retune.compare(verdict, retuning.earlier, old, of_confirmation)
    write_json(sweep.home.retune, found)
    return found


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=NEAR)
    return one == other
