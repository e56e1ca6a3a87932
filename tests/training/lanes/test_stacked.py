"""Rows against torch.optim alone, and against each other."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sweeper.training.lanes.stacked import Rule, rule_of, stacking_obstacle, static_options
from sweeper.training.optimizers.optim import all_options, set_lr_and_momentum
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.types import Floats, Value

STEPS, WIDTH = 120, 19  # no multiple of a vector register's width
HParams = Mapping[str, Value]


class PublishedLion(torch.optim.Optimizer):
    """lion_pytorch.Lion: its signature and its arithmetic."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        use_triton: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override] # no closure
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                average = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - lr * group["weight_decay"])
                p.add_((average * beta1).add(p.grad, alpha=1 - beta1).sign_(), alpha=-lr)
                average.mul_(beta2).add_(p.grad, alpha=1 - beta2)


@pytest.fixture(autouse=True)
def lion_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lion_pytorch")
    module.Lion = PublishedLion  # type: ignore[attr-defined] # a module made here
    monkeypatch.setitem(sys.modules, "lion_pytorch", module)


def several(name: str, *values: Value) -> list[HParams]:
    return [{f"optimizer.{name}": value} for value in values]


SGD, ADAM, ADAMW, NADAM, RADAM = (f"torch.optim.{name}" for name in ("SGD", "Adam", "AdamW", "NAdam", "RAdam"))
RMSPROP, LION = "torch.optim.RMSprop", "pytorch_optimizer.Lion"
CASES: dict[str, tuple[OptimizerSpec, list[HParams]]] = {
    "sgd": (OptimizerSpec(SGD), [{}, {}, {}]),
    "sgd decay": (OptimizerSpec(SGD), several("weight_decay", 0.0, 1e-3, 0.1)),
    "sgd momentum": (OptimizerSpec(SGD), several("momentum", 0.5, 0.9, 0.99)),
    "sgd nesterov": (
        OptimizerSpec("torch.optim.sgd.SGD", {"nesterov": True, "weight_decay": 0.01}),
        several("momentum", 0.5, 0.9, 0.95),
    ),
    "sgd dampening": (OptimizerSpec(SGD, {"momentum": 0.9, "weight_decay": 0.01}), several("dampening", 0.1, 0.5, 0.9)),
    "adagrad": (
        OptimizerSpec("torch.optim.Adagrad", {"weight_decay": 0.01, "initial_accumulator_value": 0.1}),
        [*several("lr_decay", 0.0, 1e-3), {"optimizer.initial_accumulator_value": 2.0, "optimizer.eps": 0.1}],
    ),
    "adadelta": (
        OptimizerSpec("torch.optim.Adadelta", {"weight_decay": 0.01}),
        [*several("rho", 0.9, 0.5), {"optimizer.eps": 1e-3}],
    ),
    "rmsprop": (OptimizerSpec(RMSPROP), [*several("alpha", 0.9, 0.99), {"optimizer.eps": 1e-2}]),
    "rmsprop centered momentum": (
        OptimizerSpec(RMSPROP, {"centered": True, "momentum": 0.9, "weight_decay": 0.01}),
        [*several("momentum", 0.5, 0.9), {"optimizer.alpha": 0.9}],
    ),
    "rmsprop momentum": (OptimizerSpec(RMSPROP), several("momentum", 0.5, 0.9, 0.95)),
    "adam": (OptimizerSpec(ADAM), several("betas", (0.9, 0.999), (0.0, 0.9), (0.5, 0.5))),
    "adam coupled": (OptimizerSpec(ADAM), several("weight_decay", 0.0, 1e-2, 0.3)),
    "adam amsgrad": (OptimizerSpec(ADAM, {"amsgrad": True}), several("eps", 1e-8, 1e-3, 1.0)),
    "adamw": (OptimizerSpec(ADAMW), several("weight_decay", 0.0, 1e-2, 0.3)),
    "adamw amsgrad": (OptimizerSpec(ADAMW, {"betas": [0.9, 0.95], "amsgrad": True}), [{}, *several("eps", 1e-3, 0.1)]),
    "nadam": (OptimizerSpec(NADAM), several("momentum_decay", 0.0, 4e-3, 0.1)),
    "nadam coupled": (
        OptimizerSpec(NADAM, {"weight_decay": 0.05}),
        several("betas", (0.9, 0.999), (0.5, 0.9), (0.0, 0.9)),
    ),
    "nadam decoupled": (
        OptimizerSpec(NADAM, {"decoupled_weight_decay": True}),
        several("weight_decay", 0.0, 0.05, 0.2),
    ),
    "radam": (OptimizerSpec(RADAM), several("betas", (0.9, 0.999), (0.5, 0.9), (0.0, 0.5))),
    "radam coupled": (OptimizerSpec(RADAM), several("weight_decay", 0.0, 1e-2, 0.3)),
    "radam decoupled": (
        OptimizerSpec(RADAM, {"decoupled_weight_decay": True}),
        several("weight_decay", 0.0, 0.05, 0.2),
    ),
    "adamax": (OptimizerSpec("torch.optim.Adamax"), several("betas", (0.9, 0.999), (0.5, 0.9), (0.0, 0.5))),
    "adamax coupled": (OptimizerSpec("torch.optim.Adamax", {"eps": 1e-3}), several("weight_decay", 0.0, 1e-2, 0.3)),
    "lion": (OptimizerSpec(LION), several("betas", (0.9, 0.99), (0.95, 0.98), (0.5, 0.9))),
    "lion decay": (OptimizerSpec(LION), several("weight_decay", 0.0, 0.1, 1.0)),
    "lion fixed decay": (OptimizerSpec(LION, {"fixed_decay": True}), several("weight_decay", 0.0, 1e-3, 1e-2)),
    "lion coupled": (OptimizerSpec(LION, {"weight_decouple": False}), several("weight_decay", 0.01, 0.1, 1.0)),
    "lion of lion_pytorch": (OptimizerSpec("lion_pytorch.Lion"), several("weight_decay", 0.0, 0.1, 1.0)),
}
FUSED = ("sgd", "adam", "adamw", "adagrad")  # torch has a fused update
MOVING = {  # momentum can be moved by a schedule
    name: case for name, case in CASES.items() if not name.startswith(("adagrad", "adadelta"))
}


