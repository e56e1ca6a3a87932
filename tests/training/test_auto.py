"""The trainer that `auto` chooses, for which sweeps, and its line to the user."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.tasks.convolutional import ResNet
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised
from sweeper.training import auto
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.types import Job, JobId

SGD = OptimizerSpec("torch.optim.SGD", {"momentum": 0.9, "nesterov": True})
TASK = Supervised(Digits(), partial(MLP, width=32, depth=1))
LONG = 100_000  # jobs; they are not trained here


class Unlucky(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(64, outputs)

    def forward(self, x):
        raise RuntimeError("out of luck")


class Attentive(Unlucky):
    def forward(self, x):
        x = self.layer(x.flatten(1))
        return x if x.sum().item() > 0 else -x


def job(steps=1000, lr=0.1, **more):
    return Job(JobId("cosine", 0, 0), "cosine", {}, 3, np.full(steps, lr), (steps,), **more)


def choose(task=TASK, jobs=LONG, jobs_at_once=32, example=None, device="cpu"):
    return auto.choose(
        task,
        Recipe(SGD, 16),
        example or job(),
        auto.Load(jobs, jobs_at_once, pruned=True),
        device=device,
    )


def test_a_short_sweep_is_not_worth_choosing_for():
    choice = choose(jobs=2, example=job(20))
    assert choice.trainer == {"_target_": auto.SEQUENTIAL}
    assert choice.why == "one trial at a time: the sweep is short"


def test_a_model_that_cannot_be_stacked_is_trained_alone_and_why():
    choice = choose(Supervised(Digits(), Attentive))
    assert choice.trainer == {"_target_": auto.SEQUENTIAL}
    assert choice.why.startswith("one trial at a time: the model's forward pass needs the value of a tensor")


def test_a_model_that_fails_is_left_to_its_first_trial():
    assert choose(Supervised(Digits(), Unlucky)) == ({"_target_": auto.SEQUENTIAL}, "", 0.0)


@pytest.mark.slow  # times a few widths
def test_what_is_timed_is_said_and_changes_nothing():
    example, before = job(momentum_S=np.full(1000, 0.8)), torch.get_rng_state()
    choice = choose(example=example)
    node = {"width": 1, "compiled": False, **choice.trainer}
    trials = "one trial at a time" if node["width"] == 1 else f"{node['width']} trials at once"
    assert choice.why.startswith(trials)
    assert (", compiled: " in choice.why) == node["compiled"]
    assert choice.why.endswith("(measured)")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(example.lr_S, np.full(1000, 0.1))


def timed(width, update):
    return auto.Timing(width, update, 1 / width)


ALONE, GAIN, NONE = timed(1, 1.0), auto.Gain(0.8, 1.0, 100.0), auto.Gain(0.0, 1.0, 100.0)
WAYS = {  # stacks timed, compiled and timed, what compiling promises, updates: width, compiled or not, how it is known
    "nothing can be stacked": ([], [], GAIN, 1e6, (1, False, "")),
    "stacks are slower": ([(4, 1.1), (8, 1.4)], [], NONE, 1e6, (1, False, "measured")),
    "stacks gain no more than noise": ([(4, 0.99)], [], NONE, 1e6, (1, False, "measured")),
    "the fastest stack": ([(4, 0.5), (8, 0.3), (16, 0.4)], [], NONE, 1e6, (8, False, "measured")),
    "too few updates to repay compiling": ([(4, 0.5), (8, 0.3)], [], GAIN, 100, (8, False, "measured")),
    "enough of them": ([(4, 0.5), (8, 0.3)], [], GAIN, 10_000, (8, True, "predicted")),
    "what is saved of a narrow stack is more": ([(4, 0.34), (8, 0.3)], [], GAIN, 10_000, (4, True, "predicted")),
    "compiling makes a stack worth it": ([(4, 1.1)], [], GAIN, 10_000, (4, True, "predicted")),
    "it was compiled and is faster": ([(4, 0.5), (8, 0.3)], [(4, 0.25)], GAIN, 10_000, (4, True, "measured")),
    "it was compiled and is no faster": ([(4, 0.5), (8, 0.3)], [(4, 0.49)], GAIN, 10_000, (8, False, "measured")),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_way_that_takes_the_least_time_in_all(way):
    stacked, compiled, gain, updates, (width, is_compiled, how) = WAYS[way]
    choice = auto._choose_fastest(
        ALONE, [timed(*one) for one in stacked], [timed(*one) for one in compiled], gain, updates
    )
    assert (choice.trainer.get("width", 1), choice.trainer.get("compiled", False)) == (width, is_compiled)
    assert choice.why.endswith(f"({how})" if how else "one trial at a time")


@pytest.mark.parametrize(("updates", "tried"), [
    (1e4, []),  # 37 seconds are allowed, where compiling should take 100
    (7e4, [4]),  # 262, then 315: the first took 300
    (1e6, [4, 16]),  # two are enough
])  # fmt: skip
def test_as_many_stacks_are_compiled_as_the_sweep_is_long_enough_for(updates, tried, monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(auto.time, "perf_counter", lambda: clock[0])

    def update_of(width):
        seen.append(width)
        clock[0] += 300.0
        return 0.1 * width

    stacked = [timed(8, 0.3), timed(4, 0.325), timed(16, 0.2)]  # 0.2, 0.125 and 0.15 are promised
    found = auto._time_compiled(update_of, stacked, GAIN, updates)
    assert [one.width for one in found] == seen == tried
    assert [one.update for one in found] == [0.1 * width for width in tried]


def test_what_compiling_promises_by_the_model_and_the_machine(monkeypatch):
    monkeypatch.setattr(auto, "has_compiled", lambda: True)
    monkeypatch.setattr(auto, "resolve_device", torch.device)  # a GPU need not be there
    mlp, small = auto._predict_gain(TASK, job(), "cpu", 1e-4), 1e-4
    assert mlp == pytest.approx((auto.SAVED * 4 * small, auto.FUSED, 2 * (auto.ONCE + 4 * auto.EACH)))
    deep = auto._predict_gain(Supervised(Digits(), ResNet), job(), "cpu", small)
    assert deep.saved > mlp.saved
    assert deep.fused == 1.0
    assert deep.seconds > mlp.seconds
    for nothing in (
        auto._predict_gain(TASK, job(), "cuda", small),
        auto._predict_gain(Supervised(Digits(), partial(ResNet, norm="group")), job(), "cpu", small),
    ):
        assert nothing[:2] == (0.0, 1.0)
        assert nothing.seconds >= mlp.seconds
    monkeypatch.setattr(auto, "has_compiled", lambda: False)
    assert auto._predict_gain(TASK, job(), "cpu", small).seconds == pytest.approx(mlp.seconds + 2 * auto.FIRST)


def test_compiling_leaves_a_third_of_the_time_at_least():
    assert auto._predicted_update(timed(4, 0.3), auto.Gain(100.0, 1.0, 0.0)) == pytest.approx(0.1)


def test_a_small_pass_is_timed_by_the_clock_it_is_given():
    ticks = itertools.count(0, 3e-4 * auto.PASSES)
    assert auto._time_small_pass(lambda: next(ticks)) == pytest.approx(3e-4)


def test_stacks_are_widened_until_they_are_slower_or_trials_do_not_fill_them():
    seen = []

    def update_of(width):
        seen.append(width)
        return 1e-5 * {4: 3, 8: 2, 16: 1, 32: 5}.get(width, 9)

    assert [one.width for one in auto._time_stacks(update_of, 1000)] == seen == [4, 8, 16, 32]
    seen.clear()
    assert [one.width for one in auto._time_stacks(update_of, 6)] == seen == [4, 8]
    assert auto._time_stacks(update_of, 1) == []


def test_what_is_near_the_best_is_timed_again_and_the_least_counts():
    looks = {4: iter([0.9, 0.8, 0.8, 0.8]), 8: iter([2.0, 0.7, 0.7, 0.7])}
    before = [timed(1, 5.0), timed(4, 1.0), timed(8, 1.1)]
    after = [timed(1, 5.0), timed(4, 0.8), timed(8, 0.7)]
    assert auto._remeasure(before, lambda width: next(looks[width]), updates=1e9) == after


@pytest.mark.parametrize(("width", "jobs", "stacks"), [(8, 8, 1 / 8), (8, 6, 1 / 6), (4, 6, 2 / 6), (16, 33, 3 / 33)])
def test_lanes_that_stay_empty_are_paid_by_the_others(width, jobs, stacks):
    assert auto._stacks_per_job(width, jobs) == pytest.approx(stacks)
