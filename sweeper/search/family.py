"""The study of one family: ask, report and tell, and how many trials are open and still to come."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeper.schedules import controller_of, lr_trace, momentum_trace
from sweeper.search import extending, first_draws, pruning
from sweeper.search.objective import combine_members
from sweeper.search.plan import NO_VALUE, StudyPlan, Terms, start_points
from sweeper.search.records import given_up_trials
from sweeper.search.sampling import Sampling
from sweeper.search.stopping import KEY, StallCounter
from sweeper.search.tried import TriedPoints
from sweeper.types import Ending, Floats, InputError, Job, JobId, Progress, Report, State, TrialId, seed_of

CONSTRAINT = "diverged"
KEPT = ("seed", "replicate")  # attributes of a failed trial that its retry has too
CLOCK_DIGITS = 4  # decimals of a second


@dataclass
class OpenTrial:
    """A running trial.

    Attributes:
        trial: Optuna's trial.
        values: The objective's metric at each report.
        step: Updates finished at the last report.
        clock: Training seconds until each report, of all members together.
        members: At each report, the value of every member; empty for a single member.
        fault: Why it has no value, or "".
        truncated: Whether early stopping ended it.
    """

    trial: Trial
    values: list[float]
    step: int
    clock: list[float]
    members: list[list[float]]
    fault: str = ""
    truncated: bool = False


class FamilyStudy:
    """The study of one family.

    The constructor checks everything and raises InputError for what cannot be used. Nothing is written before `attach`.
    """

    def __init__(self, plan: StudyPlan, terms: Terms) -> None:
        self.plan, self.terms = plan, terms
        self.axes = plan.axes
        self.sampling = Sampling(
            plan.sampler,
            self.axes,
            terms.seed,
            n_shared=first_draws.count(plan.n_trials),
            n_random=min(first_draws.COUNT, terms.concurrent),
        )
        self.sampling.check()
        self.pruner = pruning.build_pruner(plan.pruner, len(terms.report_steps))
        self.start_points = start_points(plan, self.axes, whole=self.sampling.is_grid)
        self.open: dict[int, OpenTrial] = {}
        self.trials_taken_over: list[TrialId] = []  # by this process
        self.failures: list[str] = []  # of this process: the cause of an earlier command's failures may be fixed

    def attach(self, storage: optuna.storages.BaseStorage) -> None:
        """Start the study in `storage`, or resume it.

        Raises:
            InputError: It was started with another space, sampler, pruner or other start points.
        """
        self.storage, self.study = storage, self._create_or_load(storage)
        pruning.set_up_brackets(self.study)
        self._enqueue_start()
        trials = self.study.get_trials(deepcopy=False)
        started = [trial for trial in trials if trial.state != TrialState.WAITING]
        self.sampling = self._sampling_as_started(sum("origin" in trial.user_attrs for trial in started))
        self.n_sampled = sum(not {"queued", "origin"} & trial.user_attrs.keys() for trial in started)
        self.n_started = len(started) - sum("retry_of" in trial.user_attrs for trial in trials)
        self.tried = TriedPoints(self.axes.distributions, (trial.params for trial in started))
        self.open = {trial.number: self._restore(trial) for trial in started if trial.state == TrialState.RUNNING}
        self.stall_counter = StallCounter(self.terms.objective)
        for trial in started:
            if trial.state.is_finished() and trial.user_attrs["state"] != "failed":
                self.stall_counter.add(trial.number, trial.value if trial.user_attrs["state"] == "complete" else None)
        self.stopped_at: int | None = self.study.user_attrs.get("stopped")
        if self.plan.retries_only:
            self._queue_given_up_trials(trials)
        self._note_stop()

    def _sampling_as_started(self, n_taken_over: int) -> Sampling:
        """Return how points are proposed: as by the version that started the study.

        Args:
            n_taken_over: Trials from other studies. A model learns from them, so they take the place of shared points.
        """
        if "draws" not in self.study.user_attrs["plan"]:
            return self.sampling.as_earlier(self.plan.family.name)
        return replace(self.sampling, n_shared=max(0, self.sampling.n_shared - n_taken_over))

    # --- trials -------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """How many trials the study will have in all: fewer than wanted if no other point is left."""
        if self.tried.left is None:
            return self.plan.n_trials
        return min(self.plan.n_trials, self.n_started + len(self.waiting) + self.tried.left - self._n_new_in_queue)

    @property
    def _n_new_in_queue(self) -> int:
        """The number of points that are queued and were not tried. One that is not complete yet does not count."""
        queued = [trial.system_attrs["fixed_params"] for trial in self.waiting]
        whole = [point for point in queued if point.keys() == self.axes.searched.keys()]
        return TriedPoints(self.axes.distributions, [point for point in whole if point not in self.tried]).size

    @property
    def can_ask(self) -> bool:
        """Whether a trial may be asked for now."""
        if len(self.open) >= self.terms.concurrent:
            return False
        if self.plan.retries_only:
            return any("retry_of" in trial.user_attrs for trial in self.waiting)
        return self.n_started < self.limit and (bool(self.waiting) or not self.has_stalled)

    @property
    def waiting(self) -> list[FrozenTrial]:
        """The queued trials, in the order in which they are asked for: retries, then start points."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    @property
    def has_stalled(self) -> bool:
        """Whether too many trials have not beaten the best one (`search.stop`). An open trial may still beat it."""
        return self.plan.stop is not None and self.stall_counter.trials_since_best >= self.plan.stop

    @property
    def has_succeeded(self) -> bool:
        """Whether a trial ended without failing, or an open one has reported."""
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
        given_up = len(given_up_trials(trials))
        return Progress(self.plan.name, self.plan.family.name, self.limit, dict(counts), best, best_trial, given_up)

    def history(self) -> tuple[tuple[float | None, ...], Floats]:
        """Return the objective of each ended trial, and the LR of the best one.

        Returns:
            The objectives in the order in which the trials ended, None for those that are not complete; and the LR of
            the best trial, float64 [S], empty if there is none or the family is reactive.
        """
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.datetime_complete is not None]
        in_order = sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))
        values = tuple(trial.value if trial.user_attrs.get("state") == "complete" else None for trial in in_order)
        best = self.progress().best_trial
        if best is None or self.plan.family.controller is not None:  # the journal has no LR of a reactive family
            return values, np.empty(0)
        return values, self.jobs(best)[0].lr_S

    def resume(self) -> list[tuple[tuple[Job, ...], int]]:
        """Return the jobs of each open trial, with the step of its last report."""
        return [(self.jobs(number), open.step) for number, open in self.open.items()]

    # --- ask, report, tell --------------------------------------------------------------------------

    def ask(self) -> tuple[Job, ...]:
        """Return the jobs of the next trial: a queued one (a start point or a retry), or else a sampled one.

        A sampled point that was tried is replaced by another one, a queued point never.
        """
        number = next((trial.number for trial in self.waiting), None)
        self.study.sampler = (
            self.sampling.sampler_for_ask(self.n_sampled)
            if number is None
            else self.sampling.sampler_for_queued(number)
        )
        trial = self.study.ask(fixed_distributions=dict(self.axes.distributions))
        if number is None and trial.params in self.tried:
            trial = self._with_other_point(trial)
        self.tried.add(trial.params)
        trial.set_user_attr("seeds", self.member_seeds(trial.user_attrs.get("seed", self.terms.seed)))
        self.open[trial.number] = OpenTrial(trial, [], 0, [], [])
        self.n_sampled += number is None
        self.n_started += 1
        return self.jobs(trial.number)

    def _with_other_point(self, trial: Trial) -> Trial:
        """Replace the point of a trial that was just sampled by one that was not tried."""
        other = self.tried.draw_other(self.sampling.seed("other", self.n_sampled))
        for name, value in other.items():
            distribution = self.axes.distributions[name]
            self.storage.set_trial_param(trial._trial_id, name, distribution.to_internal_repr(value), distribution)
        return self._open_again(trial._trial_id)

    def member_seeds(self, seed: int) -> list[int]:
        """Return the seed of each member of a trial."""
        return [seed_of(seed, "member", member) for member in range(len(self.terms.partitions))]

    def report(self, number: int, reports: Sequence[Report]) -> bool:
        """Record one report of every member of a trial, and return whether to stop the trial.

        Raises:
            InputError: The objective's metric is not among the reported ones.
            ValueError: The number of reports is not the number of members.
        """
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
        if math.isnan(value):  # Optuna would store it, prune the trial and learn nothing
            bad = next(value for value in of_members if not math.isfinite(value))
            open.fault = f"{self.terms.objective.metric} is {bad:.4g} at update {open.step}"
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
        """End a trial. If its objective was not finite, `state` is replaced.

        A loss that is not finite is a divergence. Another metric without a value (AUROC of a single class) is not: the
        trial has failed. It is not retried, since it would give the same, and the sampler learns nothing from it.

        Raises:
            ValueError: The state is "running".
        """
        open = self.open.pop(number)
        has_no_value = bool(open.fault) and state in ("complete", "pruned")
        if has_no_value:
            state, reason = "diverged" if self.terms.objective.is_loss else "failed", open.fault
        if open.truncated and state == "pruned":
            state, reason = "complete", f"ended early, at update {open.step}: {KEY}"
            open.trial.set_user_attr("truncated", True)
        for name, attr in (("state", state), ("reason", reason), ("step", open.step)):
            open.trial.set_user_attr(name, attr)
        if has_no_value and state == "failed":
            open.trial.set_user_attr(NO_VALUE, True)
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
                given_up = has_no_value or not self._retry(open.trial)
            case "running":
                raise ValueError("a running trial has not ended")
        if state != "failed":
            self.stall_counter.add(number, value)
        self._note_stop()
        return Ending(TrialId(self.plan.name, number), state, open.step, value, reason, measures, given_up)

    def _note_stop(self) -> None:
        """Store after how many trials the study stopped; None while it has not, or while trials are open."""
        if self.plan.retries_only:  # a retry takes the place of a trial that was counted
            return
        is_over = self.has_stalled and not self.open and not self.waiting
        stopped_at = self.n_started if is_over and self.n_started < self.limit else None
        if stopped_at != self.stopped_at:
            self.study.set_user_attr("stopped", stopped_at)
            self.stopped_at = stopped_at

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
        """Return what the sampler learns of an ended trial: Optuna's state, and a constraint or None.

        Args:
            state: How the trial ended.
            left: Of a diverged trial, the fraction of its updates that it did not finish.
        """
        if left is not None:
            return (
                TrialState.PRUNED if self.sampling.can_use_pruned_trials else TrialState.COMPLETE,
                left if self.sampling.can_use_constraints else None,
            )
        optuna_state = TrialState.COMPLETE if state == "complete" else TrialState.PRUNED
        return optuna_state, -1.0 if self.sampling.has_constraint_on_every_trial else None

    def _retry(self, failed: Trial) -> bool:
        """Queue a failed trial again unless it has no retries left, and return whether it was queued."""
        if failed.user_attrs.get("retries", 0) >= self.terms.max_retries:
            return False
        self._enqueue_retry(failed)
        return True

    def _queue_given_up_trials(self, trials: Sequence[FrozenTrial]) -> None:
        """Queue again what was given up, and leave open whatever is no retry."""
        for failed in given_up_trials(trials):
            self._enqueue_retry(failed)
        self.open = {number: open for number, open in self.open.items() if "retry_of" in open.trial.user_attrs}

    # --- in the journal -----------------------------------------------------------------------------

    def _create_or_load(self, storage: optuna.storages.BaseStorage) -> optuna.Study:
        """Return the study in the journal, and create it if it is new.

        Raises:
            InputError: It was started with another space, sampler or pruner.
        """
        name, plan = self.plan.name, self.plan.describe(self.terms, self.axes)
        options: dict[str, Any] = {"sampler": optuna.samplers.RandomSampler(seed=0), "pruner": self.pruner}
        if name not in {study.study_name for study in storage.get_all_studies()}:
            direction = self.terms.objective.direction
            study = optuna.create_study(study_name=name, storage=storage, direction=direction, **options)
            study.set_user_attr("plan", plan)
            study.set_user_attr("start", [])
            if self.plan.extends:
                self._take_over(study, extending.earlier_studies(storage, name, plan))
            return study
        study = optuna.load_study(study_name=name, storage=storage, **options)
        stored = study.user_attrs["plan"]
        for key, value in plan.items():
            if stored.get(key, value) != value:  # an older version may not have stored the key
                raise InputError("study", name, f"was started with another {key}", "Give it another name")
        return study

    def _take_over(self, study: optuna.Study, earlier: Sequence[extending.EarlierStudy]) -> None:
        """Copy earlier trials inside this space to the study. Running ones are queued, to train from the start."""
        for source in earlier:
            for trial, record, point in extending.trials_within(source, self.axes):
                if record.state == "running":
                    seed = {"seed": trial.user_attrs["seed"]} if "seed" in trial.user_attrs else {}
                    study.enqueue_trial(dict(point), {"queued": True, **seed})
                    continue
                left = _unfinished_fraction(record.steps_done, self.terms.steps) if record.state == "diverged" else None
                state, constraint = self._optuna_end(record.state, left)
                copy = extending.copy_trial(
                    trial,
                    (source.name, trial.number),
                    point,
                    self.axes.distributions,
                    state=state,
                )
                if constraint is not None:
                    copy.set_constraint(CONSTRAINT, constraint)
                study.add_trial(copy)
                self.trials_taken_over.append(record.trained_as)
        if earlier:
            study.set_user_attr("extends", {source.name: len(source.trials) for source in earlier})

    def _enqueue_start(self) -> None:
        """Queue the start points that the study does not have yet."""
        seeds: Sequence[int | None] = self.plan.start_seeds or [None] * len(self.start_points)
        wanted: list[list[Any]] = [[stored, seed] for stored, seed in zip(self.start_points, seeds, strict=True)]
        known = self.study.user_attrs["start"]
        if wanted[: len(known)] != known and wanted:
            raise InputError(
                f"search.start.{self.plan.family.name}",
                None,
                f"this study was started with other start points: {[stored for stored, _ in known]}",
                "Keep them in that order and add new ones at the end",
            )
        for stored, seed in wanted[len(known) :]:
            self.study.enqueue_trial(stored, {"queued": True, **({} if seed is None else {"seed": seed})})
        if len(wanted) > len(known):
            self.study.set_user_attr("start", wanted)

    def _enqueue_retry(self, failed: Trial | FrozenTrial) -> None:
        """Queue a failed trial again: the same hyperparameters and seed, in place of the failed one."""
        attrs = failed.user_attrs
        retry = {"queued": True, "retry_of": failed.number, "retries": attrs.get("retries", 0) + 1}
        self.study.enqueue_trial(failed.params, {**retry, **{name: attrs[name] for name in KEPT if name in attrs}})
        self.n_started -= 1

    def _restore(self, trial: FrozenTrial) -> OpenTrial:
        """Return an open trial as the journal has it."""
        values = [value for _, value in sorted(trial.intermediate_values.items())]
        attrs = trial.user_attrs
        members = [attrs[f"members/{report}"] for report in range(1, len(values) + 1) if f"members/{report}" in attrs]
        running = self._open_again(trial._trial_id)
        return OpenTrial(running, values, self.terms.step_after(len(values)), list(attrs.get("clock", ())), members)

    def _open_again(self, id: int) -> Trial:
        """Return Optuna's handle of a running trial. It tells the sampler of a new trial, so a random one listens."""
        self.study.sampler = optuna.samplers.RandomSampler(seed=0)
        return Trial(self.study, id)

    def jobs(self, number: int) -> tuple[Job, ...]:
        """Return the jobs of a trial. They follow from the journal alone, so they are the same after a restart."""
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
    """Return the fraction of its updates that a diverged trial did not finish."""
    return 1 - (max(diverged_step, 1) - 1) / steps
