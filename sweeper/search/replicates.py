"""The study of a confirmation: it trains given points of another study again, on given seeds."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.trial import TrialState

from sweeper.search.family import FamilyStudy
from sweeper.search.records import replicate_of, tested, tested_key
from sweeper.search.space import Scalar
from sweeper.types import Ending, Record, Replicate, State


class ReplicateStudy(FamilyStudy):
    """A study without a sampler's proposals. Its trials are queued one by one as a confirmation wants them."""

    @property
    def limit(self) -> int:
        """How many trials it has so far, queued ones included."""
        return self.n_started + len(self.waiting)

    @property
    def has_stalled(self) -> bool:
        return False

    def member_seeds(self, seed: int) -> list[int]:
        """Return the seed for each fold: a replicate is one seed."""
        return [seed] * len(self.terms.partitions)

    def tell(self, number: int, state: State, reason: str) -> Ending:
        open = self.open[number]
        if state == "complete" and open.members:
            values = [self.terms.objective.trial_value(of_member) for of_member in zip(*open.members, strict=True)]
            open.trial.set_user_attr("member_values", values)
        return super().tell(number, state, reason)

    def note_tested(self, number: int, metrics: Mapping[str, float]) -> None:
        """Store the metrics of the test part. The trial has ended, so its study holds them."""
        self.study.set_user_attr(tested_key(number), dict(metrics))

    def records(self) -> list[Record]:
        """Return the trainings that were started."""
        trials = self.study.get_trials(deepcopy=False)
        attrs = self.study.user_attrs
        started = [trial for trial in trials if trial.state != TrialState.WAITING]
        return [replicate_of(self.plan.name, attrs["plan"], trial, tested(attrs, trial)) for trial in started]

    def replicate(self, number: int) -> Replicate:
        """Return what a training repeats."""
        return Replicate(*self.study.get_trials(deepcopy=False)[number].user_attrs["replicate"])

    @property
    def replicates(self) -> set[Replicate]:
        """What was queued so far."""
        trials = self.study.get_trials(deepcopy=False)
        return {Replicate(*trial.user_attrs["replicate"]) for trial in trials}

    def add(self, replicate: Replicate, stored: Mapping[str, Scalar]) -> None:
        """Queue a replicate, unless it is there already.

        Args:
            replicate: Which trial on which seed.
            stored: The searched hyperparameters of that trial as Optuna stores them.
        """
        if replicate not in self.replicates:
            attrs = {"queued": True, "replicate": list(replicate), "seed": replicate.seed}
            self.study.enqueue_trial(dict(stored), attrs)
