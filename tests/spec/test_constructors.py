"""What an annotation or a default tells of an argument: whole or real."""

from __future__ import annotations

from functools import partial
from typing import Optional

import pytest
import torch
from torch import nn

from sweeper.spec.constructors import is_whole, model_hyperparameters
from sweeper.tasks.models import MLP
from sweeper.types import InputError, Range


class Annotated:
    def __init__(
        self,
        whole: int = 1,
        maybe: int | None = None,
        older: Optional[int] = None,  # noqa: UP045  # users write it
        switch: bool = False,
        real: float = 1,
        either: int | float = 1,
        tensor: float | torch.Tensor = 0,
        word: str = "a",
        pair: tuple[int, int] = (1, 2),
    ) -> None: ...


class Bare:
    def __init__(self, needed, rate=0.1, count=3, nothing=None, switch=False): ...


class Unresolved:
    def __init__(self, size: int, rate: float, shape: OnlyForTypeCheckers) -> None: ...  # noqa: F821


class Derived(Annotated):
    def __init__(self, real: int, **options) -> None:
        super().__init__(**options)


def build(width: int, dropout=0.0): ...


TOLD = [
    *[(Annotated, name, True) for name in ("whole", "maybe", "older", "switch")],
    *[(Annotated, name, False) for name in ("real", "either", "tensor")],
    *[(Annotated, name, None) for name in ("word", "pair", "unknown")],
    (Bare, "rate", False),
    *[(Bare, name, None) for name in ("needed", "count", "nothing", "switch")],
    (Unresolved, "size", True),
    (Unresolved, "rate", False),
    (Unresolved, "shape", None),
    (Derived, "real", True),
    (Derived, "whole", True),
    (Derived, "either", False),
    (build, "width", True),
    (build, "dropout", False),
    (partial(partial(MLP, depth=1), width=4), "width", True),
    (partial(MLP, width=4), "dropout", False),
    (torch.optim.SGD, "momentum", False),
    (torch.optim.SGD, "weight_decay", False),
    (torch.optim.LBFGS, "history_size", True),
    (torch.optim.AdamW, "betas", None),
    (lambda width=1.0: None, "width", False),
    (print, "sep", None),
    (None, "width", None),
]


@pytest.mark.parametrize(("constructor", "name", "whole"), TOLD)
def test_annotation_and_default_tell_whether_an_argument_is_whole(constructor, name, whole):
    assert is_whole(constructor, name) is whole


class Net(nn.Module):
    def __init__(self, width: int, dropout=0.5): ...


class Shown:
    model = partial(Net, width=3)


class Hidden:
    def build(self, seed: int, depth: int = 1, slope: float = 1): ...


def test_a_task_tells_by_its_model_or_else_by_its_build():
    nodes = {"model.width": {"low": 1, "high": 8}, "model.dropout": {"low": 0, "high": 1}}
    assert model_hyperparameters(Shown(), nodes) == {
        "model.width": Range(1, 8, whole=True),
        "model.dropout": Range(0, 1, whole=False),
    }
    nodes = {f"model.{name}": {"low": 1, "high": 8} for name in ("depth", "slope", "other")}
    assert [one.is_whole for one in model_hyperparameters(Hidden(), nodes).values()] == [True, False, True]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"low": 1.0, "high": 8}, "model.width.low=1.0: must be a whole number. Write one, such as 1"),
        ({"low": 1, "high": 7.5}, "model.width.high=7.5: must be a whole number. Write one, such as 8"),
        ({"low": 1, "high": 8, "step": 0.5}, "model.width.step=0.5: must be a whole number. Write one, such as 1"),
    ],
)
def test_a_whole_hyperparameter_has_whole_ends(node, message):
    with pytest.raises(InputError) as raised:
        model_hyperparameters(Shown(), {"model.width": node})
    assert str(raised.value) == message
