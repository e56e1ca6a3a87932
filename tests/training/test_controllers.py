"""Each controller against its library, many trainings at once; and what a trainer does with one."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sweeper.schedules.reactive import CONTROLLERS as DECLARED
from sweeper.training.controllers import CONTROLLERS, STARTS, Course, observe, restore_course, save_course, start_course
from sweeper.types import Job, JobId, Report

RUNS, REPORTS = 300, 60
MODES = [(mode, threshold) for mode in ("min", "max") for threshold in ("rel", "abs")]
Array = NDArray[np.float64]


def seen(seed: int) -> Array:
    """Metrics [R, L] that fall, level off, jump, repeat themselves, are negative, and sometimes are no numbers."""
    random = np.random.default_rng(seed)
    fall = random.uniform(0, 0.2, RUNS) * np.arange(REPORTS)[:, None]
    noise = random.normal(size=(REPORTS, RUNS)) * random.choice([0.0, 0.02, 0.3], RUNS)
    seen_RL = np.round(random.uniform(-2, 3, RUNS) - np.minimum(fall, 2) + noise, random.choice([1, 3, 12]))
    seen_RL[random.random(seen_RL.shape) < 0.02] = np.nan
    return seen_RL


def drawn(seed: int, **choices: tuple[float, ...]) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {name: random.choice(np.array(values, dtype=float), RUNS) for name, values in choices.items()}


def mults(name: str, seen_RL: Array, **numbers: Any) -> Array:
    """mult after each report, [R, L], of all trainings at once."""
    state: Any = {field: np.full(RUNS, value) for field, value in STARTS[name].items()}
    found = []
    for seen_L in seen_RL:
        state = CONTROLLERS[name](state, seen_L, **numbers)
        found.append(state["mult"])
    return np.array(found)


def of_scheduler(scheduler: Any, seen_R: Array) -> list[float]:
    found = []
    for value in seen_R:
        scheduler.step(float(value))
        found.append(scheduler.optimizer.param_groups[0]["lr"])
    return found


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def direction(mode: str) -> str:
    return {"min": "minimize", "max": "maximize"}[mode]


# --- the rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "threshold_mode"), MODES)
def test_plateau_is_torchs(mode: str, threshold_mode: str) -> None:
    seen_RL = seen(1)
    numbers = drawn(
        2,
        decay=(0.1, 0.5, 0.9),
        patience=(0, 1, 2, 5),
        threshold=(0, 1e-4, 0.1, 1),
        cooldown=(0, 1, 3),
        floor=(0, 0.01, 0.3),
    )
    found_RL = mults("plateau", seen_RL, **numbers, threshold_mode=threshold_mode, direction=direction(mode))
    for run in range(RUNS):
        own = {name: float(values[run]) for name, values in numbers.items()}
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            sgd(),
            mode,  # type: ignore[arg-type]  # parametrized
            own["decay"],
            int(own["patience"]),
            own["threshold"],
            threshold_mode,  # type: ignore[arg-type]  # parametrized
            int(own["cooldown"]),
            own["floor"],
        )
        assert found_RL[:, run].tolist() == of_scheduler(scheduler, seen_RL[:, run])
    assert len(np.unique(found_RL)) > 10


class Keras:
    """ReduceLROnPlateau.on_epoch_end of keras 3.15, written out with an LR of 1 and without its float32 min_lr."""

    def __init__(self, mode: str, factor: float, patience: float, min_delta: float, cooldown: float, min_lr: float):
        self.mode, self.factor, self.patience = mode, factor, patience
        self.min_delta, self.cooldown, self.min_lr = min_delta, cooldown, min_lr
        self.lr, self.cooldown_counter, self.wait = 1.0, 0.0, 0.0
        self.best = np.inf if mode == "min" else -np.inf

    def monitor_op(self, current: float) -> bool:
        if self.mode == "min":
            return bool(np.less(current, self.best - self.min_delta))
        return bool(np.greater(current, self.best + self.min_delta))

    def in_cooldown(self) -> bool:
        return self.cooldown_counter > 0

    def on_epoch_end(self, current: float) -> float:
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.monitor_op(current):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self.lr > self.min_lr:
                self.lr = max(self.lr * self.factor, self.min_lr)
                self.cooldown_counter = self.cooldown
                self.wait = 0
        return self.lr


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_keras_is_the_published_rule(mode: str) -> None:
    seen_RL = seen(3)
    numbers = drawn(
        4,
        decay=(0.1, 0.5, 0.9),
        patience=(0, 1, 2, 5),
        threshold=(0, 1e-4, 0.1),
        cooldown=(0, 1, 3),
        floor=(0, 0.01, 0.3),
    )
    found_RL = mults("plateau_keras", seen_RL, **numbers, direction=direction(mode))
    order = ("decay", "patience", "threshold", "cooldown", "floor")
    for run in range(RUNS):
        keras = Keras(mode, *(float(numbers[name][run]) for name in order))
        assert found_RL[:, run].tolist() == [keras.on_epoch_end(float(value)) for value in seen_RL[:, run]]
    assert len(np.unique(found_RL)) > 10


def test_keras_drops_one_report_earlier_and_rests_one_less() -> None:
    flat_RL = np.zeros((12, RUNS))
    common: dict[str, Any] = {"decay": 0.5, "patience": 2, "threshold": 1e-4, "cooldown": 2, "floor": 0.0}
    torchs = mults("plateau", flat_RL, **common, threshold_mode="abs", direction="minimize")[:, 0]
    keras = mults("plateau_keras", flat_RL, **common, direction="minimize")[:, 0]
    assert np.flatnonzero(np.diff(torchs, prepend=1.0)).tolist() == [3, 8]
    assert np.flatnonzero(np.diff(keras, prepend=1.0)).tolist() == [2, 5, 8, 11]


@pytest.mark.parametrize(("mode", "threshold_mode"), MODES)
def test_greedy_is_transformers(mode: str, threshold_mode: str) -> None:
    from transformers.optimization import GreedyLR

    seen_RL = seen(5)
    numbers = drawn(
        6,
        decay=(0.3, 0.5, 0.95),
        patience=(0, 1, 3),
        threshold=(0, 1e-6, 0.1),
        cooldown=(0, 1, 3),
        hold=(0, 1, 3),
        floor=(0.01, 0.3),
        ceiling=(1, 2, 100),
        reset=(1, 2, 500),
    )
    found_RL = mults("greedy", seen_RL, **numbers, threshold_mode=threshold_mode, direction=direction(mode))
    for run in range(RUNS):
        own = {name: float(values[run]) for name, values in numbers.items()}
        scheduler = GreedyLR(
            sgd(),
            mode,
            own["decay"],
            int(own["patience"]),
            own["threshold"],
            threshold_mode,
            int(own["cooldown"]),
            int(own["hold"]),
            own["floor"],
            own["ceiling"],
            reset_start=int(own["reset"]),
        )
        assert found_RL[:, run].tolist() == of_scheduler(scheduler, seen_RL[:, run])
    assert len(np.unique(found_RL)) > 10


@pytest.mark.parametrize(
    ("shape", "middle"),
    [("cosine", 0.55), ("linear", 0.55), ("1-sqrt", 0.1 + 0.9 * (1 - 0.5**0.5)), ("exponential", 0.1**0.5)],
)
def test_wall_time_falls_with_the_seconds_and_stays_at_its_end(shape: str, middle: float) -> None:
    seconds_RL = np.tile(np.array([0.0, 1.0, 4.0, 2.5, 2.5, 9.0])[:, None], RUNS)  # of each report
    mult_R = mults("wall_time", seconds_RL, budget=np.full(RUNS, 10.0), shape=shape, decay=np.full(RUNS, 0.1))[:, 0]
    assert mult_R[0] == 1.0
    assert mult_R[2] == pytest.approx(middle, rel=1e-15)
    assert mult_R[4:] == pytest.approx([0.1, 0.1], rel=1e-15)
    assert (np.diff(mult_R[:5]) < 0).all()


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_a_controller_takes_the_numbers_that_a_family_may_give_it(name: str) -> None:
    taken = [one.name for one in inspect.signature(CONTROLLERS[name]).parameters.values()][2:]
    assert taken == [one.name for one in DECLARED[name] if one.name != "metric"]
    assert list(CONTROLLERS) == list(DECLARED) == list(STARTS)


# --- in a training ----------------------------------------------------------------------------------

ID = JobId("plateau", 0, 0)
TRACE = np.linspace(1.0, 0.1, 12)
DROPPING = {"name": "plateau", "decay": 0.5, "patience": 0, "threshold": 0.0, "threshold_mode": "abs", "cooldown": 0}
DROPPING |= {"floor": 0.0, "metric": "valid/loss", "direction": "minimize"}


def job(**changes: Any) -> Job:
    controller = {**DROPPING, **changes}
    return Job(ID, "plateau", {}, 0, TRACE, (3, 6, 9, 12), controller=controller)


def report(step: int, valid: float, state: Any = "running", train: float = 1.0) -> Report:
    return Report(ID, step, {"train/loss": np.full(3, train)}, {"valid/loss": valid}, 1.0, state)


def after(course: Course, *reports: Report) -> Course:
    for one in reports:
        course, same = observe(course, one)
        assert same is one
    return course


def test_what_is_seen_changes_the_updates_that_follow() -> None:
    course = after(start_course(job()), report(3, 1.0), report(6, 2.0))
    np.testing.assert_array_equal(course.job.lr_S, TRACE * np.repeat([1.0, 1.0, 0.5, 0.5], 3))
    course = after(course, report(9, 3.0))
    np.testing.assert_array_equal(course.job.lr_S, TRACE * np.repeat([1.0, 1.0, 0.5, 0.25], 3))
    np.testing.assert_array_equal(course.planned_S, TRACE)


def test_the_mean_training_loss_since_the_last_report_may_be_watched() -> None:
    of = job(metric="train/loss")
    course = after(start_course(of), report(3, 1.0, train=1.0), report(6, 0.5, train=1.0))
    assert course.state["mult"] == 0.5


def test_a_job_without_a_controller_and_one_that_ended_go_on_as_they_are() -> None:
    plain = Job(ID, "constant", {}, 0, TRACE, (3, 6, 9, 12))
    course = start_course(plain)
    assert after(course, report(3, 1.0)) is course
    course = after(start_course(job()), report(3, 1.0))
    assert after(course, report(12, 9.0, "complete")) is course


def test_a_report_without_the_metric_fails_the_job() -> None:
    before = start_course(job(metric="valid/f1"))
    course, told = observe(before, report(3, 1.0))
    assert course is before
    assert (told.state, told.step) == ("failed", 3)
    assert told.reason == "its schedule reacts to valid/f1, but the metrics are valid/loss"


def test_a_course_survives_a_checkpoint(tmp_path: Any) -> None:
    course = after(start_course(job()), report(3, 1.0), report(6, 2.0))
    torch.save(save_course(course), tmp_path / "state.pt")
    again = restore_course(job(), torch.load(tmp_path / "state.pt", weights_only=True))
    assert {name: float(value) for name, value in again.state.items()} == {
        name: float(value) for name, value in course.state.items()
    }
    further = [report(9, 3.0), report(9, 0.1)]
    for one in further:
        np.testing.assert_array_equal(after(again, one).job.lr_S, after(course, one).job.lr_S)
    assert save_course(start_course(Job(ID, "constant", {}, 0, TRACE, (12,)))) == {}
