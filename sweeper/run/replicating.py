"""The search of a confirmation: it proposes trials of the search again, as they are wanted, on given seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sweeper.importing import Target
from sweeper.results.confirmation import Order, rows_of
from sweeper.results.verdict import ValueRow
from sweeper.search.space import Scalar, point
from sweeper.types import Ending, Job, Progress, Record, Report, State, Task, Tracker, Trainer, TrialId

if TYPE_CHECKING:
    from sweeper.search.plan import StudyPlan
    from sweeper.search.study import Studies

SHORT = 8.0  # seconds of all trainings in one process below which more processes save no time
RANDOM = Target("optuna.samplers.RandomSampler")

Wanted = Callable[[Sequence[ValueRow]], list[Order]]


class Point(NamedTuple):
    """A trial that may be repeated.

    Attributes:
        study: The study that repeats it.
        params: Its searched hyperparameters as Optuna stores them, without those that are fixed in that study.
    """

    study: str
    params: Mapping[str, Scalar]


def plan_of(searched: StudyPlan, name: str) -> StudyPlan:
    """Return the plan of a study that repeats trials of another one."""
    return replace(
        searched, name=name, sampler=RANDOM, pruner=None, start=(), stop=None, extends=False, replicates=True
    )


def point_of(record: Record, plan: StudyPlan) -> Point:
    """Return a trial as the study of this plan repeats it."""
    params = {name: record.params[name] for name in plan.axes.searched}
    return Point(plan.name, point(plan.axes, params, f"{record.family}:{record.number}"))


def workers_for(trainings: float, seconds: float) -> int | str:
    """Return the worker processes for so many trainings of so many seconds."""
    return 1 if trainings * seconds < SHORT else "auto"


def nothing(ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None:
    """Do nothing at the end of a training."""


def has_test(task: Task) -> bool:
    """Return whether the data have a test part. A task of the user's own may know none."""
    try:
        return task.size("test", 0) > 0
    except Exception:  # of the task's own code
        return False


class Replicating:
    """The protocol Search: queues what is wanted, as soon as everything before has ended."""

    def __init__(self, studies: Studies, wanted: Wanted, points: Mapping[TrialId, Point], tracker: Tracker) -> None:
        """Wrap the studies of replicates.

        Args:
            studies: The studies.
            wanted: Returns the trainings that come next, none at the end.
            points: The trials that may be repeated.
            tracker: Gets tags that say what each training repeats.
        """
        self._studies, self._wanted, self._points, self._tracker = studies, wanted, points, tracker

    @property
    def round(self) -> int:
        return self._studies.round

    @property
    def rows(self) -> list[ValueRow]:
        """The trainings that ended so far."""
        return rows_of(self._studies.replicates())

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        return self._studies.resume()

    def ask(self) -> tuple[Job, ...] | None:
        jobs = self._studies.ask()
        if jobs is None and self._studies.is_idle:
            for order in self._wanted(self.rows):
                self._add(order)
            jobs = self._studies.ask()
        return jobs

    def report(self, reports: Sequence[Report]) -> set[TrialId]:
        return self._studies.report(reports)

    def tell(self, trial: TrialId, state: State, reason: str = "") -> Ending:
        of_trial, stage, seed = self._studies.replicate(trial)
        self._tracker.tag(
            trial, {"replicate.trial": str(of_trial), "replicate.stage": stage, "replicate.seed": str(seed)}
        )
        return self._studies.tell(trial, state, reason)

    def commit(self, round: int) -> None:
        self._studies.commit(round)

    def progress(self) -> list[Progress]:
        return self._studies.progress()

    def test(self, ending: Ending, jobs: Sequence[Job], trainer: Trainer) -> None:
        """Evaluate the test part of a training that was judged: the only place before `final` that reads it."""
        if self._studies.replicate(ending.trial).stage != "judge":
            return
        found = [trainer.evaluate(job.id, "test") for job in jobs]
        self.note_tested(ending.trial, {name: sum(one[name] for one in found) / len(found) for name in found[0]})

    def note_tested(self, trial: TrialId, metrics: Mapping[str, float]) -> None:
        """Store the metrics of the test part of a training that has ended."""
        self._studies.note_tested(trial, metrics)
        self._tracker.tag(trial, {name: f"{value:.6g}" for name, value in metrics.items()})

    def _add(self, order: Order) -> None:
        study, params = self._points[order.trial]
        self._studies.add_replicate(study, order.replicate, params)