def start_of(lane: int) -> Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(lane), dtype=torch.float64)


@functools.cache
def noise() -> Tensor:
    """[S, P]."""
    return torch.randn(STEPS, WIDTH, generator=torch.Generator().manual_seed(99), dtype=torch.float64)


def gradient_of(weight: Tensor, step: int) -> Tensor:
    """Of a noisy quadratic, each row alone."""
    return 0.7 * (weight - 1) + noise()[step].to(weight.dtype)


def lr_of(lane: int) -> Floats:
    """High at once, down, up, and nothing for a while in its midst and at its end."""
    lr_S = 0.02 / (1 + lane) * np.cos(np.linspace(0.1, 3.1, STEPS)) ** 2
    lr_S[40:45] = lr_S[-5:] = 0
    return lr_S


def momentum_of(lane: int) -> Floats:
    return np.linspace(0.95, 0.6 + 0.1 * lane, STEPS)


def alone(spec: OptimizerSpec, hparams: HParams, lane: int, momentum_S: Floats | None = None, **how: bool) -> Tensor:
    """Weights [S, P] of torch's own optimizer, after each update."""
    module, _, name = spec.target.rpartition(".")
    weight = torch.nn.Parameter(start_of(lane))
    kind = getattr(importlib.import_module(module), name)
    optimizer = kind([weight], lr=1e-3, **all_options(spec, hparams) | ({} if "lion" in module else how))
    after = []
    for step, lr in enumerate(lr_of(lane).tolist()):
        set_lr_and_momentum(optimizer, lr, None if momentum_S is None else float(momentum_S[step]))
        weight.grad = gradient_of(weight.detach(), step)
        optimizer.step()
        after.append(weight.detach().clone())
    return torch.stack(after)


