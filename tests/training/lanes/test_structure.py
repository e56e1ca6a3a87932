"""Which models may be lanes of one stack: what is told apart, and what need not be."""

from __future__ import annotations

import functools
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.training.lanes.structure import attribute_texts, structure
from sweeper.training.randomness import Clock, count_dropout


def times(factor: float) -> Callable[[Any], Any]:
    return lambda x: x * factor


class Model(nn.Module):
    """`change` does something to it before its dropout is counted."""

    def __init__(self, change: Callable[[Model], Any] = lambda model: None, p: float = 0.1) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
        self.act, self.drop = nn.LeakyReLU(0.1), nn.Dropout(p)
        self.norm = nn.BatchNorm1d(3)
        self.note: Any = None
        change(self)


def of(change: Callable[[Model], Any] = lambda model: None, p: float = 0.1, seed: int = 0) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return structure(count_dropout(Model(change, p), Clock(seed)))


def noted(value: Any) -> Callable[[Model], Any]:
    return lambda model: setattr(model, "note", value)


def tied(model: Model) -> None:
    model.last.weight = model.first.weight


class Odd:
    def __init__(self, number: int) -> None:
        self.number = [{"deep": number}]


APART: dict[str, Callable[[Model], Any]] = {
    "an activation's slope": lambda m: setattr(m.act, "negative_slope", 0.2),
    "another layer": lambda m: setattr(m, "act", nn.Tanh()),
    "a layer more": lambda m: setattr(m, "more", nn.Identity()),
    "an attribute": noted(1),
    "its type": noted(1.0),
    "a tensor": noted(torch.zeros(3)),
    "its numbers": noted(torch.tensor([0.0, 0.0, 1.0])),
    "its precision": noted(torch.zeros(3, dtype=torch.bfloat16)),
    "an array": noted(np.arange(3)),
    "another array": noted(np.arange(1, 4)),
    "a list": noted([1, [2, 3]]),
    "a longer list": noted([1, [2, 3, 4]]),
    "a tuple": noted((1, [2, 3])),
    "a mapping": noted({"a": 1}),
    "a set": noted({1, 2}),
    "a function": noted(torch.tanh),
    "another function": noted(torch.relu),
    "a method of tensors": noted(torch.Tensor.relu),
    "a closure": noted(times(2)),
    "the same over another number": noted(times(3)),
    "a lambda": noted(lambda x: x + 1),
    "another lambda": noted(lambda x: x + 2),
    "a partial": noted(functools.partial(torch.clamp, min=0)),
    "another partial": noted(functools.partial(torch.clamp, min=1)),
    "an object": noted(Odd(1)),
    "an object in another state": noted(Odd(2)),
    "a generator": noted(random.Random(1)),
    "a generator elsewhere": noted(random.Random(2)),
    "a generator of torch": noted(torch.Generator().manual_seed(1)),
    "a generator of torch elsewhere": noted(torch.Generator().manual_seed(2)),
    "a layer that is not its own": lambda m: setattr(m, "note", [nn.Linear(2, 2)]),
    "its own layer": lambda m: setattr(m, "note", [m.first]),
    "its other layer": lambda m: setattr(m, "note", [m.last]),
    "a hook": lambda m: m.first.register_forward_hook(lambda *_: None),
    "another hook": lambda m: m.first.register_forward_hook(lambda *_: 1),
    "a frozen parameter": lambda m: m.first.weight.requires_grad_(False),
    "another frozen parameter": lambda m: m.last.weight.requires_grad_(False),
    "a shape": lambda m: setattr(m, "first", nn.Linear(4, 3)),
    "a precision": lambda m: m.first.double(),
    "a bias less": lambda m: setattr(m, "first", nn.Linear(3, 3, bias=False)),
    "a part in evaluation": lambda m: m.norm.eval(),
    "a momentum": lambda m: setattr(m.norm, "momentum", 0.2),
    "weights tied": tied,
    "one layer twice": lambda m: setattr(m, "last", m.first),
    "alpha dropout": lambda m: setattr(m, "drop", nn.AlphaDropout(0.1)),
    "alpha dropout of another p": lambda m: setattr(m, "drop", nn.AlphaDropout(0.2)),
    "dropout of channels": lambda m: setattr(m, "drop", nn.Dropout1d(0.1)),
    "a buffer": lambda m: m.register_buffer("more", torch.zeros(3)),
    "another buffer": lambda m: m.register_buffer("more", torch.zeros(3, dtype=torch.int64)),
}


