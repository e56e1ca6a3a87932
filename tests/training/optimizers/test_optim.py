"""What is refused, and how the sentence reads."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.models import NGram
from sweeper.tasks.problems import Supervised
from sweeper.training.optimizers.optim import (
    check_look,
    check_optimizer,
    has_momentum,
    make_optimizer,
    set_lr_and_momentum,
)
from sweeper.training.optimizers.spec import OptimizerSpec, parse_optimizer
from sweeper.types import InputError


class WithoutLR(torch.optim.Optimizer):
    def __init__(self, params: Any, speed: float = 1.0) -> None:
        super().__init__(params, {"speed": speed})


class TakesAnything(torch.optim.SGD):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)


REFUSED: dict[str, dict[str, Any]] = {
    "optimizer.momentun=0.9: no such option of SGD. Did you mean momentum?": {
        "_target_": "torch.optim.SGD",
        "momentun": 0.9,
    },
    "optimizer.lr=0.1: the schedule sets the learning rate. Use peak_lr instead": {
        "_target_": "torch.optim.SGD",
        "lr": 0.1,
    },
    "optimizer._target_=torch.optim.Adan: not found: torch.optim has no Adan. Did you mean torch.optim.Adam?": {
        "_target_": "torch.optim.Adan"
    },
    "optimizer._target_: not an import path. Write one, such as torch.optim.SGD": {},
    "optimizer._target_=SGD: not an import path. Write one, such as torch.optim.SGD": {"_target_": "SGD"},
    "optimizer._target_=nosuch.SGD: not found: no module nosuch. Is it installed?": {"_target_": "nosuch.SGD"},
    "optimizer.weight_decai=0.1: no such option of Lion. Did you mean weight_decay?": {
        "_target_": "pytorch_optimizer.Lion",
        "weight_decai": 0.1,
    },
    "optimizer=SGD: refuses momentum=-1: Invalid momentum value: -1. Change these options": {
        "_target_": "torch.optim.SGD",
        "momentum": -1,
    },
}


@pytest.mark.parametrize("sentence", list(REFUSED))
def test_the_sentence_names_the_key_and_the_way_out(sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        check_optimizer(parse_optimizer(REFUSED[sentence]))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (WithoutLR, "has no option lr"),
        (torch.optim.LBFGS, "by a closure"),
        (torch.optim.Rprop, "does not use the LR"),
        (torch.optim.ASGD, "does not use the LR"),  # but that of the update before
        (nn.Linear, "has no option lr"),
        (torch.optim.__name__, "cannot be called"),
    ],
)
def test_what_no_schedule_can_drive_is_refused(target: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim, "Chosen", target, raising=False)
    with pytest.raises(InputError, match=words):
        check_optimizer(OptimizerSpec("torch.optim.Chosen"))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adafactor", "Muon"])
def test_torchs_own_optimizers_are_accepted(name: str) -> None:
    check_optimizer(OptimizerSpec(f"torch.optim.{name}"))


@pytest.mark.parametrize(
    ("target", "module", "package"),
    [
        ("pytorch_optimizer.Lion", "pytorch_optimizer", "pytorch-optimizer"),
        ("sweeper.training.optimizers.kfac.KFAC", "curvlinops", "curvlinops-for-pytorch"),
    ],
)
def test_a_missing_extra_is_named_with_how_to_install_it(
    target: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, target.rpartition(".")[0], raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=re.escape(f"Install it: pip install {package}")):
        check_optimizer(OptimizerSpec(target))


def test_an_optimizer_that_takes_any_option_decides_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim, "Chosen", TakesAnything, raising=False)
    check_optimizer(OptimizerSpec("torch.optim.Chosen", {"momentum": 0.9}))
    with pytest.raises(InputError, match="unexpected keyword"):
        check_optimizer(OptimizerSpec("torch.optim.Chosen", {"momentun": 0.9}))


def test_a_trials_numbers_go_before_the_configured_ones() -> None:
    adamw = OptimizerSpec("torch.optim.AdamW", {"betas": [0.9, 0.95], "weight_decay": 0.1})
    group = make_optimizer(adamw, {"optimizer.weight_decay": 0.3, "model.x": 1}, nn.Linear(2, 2)).param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.95), 0.3)


def test_lr_and_momentum_are_set_as_given_in_every_group() -> None:
    sgd = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=1, momentum=0.5)
    set_lr_and_momentum(sgd, 0.1 + 0.2, None)
    assert [(group["lr"], group["momentum"]) for group in sgd.param_groups] == [(0.1 + 0.2, 0.5)] * 2
    set_lr_and_momentum(sgd, 0.0, 0.7)
    assert [(group["lr"], group["momentum"]) for group in sgd.param_groups] == [(0.0, 0.7)] * 2
    adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    set_lr_and_momentum(adam, 0.1, 0.7)
    assert adam.param_groups[0]["betas"] == (0.7, 0.999)


def test_which_optimizers_have_a_momentum_to_move() -> None:
    names = {"SGD": True, "RMSprop": True, "AdamW": True, "Adagrad": False}
    assert {name: has_momentum(OptimizerSpec(f"torch.optim.{name}")) for name in names} == names


def test_what_looks_at_the_forward_pass_looks_once_before_anything_is_trained() -> None:
    data = Arrays(np.arange(40).reshape(20, 2) % 5, np.arange(20) % 2)
    words, layers = Supervised(data, Words), Supervised(data, NGram)
    kfac, exact = (
        OptimizerSpec(f"sweeper.training.optimizers.{name}") for name in ("kfac.KFAC", "fisher.NaturalGradient")
    )
    with pytest.raises(InputError, match="optimizer=KFAC: the model has no linear and no convolutional layer"):
        check_look(kfac, {}, words, 8)
    for optimizer, task in ((kfac, layers), (exact, words), (OptimizerSpec("torch.optim.SGD"), words)):
        check_look(optimizer, {}, task, 8)


class Words(nn.Module):
    """The sum of a row for each symbol."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(inputs, outputs, mode="sum")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.table(x)
        return output