class Stack:
    """Rows of one rule; each lane has a job of its own and stands at a step of its own."""

    def __init__(self, spec: OptimizerSpec, dtype: torch.dtype = torch.float64) -> None:
        self.spec, self.dtype = spec, dtype
        self.weight, self.states, self.jobs, self.steps = torch.empty(0), [], [], []  # type: ignore[var-annotated]
        self.rule: Rule

    def begin(self, jobs: Sequence[tuple[HParams, int]], moving: bool = False) -> Stack:
        rules = {rule_of(self.spec, hparams, momentum_of(lane) if moving else None) for hparams, lane in jobs}
        (rule,) = rules
        assert rule is not None
        self.rule, self.moving = rule, moving
        self.weight = torch.zeros(len(jobs), WIDTH, dtype=self.dtype)
        self.states = [torch.zeros_like(self.weight) for _ in rule.states]
        self.jobs, self.steps = list(jobs), [0] * len(jobs)
        for row in range(len(jobs)):
            self.refill(row, jobs[row])
        return self

    def refill(self, row: int, job: tuple[HParams, int]) -> None:
        self.jobs[row], self.steps[row] = job, 0
        self.weight[row] = start_of(job[1])
        for state, start in zip(self.states, self.rule.initial_values(all_options(self.spec, job[0])), strict=True):
            state[row] = start

    def block(self, size: int) -> Tensor:
        """Coefficients of the next updates, [S, C, L]."""
        rows = []
        for (hparams, lane), first in zip(self.jobs, self.steps, strict=True):
            momentum_S = momentum_of(lane) if self.moving else None
            rows.append(
                self.rule.coefficients(
                    all_options(self.spec, hparams),
                    lr_of(lane)[first : first + size],
                    None if momentum_S is None else momentum_S[first : first + size],
                    first,
                    *([] if momentum_S is None else [momentum_S[:first]]),
                )
            )
        return torch.from_numpy(np.stack(rows, axis=2)).to(self.dtype)

    def train(
        self,
        updates: int,
        size: int = 10,
        update: Callable[..., None] | None = None,
        spoil: Callable[[Tensor], None] = lambda gradient: None,
    ) -> Tensor:
        """Weights after each update, [S, L, P]."""
        after = []
        for _ in range(updates // size):
            for coefficient in self.block(size):
                rows = zip(self.weight, self.steps, strict=True)
                gradient = torch.stack([gradient_of(weight, step) for weight, step in rows])
                spoil(gradient)
                (update or self.rule.update)(self.weight, gradient, self.states, list(coefficient[:, :, None]))
                self.steps = [step + 1 for step in self.steps]
                after.append(self.weight.clone())
        return torch.stack(after)


def jobs_of(every: Sequence[HParams]) -> list[tuple[HParams, int]]:
    return [(hparams, lane) for lane, hparams in enumerate(every)]


def close(a: Tensor, b: Tensor, relative: float) -> bool:
    return bool((a.double() - b.double()).abs().max() <= relative * b.double().abs().max())


@pytest.mark.parametrize("name", CASES)
def test_each_row_is_the_optimizer_alone(name: str) -> None:
    spec, every = CASES[name]
    stacked = Stack(spec).begin(jobs_of(every)).train(STEPS)
    for lane, hparams in enumerate(every):
        assert close(stacked[:, lane], alone(spec, hparams, lane, foreach=False), 1e-12), lane


@pytest.mark.parametrize("name", MOVING)
def test_a_schedules_momentum_goes_before_the_optimizers(name: str) -> None:
    spec, every = MOVING[name]
    if "dampening" in name:
        options = {key: value for key, value in spec.options.items() if key != "momentum"}
        spec = replace(spec, options=options)  # the row alone gives it
    stacked = Stack(spec).begin(jobs_of(every), moving=True).train(STEPS)
    for lane, hparams in enumerate(every):
        expected = alone(spec, hparams, lane, momentum_of(lane), foreach=False)
        assert close(stacked[:, lane], expected, 1e-12), lane


@pytest.mark.parametrize("name", CASES)
def test_lanes_at_different_steps(name: str) -> None:
    spec, every = CASES[name]
    stack = Stack(spec).begin(jobs_of(every))
    stack.train(30)
    stack.refill(1, (every[1], 7))
    stack.train(10)
    stack.refill(0, (every[2], 8))
    stacked = stack.train(70)
    assert close(stacked[:, 0], alone(spec, every[2], 8, foreach=False)[:70], 1e-12)
    assert close(stacked[:, 1], alone(spec, every[1], 7, foreach=False)[10:80], 1e-12)
    assert close(stacked[:, 2], alone(spec, every[2], 2, foreach=False)[40:110], 1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name.partition(" ")[0] in FUSED])
def test_the_fused_update_is_near(name: str) -> None:
    spec, every = CASES[name]
    stacked = Stack(spec).begin(jobs_of(every)).train(STEPS)
    for lane, hparams in enumerate(every):
        assert close(stacked[:, lane], alone(spec, hparams, lane, fused=True), 1e-9), lane


