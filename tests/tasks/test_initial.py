"""Initial weights that replace those a model draws by itself."""

import functools
import inspect
import math
import pickle
import sys
import types

import pytest
import torch
from torch import nn

import sweeper as package
from sweeper.spec.composing import build_subject, compose
from sweeper.spec.requests import Request
from sweeper.tasks.initial import glorot, initialized
from sweeper.tasks.models import MLP
from sweeper.types import InputError

LAYERS = {  # a layer, its fan_in and fan_out
    "linear": (lambda: nn.Linear(300, 200), 300, 200),
    "conv1d": (lambda: nn.Conv1d(30, 50, 5), 30 * 5, 50 * 5),
    "conv2d": (lambda: nn.Conv2d(30, 20, 3), 30 * 9, 20 * 9),
    "conv3d": (lambda: nn.Conv3d(5, 10, 3), 5 * 27, 10 * 27),
}


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("layer", LAYERS)
def test_weights_are_uniform_within_the_bound_and_biases_are_zero(layer):
    make, fan_in, fan_out = LAYERS[layer]
    part = glorot(nn.Sequential(make()))[0]
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert 0.99 * bound < float(part.weight.detach().abs().max()) <= bound
    assert float(part.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)  # of a uniform one
    assert not part.bias.detach().any()


def test_every_layer_of_the_perceptron_is_drawn_anew():
    model = glorot(MLP(300, 40, width=100, depth=2))
    for part, ends in zip((p for p in model.modules() if isinstance(p, nn.Linear)), (400, 200, 140), strict=True):
        bound = math.sqrt(6 / ends)
        assert 0.95 * bound < float(part.weight.detach().abs().max()) <= bound
        assert not part.bias.detach().any()


def test_embeddings_what_is_tied_to_them_and_norms_stay():
    model = nn.ModuleDict({"embedding": nn.Embedding(9, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 9)})
    model["head"].weight = model["embedding"].weight
    nn.init.ones_(model["norm"].bias)
    before = {name: value.clone() for name, value in model.state_dict().items() if name != "head.bias"}
    after = glorot(model).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not after["head.bias"].any()


@pytest.mark.parametrize("factory", [MLP, functools.partial(MLP, width=7)])
def test_a_factory_keeps_its_signature_name_and_keywords_and_can_be_sent(factory):
    made = pickle.loads(pickle.dumps(initialized(factory, "glorot")))
    assert inspect.signature(made) == inspect.signature(factory)
    assert getattr(made, "func", made).__name__ == "MLP"
    torch.manual_seed(3)
    expected = glorot(factory(5, 3)).state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(value, expected[name]) for name, value in made(5, 3).state_dict().items())
    assert initialized(factory, None) is factory


def nodes(**model):
    composed = compose(Request(("data=argmax", "model=mlp"))).nodes
    return {**composed, "model": {**composed["model"], **model}}


def test_null_is_the_models_own_and_no_part_of_the_identity():
    subject, glorots = build_subject(nodes()), build_subject(nodes(init="glorot"))
    assert nodes()["model"]["init"] is None
    assert "init" not in subject.described["model"]
    assert glorots.described["model"] == {**subject.described["model"], "init": "glorot"}
    assert subject.task.build(0).layers[0].bias.detach().any()
    assert not glorots.task.build(0).layers[0].bias.detach().any()


@pytest.mark.parametrize("init", ["keras", True, 1, {"choice": ["glorot"]}, ["glorot"]])
def test_another_initialization_is_refused(init, check_form):
    with pytest.raises(InputError, match=r"^model\.init=.*Choose glorot, or null for the model's own$") as caught:
        build_subject(nodes(init=init))
    check_form(str(caught.value))


class Own(nn.Module):
    """A user's model that has an argument of this name."""

    def __init__(self, inputs, outputs, init="wide"):
        super().__init__()
        self.how = init
        self.last = nn.Linear(inputs, outputs)

    def forward(self, inputs_B):
        return self.last(inputs_B)


class Any(Own):
    """One that takes any argument."""

    def __init__(self, inputs, outputs, **others):
        super().__init__(inputs, outputs, **others)


@pytest.mark.parametrize("model", [Own, Any])
@pytest.mark.parametrize("init", ["narrow", None])
def test_a_constructors_own_argument_of_that_name_is_its_own(monkeypatch, model, init):
    monkeypatch.setitem(sys.modules, "users", types.SimpleNamespace(Own=model))
    subject = build_subject({**nodes(), "model": {"_target_": "users.Own", "init": init}})
    assert subject.task.build(0).how == init
    assert subject.described["model"]["init"] == init


def test_lanes_and_one_at_a_time_train_the_same(sweeper):
    words = ["experiment=staircase_vs_constant", "train.epochs=1", "search.reports=4", "tracking=none"]
    values = {}
    for trainer in ("lanes", "sequential"):
        code, _, err = sweeper(*words, f"trainer={trainer}", "trainer.workers=1", f"name={trainer}")
        assert code == 0, err
        values[trainer] = {record.family: record.value for record in package.load(trainer).records}
    assert values["lanes"].keys() == {"step", "constant"}
    assert values["lanes"] == pytest.approx(values["sequential"], rel=1e-6)
