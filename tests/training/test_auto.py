"""The trainer that `auto` picks: what a sweep is for which it picks it, and what it says."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised
from torch import nn

from sweeper.training import auto
from sweeper.types import Job, JobId

SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9, "nesterov": True}
TASK = Supervised(Digits(), partial(MLP, width=32, depth=1))
LONG = 100_000  # trainings: nobody waits for them here


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
        SGD,
        example or job(),
        batch_size=16,
        device=device,
        precision="float32",
        norms=True,
        jobs=jobs,
        jobs_at_once=jobs_at_once,
        pruned=True,
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
    assert choose(Supervised(Digits(), Unlucky)) == ({"_target_": auto.SEQUENTIAL}, "")


@pytest.mark.slow  # times a few widths
def test_what_is_timed_is_said_and_changes_nothing():
    example, before = job(momentum_S=np.full(1000, 0.8)), torch.get_rng_state()
    choice = choose(example=example)
    node = {"width": 1, "compiled": False, **choice.trainer}
    trials = "one trial at a time" if node["width"] == 1 else f"{node['width']} trials at once"
    assert choice.why.startswith(trials)
    assert (", compiled: " in choice.why) == node["compiled"]
    assert choice.why.endswith("(predicted)" if node["compiled"] else "(measured)")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(example.lr_S, np.full(1000, 0.1))


ALONE, GAIN = auto.Timed(1, 1.0), auto.Gain(1.5, 1.5, 100.0)
WAYS = {  # stacks timed, what compiling gains, updates: the width and whether it is compiled
    "nothing can be stacked": ([], GAIN, 1e6, (1, False)),
    "stacks are slower": ([(4, 1.1), (8, 1.4)], None, 1e6, (1, False)),
    "stacks gain no more than noise": ([(4, 0.99)], None, 1e6, (1, False)),
    "the fastest stack": ([(4, 0.5), (8, 0.3), (16, 0.4)], None, 1e6, (8, False)),
    "too few updates to repay compiling": ([(4, 0.5), (8, 0.3)], GAIN, 100, (8, False)),
    "enough of them": ([(4, 0.5), (8, 0.3)], GAIN, 10_000, (8, True)),
    "compiling makes a stack worth it": ([(4, 1.1)], GAIN, 10_000, (4, True)),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_way_that_takes_the_least_time_in_all(way):
    timed, gain, updates, expected = WAYS[way]
    choice = auto._cheapest(ALONE, [auto.Timed(*one) for one in timed], gain, updates)
    assert (choice.trainer.get("width", 1), choice.trainer.get("compiled", False)) == expected


def test_compiling_takes_longer_where_small_operations_do():
    ticks = itertools.count(0, 3 * auto.PASS * auto.PASSES)
    assert auto._slowness(lambda: next(ticks)) == pytest.approx(3)


def test_stacks_are_widened_until_they_are_slower_or_trials_do_not_fill_them():
    seen = []

    def update_of(width):
        seen.append(width)
        return 1e-5 * {4: 3, 8: 2, 16: 1, 32: 5}.get(width, 9)

    assert [one.width for one in auto._stacked(update_of, 1000)] == seen == [4, 8, 16, 32]
    seen.clear()
    assert [one.width for one in auto._stacked(update_of, 6)] == seen == [4, 8]
    assert auto._stacked(update_of, 1) == []


def test_what_is_near_the_best_is_timed_again_and_the_least_counts():
    looks = {4: iter([0.9, 0.8, 0.8, 0.8]), 8: iter([2.0, 0.7, 0.7, 0.7])}
    timed = [auto.Timed(1, 5.0), auto.Timed(4, 1.0), auto.Timed(8, 1.1)]
    assert auto._looked_again(timed, lambda width: next(looks[width]), updates=1e9) == [(1, 5.0), (4, 0.8), (8, 0.7)]


def test_on_a_gpu_nothing_is_compiled_unasked(monkeypatch):
    monkeypatch.setattr(auto, "resolve_device", torch.device)  # a GPU need not be there
    assert auto._gain(TASK, job(), "cuda") is None
    assert auto._gain(TASK, job(), "cpu") is auto.COMPILED["linear"]


@pytest.mark.parametrize(("width", "jobs", "share"), [(8, 8, 1.0), (8, 6, 8 / 6), (4, 6, 8 / 6), (16, 33, 48 / 33)])
def test_places_that_stay_empty_are_paid_by_the_others(width, jobs, share):
    assert auto._padding(width, jobs) == pytest.approx(share)
