"""Train the final models: the chosen settings on train + valid, with several seeds, judged on the test part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweeper.results import final
from sweeper.results.choosing import Candidate
from sweeper.results.chosen import Chosen, chosen
from sweeper.results.confirmation import Order, fresh_seeds, lacking
from sweeper.results.final import Beside, Examples, Final, FinalModel, FinalTrial
from sweeper.results.stored import StoredSweep
from sweeper.results.verdict import ValueRow
from sweeper.run import sweeping
from sweeper.run.final_spec import FinalSpec
from sweeper.run.replicating import Replicating, has_test, plan_of, point_of, workers_for
from sweeper.run.restoring import restore_spec
from sweeper.run.retrying import has_norms
from sweeper.run.sweeping import Conclude, Outcome
from sweeper.run.writing import write_json
from sweeper.search.objective import Objective
from sweeper.search.records import JournalReader, final_study
from sweeper.spec.question import Home, seeds_and_folds
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.training.joined import Joined
from sweeper.training.weights import write_final
from sweeper.types import (
    AtEnd,
    ConfiguredTracker,
    Ending,
    Floats,
    InputError,
    Job,
    Record,
    Report,
    Search,
    Task,
    Tracker,
    Trainer,
    TrialId,
    seed_of,
)

if TYPE_CHECKING:
    from sweeper.search.study import Studies

JUDGED_BY = Objective("train/loss")  # until the test part is read: nothing is left to validate on
ABOUT = "Final models: the settings of one trial of {}, trained on train + valid with several seeds.\n"


@dataclass(frozen=True)
class FinalPlan:
    """What is trained.

    Attributes:
        chosen: The trial, and why it was taken.
        seeds: Of the models.
        lr_S: The LR of every update as the trial used it, if its schedule is reactive: there is no validation part left
            to react to. None for a schedule that is known beforehand.
    """

    chosen: Chosen
    seeds: tuple[int, ...]
    lr_S: Floats | None = None

    @property
    def record(self) -> Record:
        """The trial."""
        return self.chosen.record

    def wanted(self, rows: Sequence[ValueRow]) -> list[Order]:
        """Return the trainings that are not among the rows."""
        return lacking(rows, "final", [Candidate(self.record, (self.record,))], self.seeds)


def plan(sweep: StoredSweep, asked: FinalSpec, trial: str | None = None) -> FinalPlan:
    """Return what is trained.

    Args:
        sweep: The stored sweep.
        asked: The options.
        trial: The trial to take, such as "cosine:17"; None for the rule of `results.chosen`.

    Raises:
        InputError: If there is no such trial or none is complete, or its reactive schedule was not trained to its end.
    """
    found = chosen(sweep, trial)
    run_seed = sweep.config["question"]["search"]["seed"]
    seeds, folds = seeds_and_folds(sweep.config["question"])
    taken = {seed_of(run_seed, "member", member) for member in range(seeds * folds)}
    drawn = fresh_seeds(taken, asked.seeds, run_seed, "final")
    return FinalPlan(found, tuple(drawn), _used_lr(sweep, found))


def _used_lr(sweep: StoredSweep, found: Chosen) -> Floats | None:
    record = found.record
    if sweep.family_of(record).controller is None:
        return None
    if record.state != "complete" or record.truncated:
        problem = f"{found.name} is reactive and was not trained to its end, so its LRs are not known"
        raise InputError("--trial", found.name, problem, "Choose a complete trial")
    return sweep.lr(record.study, record.number)


def finalize(
    sweep: StoredSweep,
    subject: Subject,
    tracker: ConfiguredTracker | None,
    planned: FinalPlan,
    conclude: Conclude | None = None,
) -> Outcome:
    """Train the models that are not trained yet, and write final.json and the weights to the sweep's folder.

    Called again, it trains what is left, and with nothing left it writes the same.

    Args:
        sweep: The stored sweep.
        subject: Data, model and task of the sweep.
        tracker: Where the sweep is tracked; None for nowhere.
        planned: What is trained.
        conclude: As in `sweeping.sweep`.

    Raises:
        InputError: If data, model or code are no longer those of the sweep. Raised before anything is written.
    """
    record = planned.record
    spec = _spec_of(sweep, subject, planned)
    seconds = record.seconds / max(1, len(record.seeds))
    trainer = replace(spec.trainer, workers=workers_for(len(planned.seeds), seconds))

    def stage_search(studies: Studies, tracker: Tracker) -> tuple[Search, AtEnd]:
        search = _Finalizing(studies, tracker, planned, spec, sweep.home)
        return search, search.finish

    stage = sweeping.Stage(name="checkpoint-final", settings={}, search=stage_search, about=ABOUT)
    return sweeping.train(replace(spec, tracker=tracker, trainer=trainer), sweep.home, conclude=conclude, stage=stage)


def _spec_of(sweep: StoredSweep, subject: Subject, planned: FinalPlan) -> SweepSpec:
    """Return the configuration of the sweep on train + valid, with one study."""
    study = planned.record.study
    spec = restore_spec(sweep, study, subject, norms=has_norms(sweep))
    stored = JournalReader(sweep.home.journal).plans()[study]
    return replace(
        spec,
        task=Joined(spec.task),
        studies=(plan_of(spec.studies[0].resumed_as(stored), final_study(study)),),
        search=replace(spec.search, seeds=1, timeout=None, early_stopping=None),
        folds=1,
        objective=JUDGED_BY,
    )


class _Finalizing(Replicating):
    """A replicate of a trial on train + valid: it reports its training loss, and ends with its test metrics."""

    def __init__(self, studies: Studies, tracker: Tracker, planned: FinalPlan, spec: SweepSpec, home: Home) -> None:
        """Wrap the study of the final models.

        Args:
            studies: The study.
            tracker: Gets tags that say what each training is.
            planned: What is trained.
            spec: How.
            home: Where the weights are written.
        """
        record = planned.record
        points = {TrialId(record.study, record.number): point_of(record, spec.studies[0])}
        super().__init__(studies, planned.wanted, points, tracker)
        self._planned, self._home, self._has_test = planned, home, has_test(spec.task)

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        return [(self._on_all(jobs), step) for jobs, step in super().resume()]

    def ask(self) -> tuple[Job, ...] | None:
        jobs = super().ask()
        return None if jobs is None else self._on_all(jobs)

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        return super().report([_with_training_loss(report) for report in reports])

    def finish(self, ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None:
        """Write the weights, and evaluate the test part: the only place after `confirm` that reads it."""
        record = self._planned.record
        for job in jobs:
            folder = self._home.final_weights(record.study, record.number)
            write_final(folder / str(job.seed), trainer.weights(job.id))
            if self._has_test:
                self.note_tested(ending.trial, trainer.evaluate(job.id, "test"))

    def _on_all(self, jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        """Return the jobs without a validation part, and with the LRs that a reactive schedule used."""
        lr_S = self._planned.lr_S
        used = {} if lr_S is None else {"lr_S": lr_S, "controller": None}
        return tuple(replace(job, parts=job.parts[:1], **used) for job in jobs)  # type: ignore[arg-type] # fields by name


def _with_training_loss(report: Report) -> Report:
    """Return a report with the mean loss of its updates as a metric."""
    loss_S = report.traces["train/loss"]
    loss = math.fsum(loss_S) / len(loss_S) if len(loss_S) else math.nan
    return replace(report, metrics={**report.metrics, JUDGED_BY.metric: loss})


# --- what was found -----------------------------------------------------------------------------------


def result(sweep: StoredSweep, planned: FinalPlan, task: Task) -> Final | None:
    """Return what was found; None while a training has not ended.

    Args:
        sweep: The stored sweep, read after the trainings.
        planned: What was trained.
        task: The sweep's.
    """
    record, train = planned.record, sweep.config["question"]["train"]
    ended = {
        one.replicate.seed: one
        for one in sweep.replicates
        if one.study == final_study(record.study)
        and one.replicate is not None
        and one.replicate.trial == record.number
        and one.state != "running"
    }
    if any(seed not in ended for seed in planned.seeds):
        return None
    models = [_model(sweep.home, planned, seed, ended[seed]) for seed in planned.seeds]
    tested = final.intervals([model["test"] for model in models])
    found = Final(
        schema=final.SCHEMA,
        sweep=sweep.name,
        trial=FinalTrial(
            name=planned.chosen.name,
            study=record.study,
            family=record.family,
            trial=record.number,
            why=planned.chosen.words,
            params=dict(record.params),
        ),
        updates=train["steps"],
        batch_size=train["batch_size"],
        examples=Examples(
            train=task.size("train", 0),
            valid=task.size("valid", 0),
            test=task.size("test", 0) if has_test(task) else 0,
        ),
        folds=seeds_and_folds(sweep.config["question"])[1],
        direction=sweep.objective["direction"],
        test=tested or None,
        beside=None if tested else _beside(sweep, record),
        models=models,
        registered=None,
        sentence="",
    )
    return {**found, "sentence": final.sentence(found)}


def write(home: Home, found: Final) -> None:
    """Write final.json."""
    write_json(home.final, found)


def _model(home: Home, planned: FinalPlan, seed: int, of_seed: Record) -> FinalModel:
    folder = home.final_weights(planned.record.study, planned.record.number)
    written = sorted(folder.glob(f"{seed}.*")) if of_seed.state == "complete" else []
    return FinalModel(
        seed=seed,
        number=of_seed.number,
        state=of_seed.state,
        reason=of_seed.reason,
        train_loss=of_seed.value,
        test={name: value if math.isfinite(value) else None for name, value in of_seed.tested.items()},
        weights=str(written[0].relative_to(home.path)) if written else None,
        uri=None,
        version=None,
    )


def _beside(sweep: StoredSweep, record: Record) -> Beside | None:
    """Return the nearest figure for models that nothing measures: of the training part alone."""
    metric, verdict = sweep.objective["metric"], sweep.verdict
    for row in [] if verdict is None else verdict["configurations"]:
        if (row["family"], row["trial"]) == (record.family, record.number) and row["mean"] is not None:
            return Beside(
                where=f"the mean of {final.seeds_text(row['n'])} of its confirmation", metric=metric, value=row["mean"]
            )
    return None if record.value is None else Beside(where="in the search", metric=metric, value=record.value)