def test_what_must_be_told_apart_is() -> None:
    digests = {"as it is": of()} | {name: of(change) for name, change in APART.items()}
    same: dict[str, list[str]] = {}
    for name, digest in digests.items():
        same.setdefault(digest, []).append(name)
    assert [names for names in same.values() if len(names) > 1] == []


def test_what_need_not_be_told_apart_is_not() -> None:
    assert of(seed=1) == of(seed=2)  # parameters
    assert of(p=0.0) == of(p=0.9)
    assert of(lambda m: m.norm.running_mean.fill_(3.0)) == of()  # type: ignore[union-attr] # a Tensor
    makers: dict[str, Callable[[], Any]] = {
        "tensor": lambda: torch.arange(3.0),
        "not contiguous": lambda: torch.arange(6.0).view(2, 3).t(),
        "with a gradient": lambda: torch.arange(3.0, requires_grad=True) * 2,
        "array of objects": lambda: np.array([1, "a", None], dtype=object),
        "set": lambda: {"a", "b", "c"},
        "closure": lambda: times(2),
        "object": lambda: Odd(3),
        "generator": lambda: np.random.default_rng(3),
        "torch generator": lambda: torch.Generator().manual_seed(3),
        "flat layer": lambda: nn.Linear(2, 2, bias=False).requires_grad_(False).apply(zeroed),
    }
    for name, make in makers.items():
        assert of(noted(make())) == of(noted(make())), name


def zeroed(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def test_layers_of_torch_are_alike() -> None:
    """Some keep lists of, and weak references to, their own parameters, or hooks with numbers of their own."""
    makers: list[Callable[[], nn.Module]] = [
        lambda: nn.LSTM(3, 3, num_layers=2, bidirectional=True),
        lambda: nn.GRU(3, 3),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.TransformerEncoderLayer(4, 2, 8),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.GELU()),
    ]
    for make in makers:
        assert structure(make()) == structure(make())


def test_objects_that_hold_each_other_end() -> None:
    def circle(model: Model) -> None:
        model.note = [model, {}]
        model.note[1]["again"] = model.note
        model.parent = weakref.ref(model)  # type: ignore[assignment] # neither a tensor nor a module

    assert of(circle) == of(circle) != of()


def test_what_cannot_be_looked_into_is_like_nothing() -> None:
    assert of(noted(threading.Lock())) != of(noted(threading.Lock()))


def test_described_names_the_attribute() -> None:
    one, other = attribute_texts(Model()), attribute_texts(Model(lambda m: setattr(m.act, "negative_slope", 0.3)))
    assert {key for key in one if one[key] != other[key]} == {"act.negative_slope"}
    shapes = [attribute_texts(Model(noted(torch.zeros(3) + k)), values=False) for k in range(2)]
    assert shapes[0] == shapes[1]
    assert attribute_texts(Model(noted(torch.zeros(4))), values=False) != shapes[0]


@pytest.mark.slow
def test_the_digest_is_the_same_in_every_process() -> None:
    """It names folders of checkpoints."""
    program = (
        "import functools, torch; from torch import nn; from sweeper.training.lanes.structure import structure\n"
        "m = nn.Sequential(nn.LSTM(3, 3), nn.BatchNorm1d(3))\n"
        "m.note = [{'b', 'a', 'c'}, torch.arange(3), lambda x: x]\n"
        "m[1].register_forward_hook(functools.partial(torch.clamp, min=0)); print(structure(m))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        ).stdout
        for salt in ("1", "2")
    }
    assert len(digests) == 1
