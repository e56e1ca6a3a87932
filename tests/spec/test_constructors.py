"""What an annotation or a default tells of an argument: whole or real."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Optional

import pytest
import torch
import yaml
from torch import nn

from sweeper.importing import import_object
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


CONF = Path(__file__).parents[2] / "conf"
WHOLE = {
    *["adahessian.update_period", "asgd.t0", "muon.ns_steps", "soap.precondition_frequency"],
    "shampoo.preconditioning_compute_steps",
    *[f"{model}.width" for model in ("cnn", "gpt", "mlp", "ngram", "resnet", "resnet18", "resnet9", "tabular")],
    *[f"{model}.depth" for model in ("cnn", "gpt", "mlp", "ngram", "tabular", "transformer")],
    *["gpt.heads", "ngram.embedding", "resnet.blocks", "resnet18.stages", "resnet18.blocks", "tabular.embedding"],
    *["transformer.width", "transformer.heads"],
}


@pytest.mark.parametrize("group", ["optimizer", "model"])
def test_every_number_of_the_configuration_is_what_its_constructor_says(group):
    told = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        node = yaml.safe_load(path.read_text())
        constructor = import_object("x", node.pop("_target_"))
        numbers = [name for name, value in node.items() if type(value) in (int, float) and name != "default_lr"]
        told |= {f"{path.stem}.{name}": is_whole(constructor, name) for name in numbers}
    assert len(told) > 20
    assert {name for name, whole in told.items() if whole} == WHOLE & told.keys()
    assert None not in told.values()


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