@pytest.mark.parametrize("name", [name for name in CASES if "lion" not in name])  # a sign turns where rounding does
def test_float32_is_near_float64(name: str) -> None:
    spec, every = CASES[name]
    narrow = Stack(spec, torch.float32).begin(jobs_of(every)).train(STEPS)
    assert narrow.dtype == torch.float32
    assert close(narrow, Stack(spec).begin(jobs_of(every)).train(STEPS), 1e-4 if "centered" in name else 2e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_knows_neither_its_slot_nor_its_neighbours(name: str, dtype: torch.dtype) -> None:
    spec, every = CASES[name]
    jobs = [*jobs_of(every), (every[0], 3), (every[1], 4)]
    plain = Stack(spec, dtype).begin(jobs).train(60)

    def spoil(gradient: Tensor) -> None:
        gradient[1, 3:], gradient[4] = torch.nan, torch.inf

    spoiled = Stack(spec, dtype).begin(jobs).train(60, spoil=spoil)
    assert not torch.equal(plain[:, 1], spoiled[:, 1])
    assert torch.equal(plain[:, [0, 2, 3]], spoiled[:, [0, 2, 3]])
    order = [3, 1, 4, 0, 2]
    moved = Stack(spec, dtype).begin([jobs[lane] for lane in order]).train(60, size=20)
    assert torch.equal(plain[:, order], moved)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_compiled_update_is_the_same(name: str) -> None:
    spec, every = CASES[name]
    stack = Stack(spec).begin(jobs_of(every))
    compiled = torch.compile(stack.rule.update, fullgraph=True)
    assert close(stack.train(60, update=compiled), Stack(spec).begin(jobs_of(every)).train(60), 1e-12)


def test_lions_published_update_by_hand() -> None:
    """Algorithm 2 of arXiv 2302.06675, two updates of one weight."""
    spec = OptimizerSpec(LION, {"betas": [0.9, 0.99], "weight_decay": 0.5})
    rule, options = rule_of(spec), all_options(spec, {})
    assert rule is not None
    weight, (average,) = torch.tensor([[2.0]], dtype=torch.float64), [torch.zeros(1, 1, dtype=torch.float64)]
    rows = torch.from_numpy(rule.coefficients(options, np.array([0.1, 0.2]), None, 0))
    for gradient, row in zip((4.0, -0.1), rows, strict=True):
        rule.update(weight, torch.tensor([[gradient]], dtype=torch.float64), [average], list(row[:, None, None]))
    # m1 = .01 * 4 = .04, w1 = 2 - .1 (1 + .5 * 2) = 1.8; c2 = .9 * .04 - .1 * .1 = .026, w2 = 1.8 - .2 (1 + .9) = 1.42
    assert weight.item() == pytest.approx(1.42, rel=1e-15)
    assert average.item() == pytest.approx(0.99 * 0.04 - 0.01 * 0.1, rel=1e-15)


def test_lanes_of_one_stack_share_the_program_and_not_the_numbers() -> None:
    spec = OptimizerSpec(ADAMW)
    rules = {rule_of(spec, hparams) for hparams in [{}, *several("weight_decay", 0.0, 0.1), *several("eps", 1e-3)]}
    assert len(rules) == 1
    assert rule_of(spec, {"optimizer.amsgrad": True}) not in rules
    sgd = OptimizerSpec(SGD, {"momentum": 0.9})
    assert static_options(sgd) == static_options(sgd, {"optimizer.momentum": 0.5})
    assert static_options(sgd) != static_options(sgd, {"optimizer.momentum": 0.0})
    assert static_options(OptimizerSpec(SGD)) != static_options(sgd)
    assert static_options(sgd, {}, np.zeros(3)) == static_options(OptimizerSpec(SGD))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (OptimizerSpec("torch.optim.Muon"), "torch.optim.Muon has no rule"),
        (OptimizerSpec(SGD, {"maximize": True}), "optimizer.maximize=True"),
        (OptimizerSpec(ADAM, {"capturable": True}), "optimizer.capturable=True"),
        (OptimizerSpec(LION, {"cautious": True}), "optimizer.cautious=True"),
        (OptimizerSpec("lion_pytorch.Lion", {"decoupled_weight_decay": True}), "optimizer.decoupled_weight_decay=True"),
    ],
)
def test_what_cannot_be_stacked_says_why(spec: OptimizerSpec, words: str) -> None:
    reason = stacking_obstacle(spec)
    assert reason is not None
    assert words in reason
    assert rule_of(spec) is None


def test_a_momentum_that_stops_for_a_while_is_not_stacked() -> None:
    spec, momentum_S = OptimizerSpec(SGD, {"momentum": 0.9}), np.array([0.9, 0.0, 0.9])
    assert "is 0 in some updates" in str(stacking_obstacle(spec, {}, momentum_S))
    assert rule_of(OptimizerSpec(ADAM), {}, momentum_S) is not None


def test_nadam_asks_for_the_momentum_of_earlier_updates() -> None:
    rule, options = rule_of(OptimizerSpec(NADAM)), all_options(OptimizerSpec(NADAM), {})
    assert rule is not None
    with pytest.raises(ValueError, match="earlier_S"):
        rule.coefficients(options, np.ones(2), np.full(2, 0.9), 5)


def test_the_options_of_a_lane() -> None:
    options = all_options(OptimizerSpec(ADAMW, {"betas": [0.8, 0.9]}), {"optimizer.eps": 0.1, "model.dropout": 0.5})
    assert (options["betas"], options["eps"], options["weight_decay"]) == ((0.8, 0.9), 0.1, 0.01)
    assert "lr" not in options
