"""Reactive schedules: lr[t] = trace[t] * mult[t], where mult depends on what a training reports.

A controller is a pure function `(state, observed, **hyperparameters) -> state`, float64, elementwise over trainings [L]
or for one. What it observes at a report takes effect from the next update on, and mult is constant between reports.
Counts, such as `patience`, are in reports. sweeper/schedules/reactive.py has the hyperparameters and their bounds.

The guide's page of schedules is made from the docstrings, in the form that sweeper/schedules/decays.py describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch

from sweeper.types import Floats, InputError, Job, Report, Value

State = Mapping[str, Floats]

EPS = 1e-8  # smaller changes of mult are ignored, as in torch and transformers

_WATCHING = {"mult": 1.0, "best": np.inf, "bad": 0.0, "rest": 0.0}
STARTS: Mapping[str, Mapping[str, float]] = {
    "plateau": _WATCHING,
    "plateau_keras": _WATCHING,
    "greedy": {**_WATCHING, "good": 0.0, "held": 0.0, "stuck": 0.0},
    "wall_time": {"mult": 1.0, "elapsed": 0.0},
}


# --- the controllers --------------------------------------------------------------------------------


def plateau(
    state: State,
    observed_L: Floats,
    *,
    decay: Floats,
    patience: Floats,
    threshold: Floats,
    threshold_mode: str,
    cooldown: Floats,
    floor: Floats,
    direction: str,
) -> State:
    """Lowers the LR by a factor when the metric has not improved for too long, by PyTorch's rule.

    Formula: bad counts reports without a new best; when bad > patience: mult = max(mult * decay, floor)
    Equals: torch ReduceLROnPlateau
    Differs: the threshold is absolute by default. With a relative one a metric below 0 never counts as bad, even when
        it slowly worsens (pytorch/pytorch#47513). The metric is watched during the warmup too
    Founding notes: "performance-based decay" names no rule. This one and `plateau_keras` are the two in use.
    decay: factor of a drop
    patience: reports without a new best that are tolerated. One more, and the LR drops
    threshold: how much better the metric must be to count as an improvement
    threshold_mode: abs: by this amount; rel: by this share of the best
    cooldown: reports after a drop that are not counted
    floor: the lowest mult
    metric: what is watched: `valid/loss`, another validation metric, or `train/loss`, averaged since the last report
    direction: which is better: minimize or maximize
    """
    better_L, best_L = _compare(state, observed_L, threshold, threshold_mode, direction)
    resting_L = state["rest"] > 0
    bad_L = np.where(better_L | resting_L, 0.0, state["bad"] + 1)
    drops_L = bad_L > patience
    lower_L = np.maximum(state["mult"] * decay, floor)
    return {
        "mult": np.where(drops_L & (state["mult"] - lower_L > EPS), lower_L, state["mult"]),
        "best": best_L,
        "bad": np.where(drops_L, 0.0, bad_L),
        "rest": np.where(drops_L, cooldown, state["rest"] - resting_L),
    }


def plateau_keras(
    state: State,
    observed_L: Floats,
    *,
    decay: Floats,
    patience: Floats,
    threshold: Floats,
    cooldown: Floats,
    floor: Floats,
    direction: str,
) -> State:
    """Lowers the LR by a factor when the metric has not improved for long enough, by Keras's rule.

    Formula: bad counts reports without a new best; when bad >= patience: mult = max(mult * decay, floor)
    Equals: keras ReduceLROnPlateau
    Differs: from `plateau`, it drops one report earlier for the same patience, and its cooldown is one report shorter.
        At the floor it continues counting
    decay: factor of a drop
    patience: reports without a new best at which the LR drops
    threshold: how much better the metric must be to count as an improvement (Keras: min_delta)
    cooldown: reports after a drop that are not counted, except the last one
    floor: the lowest mult
    metric: what is watched, as in `plateau`
    direction: which is better: minimize or maximize
    """
    rest_L = np.maximum(state["rest"] - 1, 0.0)
    bad_L = np.where(state["rest"] > 0, 0.0, state["bad"])
    better_L, best_L = _compare(state, observed_L, threshold, "abs", direction)
    bad_L = np.where(better_L, 0.0, bad_L + (rest_L <= 0))
    drops_L = ~better_L & (rest_L <= 0) & (bad_L >= patience) & (state["mult"] > floor)
    return {
        "mult": np.where(drops_L, np.maximum(state["mult"] * decay, floor), state["mult"]),
        "best": best_L,
        "bad": np.where(drops_L, 0.0, bad_L),
        "rest": np.where(drops_L, cooldown, rest_L),
    }


def greedy(
    state: State,
    observed_L: Floats,
    *,
    decay: Floats,
    patience: Floats,
    threshold: Floats,
    threshold_mode: str,
    cooldown: Floats,
    hold: Floats,
    floor: Floats,
    ceiling: Floats,
    reset: Floats,
    direction: str,
) -> State:
    """Raises the LR while the metric improves, and lowers it while it does not.

    Formula: good > patience: mult = min(mult / decay, ceiling); bad > patience: mult = max(mult * decay, floor)
    Source: GreedyLR, arXiv 2512.14527
    Equals: transformers GreedyLR (without its smoothing: a report is a mean already)
    Differs: floor and ceiling are multiples of the trace. In transformers they are LRs, and its default floor, 1e-3,
        keeps an LR that starts below it from ever falling
    decay: factor of a drop; a rise is by 1 / decay
    patience: consecutive reports, all improved or none, that are tolerated. One more, and the LR changes
    threshold: how much better the metric must be to count as an improvement
    threshold_mode: abs: by this amount; rel: by this share of the best
    cooldown: reports after a drop that are not counted
    hold: reports after a rise that are not counted (transformers: warmup)
    floor: the lowest mult
    ceiling: the highest mult
    reset: drops at the floor after which mult restarts at 1
    metric: what is watched, as in `plateau`
    direction: which is better: minimize or maximize
    """
    resting_L, holding_L = state["rest"] > 0, (state["rest"] <= 0) & (state["held"] > 0)
    looks_L = ~resting_L & ~holding_L
    better_L, best_L = _compare(state, observed_L, threshold, threshold_mode, direction)
    good_L = np.where(looks_L & better_L, state["good"] + 1, 0.0)
    bad_L = np.where(looks_L & ~better_L, state["bad"] + 1, 0.0)
    rises_L, drops_L = good_L > patience, bad_L > patience
    mult_L, higher_L = state["mult"], np.minimum(state["mult"] / decay, ceiling)
    lower_L = np.maximum(mult_L * decay, floor)
    mult_L = np.where(rises_L & (higher_L - mult_L > EPS), higher_L, mult_L)
    mult_L = np.where(drops_L & (mult_L - lower_L > EPS), lower_L, mult_L)
    stuck_L = np.where(rises_L, 0.0, state["stuck"] + (drops_L & (mult_L <= floor)))
    resets_L = drops_L & (mult_L <= floor) & (stuck_L >= reset)
    return {
        "mult": np.where(resets_L, 1.0, mult_L),
        "best": np.where(resets_L, np.inf, np.where(looks_L, best_L, state["best"])),
        "good": np.where(rises_L, 0.0, good_L),
        "bad": np.where(drops_L, 0.0, bad_L),
        "rest": np.where(drops_L, cooldown, state["rest"] - resting_L),
        "held": np.where(rises_L, hold, state["held"] - holding_L),
        "stuck": np.where(resets_L, 0.0, stuck_L),
    }


def wall_time(state: State, observed_L: Floats, *, budget: Floats, shape: str, decay: Floats) -> State:
    """Lowers the LR with the time that training has taken, independent of the number of updates.

    No run repeats another exactly, since the result depends on the machine's speed.

    Formula: mult = A(s(u)), u = min(seconds / budget, 1); exponential: mult = f^u
    Differs: mult changes at reports only. Trials that train side by side count their share of the time
    Founding notes: they call it time-based decay. Elsewhere that name means `inverse_time`.
    budget: seconds of training until the end
    shape: s: cosine c(u), linear 1-u, 1-sqrt 1-sqrt(u), or exponential
    decay: f = final mult
    """
    elapsed_L = state["elapsed"] + observed_L  # seconds since the last report
    u_L = np.minimum(elapsed_L / budget, 1.0)
    return {"mult": _decay_curve(u_L, shape, decay), "elapsed": elapsed_L}


def _decay_curve(u_L: Floats, shape: str, decay: Floats) -> Floats:
    """Return mult, which falls from 1 at u = 0 to `decay` at u = 1."""
    if shape == "exponential":
        return np.asarray(np.power(decay, u_L), dtype=np.float64)
    shape_L = {"cosine": (1 + np.cos(np.pi * u_L)) / 2, "linear": 1 - u_L, "1-sqrt": 1 - np.sqrt(u_L)}[shape]
    mult_L: Floats = decay + (1 - decay) * shape_L
    return mult_L


def _compare(state: State, observed_L: Floats, threshold: Floats, mode: str, direction: str) -> tuple[Any, Floats]:
    """Return whether the observed value is an improvement, and the new best.

    `best` is stored as a value to minimize. NaN is never an improvement.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    value_L, best_L = sign * observed_L, state["best"]
    with np.errstate(invalid="ignore"):  # the first best is infinite
        wanted_L = best_L * (1.0 - sign * threshold) if mode == "rel" else best_L - threshold
    better_L = value_L < wanted_L
    return better_L, np.where(better_L, value_L, best_L)


# --- in a training ----------------------------------------------------------------------------------


class Course(NamedTuple):
    """A job and the state of its controller.

    Attributes:
        job: The job. Its `lr_S` holds the LR as used until now, and as planned after that.
        planned_S: Its original `lr_S`, float64 [S].
        state: State of the controller; empty without one.
    """

    job: Job
    planned_S: Floats
    state: State


def start_course(job: Job) -> Course:
    """Return the course before the first update."""
    start = STARTS[str(job.controller["name"])] if job.controller is not None else {}
    return Course(job, job.lr_S, {name: np.asarray(value) for name, value in start.items()})


def observe(course: Course, report: Report) -> tuple[Course, Report]:
    """Return the course after a report of its job, and the report.

    If the report lacks the metric that the controller watches, it comes back with the state "failed".
    """
    controller = course.job.controller
    if controller is None or report.state != "running":
        return course, report
    observed = _observation(controller, report)
    if observed is None:
        reason = f"its schedule reacts to {controller['metric']}, but the metrics are {', '.join(report.metrics)}"
        return course, replace(report, state="failed", reason=reason)
    params = {name: value for name, value in controller.items() if name not in ("name", "metric")}
    state = CONTROLLERS[str(controller["name"])](course.state, np.asarray(observed), **params)
    lr_S = np.concatenate([course.job.lr_S[: report.step], course.planned_S[report.step :] * state["mult"]])
    return course._replace(job=replace(course.job, lr_S=lr_S), state=state), report


def check_controller(job: Job) -> None:
    """Check that the trial is evaluated on what its controller watches.

    Raises:
        InputError: If it is not.
    """
    if job.controller is None:
        return
    part = str(job.controller.get("metric", "train/loss")).partition("/")[0]
    if part not in ("train", *job.parts[1:]):
        problem = f"the trial is not evaluated on {part}, but its schedule reacts to it"
        raise InputError(f"schedule.{job.family}.metric", job.controller["metric"], problem, "Use train/loss")


class SavedCourse(TypedDict, total=False):
    """A course in a checkpoint. Empty without a controller.

    Attributes:
        controller: State of the controller by name.
        lr: The job's LR as used until now, and as planned after that, float64 [S].
    """

    controller: dict[str, float]
    lr: torch.Tensor


def save_course(course: Course) -> SavedCourse:
    """Return a course in the form that a checkpoint holds."""
    if course.job.controller is None:
        return {}
    return {
        "controller": {name: float(value) for name, value in course.state.items()},
        "lr": torch.from_numpy(course.job.lr_S),
    }


def restore_course(job: Job, saved: SavedCourse) -> Course:
    """Return the course of a job as it was saved."""
    course = start_course(job)
    if job.controller is None:
        return course
    state = {name: np.asarray(value) for name, value in saved["controller"].items()}
    return course._replace(job=replace(job, lr_S=saved["lr"].numpy().copy()), state=state)


CONTROLLERS: Mapping[str, Any] = {one.__name__: one for one in (plateau, plateau_keras, greedy, wall_time)}


def _observation(controller: Mapping[str, Value], report: Report) -> float | None:
    """Return what the controller observes of a report; None if the report lacks it."""
    if controller["name"] == "wall_time":
        return report.seconds
    if controller["metric"] == "train/loss":
        return float(np.mean(report.traces["train/loss"]))
    return report.metrics.get(str(controller["metric"]))
