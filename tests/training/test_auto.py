"""The trainer that `auto` chooses, for which sweeps, and its line to the user."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

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
        auto.Load(jobs, jobs_at_once, processes=1, pruned=True),
        device=device,
    )


def test_a_short_sweep_is_not_worth_choosing_for():
    choice = choose(jobs=2, example=job(20))
    assert choice.trainer == {"_target_": auto.SEQUENTIAL}
    assert choice.why == "one trial at a time: the sweep is short"
    assert choice.is_short


def test_a_model_that_cannot_be_stacked_is_trained_alone_and_why():
    choice = choose(Supervised(Digits(), Attentive))
    assert choice.trainer == {"_target_": auto.SEQUENTIAL}
    assert choice.why.startswith("one trial at a time: the model's forward pass needs the value of a tensor")


def test_a_model_that_fails_is_left_to_its_first_trial():
    assert choose(Supervised(Digits(), Unlucky)) == ({"_target_": auto.SEQUENTIAL}, "", 0.0, False)


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


timed = auto.Timing
ALONE = timed(1, 1.0)
WAYS = {  # stacks timed, a compiled one: width, compiled or not, whether something was measured
    "nothing can be stacked": ([], None, (1, False, False)),
    "stacks are slower": ([(4, 1.1), (8, 1.4)], None, (1, False, True)),
    "stacks gain no more than noise": ([(4, 0.99)], None, (1, False, True)),
    "the fastest stack": ([(4, 0.5), (8, 0.3), (16, 0.4)], None, (8, False, True)),
    "it was compiled and is faster": ([(4, 0.35), (8, 0.3)], (4, 0.25), (4, True, True)),
    "it was compiled and is no faster": ([(4, 0.35), (8, 0.3)], (4, 0.298), (8, False, True)),
    "compiling makes a stack worth it": ([(4, 1.1)], (4, 0.8), (4, True, True)),
    "compiling failed": ([(4, 0.5)], (4, np.inf), (4, False, True)),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_fastest_way(way):
    stacked, compiled, (width, is_compiled, is_measured) = WAYS[way]
    choice = auto._choose_fastest(ALONE, [timed(*one) for one in stacked], compiled and timed(*compiled))
    assert (choice.trainer.get("width", 1), choice.trainer.get("compiled", False)) == (width, is_compiled)
    assert choice.why.endswith("(measured)" if is_measured else "one trial at a time")


@pytest.mark.parametrize(("stacked", "seconds", "width"), [
    ([(8, 0.5), (16, 0.4), (64, 0.4)], auto.LONG / 2, None),  # too short to repay compiling
    ([(8, 0.5), (16, 0.4), (64, 0.4)], auto.LONG, 8),  # the narrowest near the best
    ([(8, 0.6), (16, 0.4), (64, 0.4)], auto.LONG, 16),
    ([(4, 1.1)], auto.LONG, 4),
    ([(4, 1.5)], auto.LONG, None),  # far slower than one at a time
    ([(4, np.inf)], auto.LONG, None),
    ([], auto.LONG, None),
])  # fmt: skip
def test_a_long_sweep_compiles_the_narrowest_stack_near_the_best(stacked, seconds, width):
    candidates = [ALONE, *(timed(*one) for one in stacked)]
    updates = seconds / min(one.update for one in candidates)
    assert auto._width_to_compile(candidates, updates) == width


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
