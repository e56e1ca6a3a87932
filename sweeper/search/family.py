"""One family's study: ask, report, tell; which trials are open and how many are still to come."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeper.schedules import controller_of, lr_trace, momentum_trace
from sweeper.search import extending, pruning
from sweeper.search.objective import combine_members
from sweeper.search.plan import StudyPlan, Terms, start_points
from sweeper.search.sampling import Sampling
from sweeper.search.space import Scalar
from sweeper.search.stopping import KEY, StallCounter
from sweeper.types import Ending, Floats, InputError, Job, JobId, Progress, Report, State, TrialId, seed_of

CONSTRAINT = "diverged"
CLOCK_DIGITS = 4  # of a second


@dataclass
class OpenTrial:
    """A running trial. step: of its last report, in updates. fault: why it cannot be judged, if so.

    clock: seconds of training until each report, of all members together. members: the value of each at each report,
    where there are several. truncated: it ends early, as a good trial.
    """

    trial: Trial
    values: list[float]
    step: int
    clock: list[float]
    members: list[list[float]]
    fault: str = ""
    truncated: bool = False


class FamilyStudy:
    """A study of one family. Checked when it is made; nothing is written before `attach`."""

    def __init__(self, plan: StudyPlan, terms: Terms) -> None:
        self.plan, self.terms = plan, terms
        self.axes = plan.axes
        self.sampling = Sampling(plan.sampler, self.axes, terms.seed, plan.family.name)
        self.sampling.check()
        self.pruner = pruning.build_pruner(plan.pruner, len(terms.report_steps))
        self.start_points = start_points(plan, self.axes, whole=self.sampling.is_grid)
        self.open: dict[int, OpenTrial] = {}
        self.trials_taken_over: list[TrialId] = []  # from this family's earlier studies, by this process
        self.failures: list[str] = []  # of this process: what stands in the journal may have been mended since

    def attach(self, storage: optuna.storages.BaseStorage) -> None:
        """Begin the study in `storage`, or take it up where it stands."""
        self.study = self._create_or_load(storage)
        if "extends" in self.study.user_attrs:
            self.sampling = self.sampling.without_repeats()
        pruning.set_up_brackets(self.study)
        self._enqueue_start()
        trials = self.study.get_trials(deepcopy=False)
        started = [trial for trial in trials if trial.state != TrialState.WAITING]
        self.waiting = deque(trial.number for trial in trials if trial.state == TrialState.WAITING)
        self.n_sampled = sum(not {"queued", "origin"} & trial.user_attrs.keys() for trial in started)
        self.n_started = len(started) - sum("retry_of" in trial.user_attrs for trial in trials)
        self.n_start_points = len(self.study.user_attrs["start"])  # points, those of earlier commands too
        self.open = {trial.number: self._restore(trial) for trial in started if trial.state == TrialState.RUNNING}
        self.stall_counter = StallCounter(self.terms.objective)
        for trial in started:
            if trial.state.is_finished() and trial.user_attrs["state"] != "failed":
                self.stall_counter.add(trial.number, trial.value if trial.user_attrs["state"] == "complete" else None)
        self.stopped_at: int | None = self.study.user_attrs.get("stopped")
        self._note_stop()

    # --- the trials there are -----------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """How many trials there will be in all."""
        if not self.axes.searched:
            return min(self.plan.n_trials, max(1, self.n_start_points))
        if self.sampling.point_count is None:
            return self.plan.n_trials
        return min(self.plan.n_trials, self.sampling.point_count + self.n_start_points)

    @property
    def can_ask(self) -> bool:
        """Whether a trial may be asked for now."""
        begins = self.n_started < self.limit and (bool(self.waiting) or not self.has_stalled)
        return begins and len(self.open) < self.terms.concurrent

    @property
    def has_stalled(self) -> bool:
        """Whether so many trials have not beaten the best that it asks for no more; an open one may still do so."""
        return self.plan.stop is not None and self.stall_counter.trials_since_best >= self.plan.stop

    @property
    def has_succeeded(self) -> bool:
        """Whether a trial ended other than by failing, or an open one has reported."""
        ended = (trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished())
        return any(open.values for open in self.open.values()) or any(
            trial.user_attrs["state"] != "failed" for trial in ended
        )

    def progress(self) -> Progress:
        trials = self.study.get_trials(deepcopy=False)
        counts: Counter[State] = Counter(trial.user_attrs["state"] for trial in trials if trial.state.is_finished())
        complete = [trial for trial in trials if trial.user_attrs.get("state") == "complete"]
        values = [float(trial.value) for trial in complete if trial.value is not None]
        best = self.terms.objective.best(values) if values else None
        best_trial = complete[values.index(best)].number if best is not None else None
        given_up = counts["failed"] - sum("retry_of" in trial.user_attrs for trial in trials)
        return Progress(self.plan.name, self.plan.family.name, self.limit, dict(counts), best, best_trial, given_up)

    def history(self) -> tuple[tuple[float | None, ...], Floats]:
        """The objective of each trial that ended, in that order, None unless it is complete; the LR of the best."""
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.datetime_complete is not None]
        in_order = sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))
        values = tuple(trial.value if trial.user_attrs.get("state") == "complete" else None for trial in in_order)
        best = self.progress().best_trial
        if best is None or self.plan.family.controller is not None:  # the journal has no LR of what reacts
            return values, np.empty(0)
        return values, self.jobs(best)[0].lr_S

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        """The jobs of the open trials, and the step of their last report."""
        return [(self.jobs(number), open.step) for number, open in self.open.items()]

    # --- ask, report, tell --------------------------------------------------------------------------

    def ask(self) -> tuple[Job, ...]:
        """The jobs of the next trial: a start point or one tried again if there is any, else a sampled one."""
        number = self.waiting.popleft() if self.waiting else None
        self.study.sampler = self.sampling.sampler_for_ask(
            *([self.n_sampled] if number is None else ["queued", number])
        )
        trial = self.study.ask(fixed_distributions=dict(self.axes.distributions))
        seed = trial.user_attrs.get("seed", self.terms.seed)
        trial.set_user_attr("seeds", [seed_of(seed, "member", member) for member in range(len(self.terms.partitions))])
        self.open[trial.number] = OpenTrial(trial, [], 0, [], [])
        self.n_sampled += number is None
        self.n_started += 1
        return self.jobs(trial.number)

    def report(self, number: int, reports: Sequence[Report]) -> bool:
        """Take in one report of every member; whether to stop the trial."""
        if len(reports) != len(self.terms.partitions):
            raise ValueError(f"{len(reports)} reports of a trial with {len(self.terms.partitions)} members")
        open = self.open[number]
        seconds = (open.clock[-1] if open.clock else 0.0) + sum(report.seconds for report in reports)
        open.clock.append(round(seconds, CLOCK_DIGITS))
        open.trial.set_user_attr("clock", list(open.clock))
        ended_badly = [report.step for report in reports if report.state in ("diverged", "failed")]
        open.step = min(ended_badly or [report.step for report in reports])
        if ended_badly:
            return False
        of_members = self.terms.objective.member_values(reports)
        value = combine_members(of_members)
        is_last = open.step == self.terms.steps
        if math.isnan(value):  # Optuna would store a NaN, prune for it and learn nothing from it
            open.fault = f"{self.terms.objective.metric} is not finite"
            return not is_last
        open.values.append(value)
        if len(of_members) > 1:
            open.members.append(of_members)
            open.trial.set_user_attr(f"members/{len(open.members)}", of_members)
        open.trial.report(value, self.terms.report_steps.index(open.step) + 1)
        if is_last or open.trial.should_prune():
            return not is_last
        rule = self.terms.early_stopping
        open.truncated = rule is not None and rule.is_due(open.values, self.terms.objective)
        return open.truncated

    def tell(self, number: int, state: State, reason: str) -> Ending:
        """End a trial. One whose objective was not finite has diverged, whatever else it is said to be."""
        open = self.open.pop(number)
        if open.fault and state in ("complete", "pruned"):
            state, reason = "diverged", open.fault
        if open.truncated and state == "pruned":
            state, reason = "complete", f"ended early, at update {open.step}: {KEY}"
            open.trial.set_user_attr("truncated", True)
        for name, said in (("state", state), ("reason", reason), ("step", open.step)):
            open.trial.set_user_attr(name, said)
        value, measures, given_up = None, {}, False
        self.study.sampler = self.sampling.sampler_for_tell(number)
        match state:
            case "complete":
                value = self.terms.objective.trial_value(open.values)
                measures = self.terms.objective.measures(open.values, open.members)
                open.trial.set_user_attr("measures", measures)
                self._tell_success(open, state, value)
            case "pruned":
                self._tell_success(open, state, None)
            case "diverged":
                self._tell_diverged(open)
            case "failed":
                self.study.tell(open.trial, state=TrialState.FAIL)
                self.failures.append(f"{self.plan.name} trial {number}: {reason or 'no reason given'}")
                given_up = not self._retry(open.trial)
            case "running":
                raise ValueError("a running trial has not ended")
        if state != "failed":
            self.stall_counter.add(number, value)
        self._note_stop()
        return Ending(TrialId(self.plan.name, number), state, open.step, value, reason, measures, given_up)

    def _note_stop(self) -> None:
        """In the journal: after how many trials the study has stalled; None while it has not, or some are open."""
        over = self.has_stalled and not self.open and not self.waiting
        stopped = self.n_started if over and self.n_started < self.limit else None
        if stopped != self.stopped_at:
            self.study.set_user_attr("stopped", stopped)
            self.stopped_at = stopped

    def _tell_success(self, open: OpenTrial, state: State, value: float | None) -> None:
        optuna_state, constraint = self._optuna_end(state)
        if constraint is not None:
            open.trial.set_constraint(CONSTRAINT, constraint)
        self.study.tell(open.trial, value, optuna_state)

    def _tell_diverged(self, open: OpenTrial) -> None:
        left = _unfinished_fraction(open.step, self.terms.steps)
        penalty = self.terms.objective.penalty(self.terms.untrained_loss, left)
        open.trial.report(penalty, len(open.values) + 1)
        optuna_state, constraint = self._optuna_end("diverged", left)
        if constraint is not None:
            open.trial.set_constraint(CONSTRAINT, constraint)
        self.study.tell(open.trial, penalty if optuna_state == TrialState.COMPLETE else None, optuna_state)

    def _optuna_end(self, state: State, left: float | None = None) -> tuple[TrialState, float | None]:
        """What this study's sampler is told of a trial that ended so: Optuna's state, and a constraint if any.

        left: the fraction of its updates that a diverged trial did not finish.
        """
        if left is not None:
            return (
                TrialState.PRUNED if self.sampling.can_use_pruned_trials else TrialState.COMPLETE,
                left if self.sampling.can_use_constraints else None,
            )
        optuna_state = TrialState.COMPLETE if state == "complete" else TrialState.PRUNED
        return optuna_state, -1.0 if self.sampling.has_constraint_on_every_trial else None

    def _retry(self, failed: Trial) -> bool:
        """Have a failed trial tried again, if it was not too often; whether it is."""
        attrs = failed.user_attrs
        retries = attrs.get("retries", 0)
        if retries >= self.terms.max_retries:
            return False
        again = {"retry_of": failed.number, "retries": retries + 1}
        self._enqueue(failed.params, {**again, **({"seed": attrs["seed"]} if "seed" in attrs else {})})
        self.n_started -= 1
        return True

    # --- in the journal -----------------------------------------------------------------------------

    def _create_or_load(self, storage: optuna.storages.BaseStorage) -> optuna.Study:
        """The study in the journal. Raises InputError if it was begun with another space, sampler or pruner."""
        name, described = self.plan.name, self.plan.describe(self.terms, self.axes)
        given: dict[str, Any] = {"sampler": optuna.samplers.RandomSampler(seed=0), "pruner": self.pruner}
        if name not in {study.study_name for study in storage.get_all_studies()}:
            direction = self.terms.objective.direction
            study = optuna.create_study(study_name=name, storage=storage, direction=direction, **given)
            study.set_user_attr("plan", described)
            study.set_user_attr("start", [])
            if self.plan.extends:
                self._take_over(study, extending.earlier_studies(storage, name, described))
            return study
        study = optuna.load_study(study_name=name, storage=storage, **given)
        stored = study.user_attrs["plan"]
        for what, ours in described.items():
            if stored.get(what, ours) != ours:  # what an older version did not store is no difference
                raise InputError("study", name, f"was begun with another {what}", "Give it another name")
        return study

    def _take_over(self, study: optuna.Study, earlier: Sequence[extending.EarlierStudy]) -> None:
        """The trials of before that lie in this space; those that are running are trained here from the start."""
        for before in earlier:
            for trial, record, stored in extending.trials_within(before, self.axes):
                if record.state == "running":
                    seed = {"seed": trial.user_attrs["seed"]} if "seed" in trial.user_attrs else {}
                    study.enqueue_trial(dict(stored), {"queued": True, **seed})
                    continue
                left = _unfinished_fraction(record.steps_done, self.terms.steps) if record.state == "diverged" else None
                state, constraint = self._optuna_end(record.state, left)
                copy = extending.copy_trial(
                    trial,
                    (before.name, trial.number),
                    stored,
                    self.axes.distributions,
                    state=state,
                )
                if constraint is not None:
                    copy.set_constraint(CONSTRAINT, constraint)
                study.add_trial(copy)
                self.trials_taken_over.append(record.trained_as)
        if earlier:
            study.set_user_attr("extends", {before.name: len(before.trials) for before in earlier})

    def _enqueue_start(self) -> None:
        """Start points that are not in the study yet."""
        seeds: Sequence[int | None] = self.plan.start_seeds or [None] * len(self.start_points)
        wanted: list[list[Any]] = [[stored, seed] for stored, seed in zip(self.start_points, seeds, strict=True)]
        known = self.study.user_attrs["start"]
        if wanted[: len(known)] != known and wanted:
            raise InputError(
                f"search.start.{self.plan.family.name}",
                None,
                f"this study was begun with other start points: {[stored for stored, _ in known]}",
                "Keep those, in that order, and add new ones after them",
            )
        for stored, seed in wanted[len(known) :]:
            self.study.enqueue_trial(stored, {"queued": True, **({} if seed is None else {"seed": seed})})
        if len(wanted) > len(known):
            self.study.set_user_attr("start", wanted)

    def _enqueue(self, stored: Mapping[str, Scalar], attrs: Mapping[str, int]) -> None:
        self.study.enqueue_trial(dict(stored), {"queued": True, **attrs})
        self.waiting.append(self.study.get_trials(deepcopy=False)[-1].number)

    def _restore(self, trial: FrozenTrial) -> OpenTrial:
        values = [value for _, value in sorted(trial.intermediate_values.items())]
        attrs = trial.user_attrs
        members = [attrs[f"members/{report}"] for report in range(1, len(values) + 1) if f"members/{report}" in attrs]
        running = Trial(self.study, trial._trial_id)
        return OpenTrial(running, values, self.terms.step_after(len(values)), list(attrs.get("clock", ())), members)

    def jobs(self, number: int) -> tuple[Job, ...]:
        """The jobs of a trial, from what the journal holds of it, so that they are the same after a restart."""
        plan, terms = self.plan, self.terms
        stored = self.study.get_trials(deepcopy=False)[number]
        values = self.axes.values(stored.params)
        params = {name: values[name] for name in plan.family.space}
        lr_S = lr_trace(plan.family, params, terms.steps, epoch=terms.epoch)
        momentum_S = momentum_trace(plan.family, params, terms.steps, epoch=terms.epoch)
        controller = controller_of(plan.family, params)
        return tuple(
            Job(
                id=JobId(plan.name, number, member),
                family=plan.family.name,
                params=params,
                seed=seed,
                lr_S=lr_S,
                report_steps=terms.report_steps,
                momentum_S=momentum_S,
                hparams={name: values[name] for name in plan.hparams},
                partition=partition,
                parts=terms.parts,
                controller=controller,
            )
            for member, (seed, partition) in enumerate(zip(stored.user_attrs["seeds"], terms.partitions, strict=True))
        )


def _unfinished_fraction(diverged_step: int, steps: int) -> float:
    """The fraction of its updates that a diverged trial did not finish."""
    return 1 - (max(diverged_step, 1) - 1) / steps
