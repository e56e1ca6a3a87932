"""What identifies a task made in Python: two that differ never go on as one, one that is made again does."""

import functools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.spec.describing import describe
from sweeper.tasks import Arrays, Digits, Supervised
from sweeper.tasks.models import MLP
from sweeper.training.finetuned import FineTuned
from sweeper.types import InputError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)), np.arange(40) % 3
DATA = Arrays(X, Y, name="Three kinds")


class Net(nn.Module):
    def __init__(self, inputs, outputs, width=8, slope=0.1):
        super().__init__()
        self.first, self.last, self.slope = nn.Linear(inputs, width), nn.Linear(width, outputs), slope

    def forward(self, x):
        return self.last(torch.relu(self.first(x)) + self.slope * self.first(x))


class Tanh(Net):
    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Deep(Net):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.drop = nn.Dropout(0.1)


def dropping(p):
    return lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, outputs), nn.Dropout(p))


def pretrained(seed):
    torch.manual_seed(seed)
    return nn.Linear(4, 3).state_dict()


def started(weights):
    def make():
        model = nn.Linear(4, 3)
        model.load_state_dict(weights)
        return model

    return make


def doubled(output_B, target_B):
    return 2 * nn.functional.cross_entropy(output_B, target_B, reduction="none")


class Noisy(Supervised):
    def forward(self, model, inputs_B):
        return model(inputs_B + 0.1)


TASKS = {
    "net": lambda: Supervised(DATA, Net),
    "wide": lambda: Supervised(DATA, partial(Net, width=9)),
    "steep": lambda: Supervised(DATA, partial(Net, slope=0.2)),
    "tanh": lambda: Supervised(DATA, Tanh),
    "deep": lambda: Supervised(DATA, Deep),
    "little dropout": lambda: Supervised(DATA, dropping(0.1)),
    "much dropout": lambda: Supervised(DATA, dropping(0.5)),
    "given weights": lambda: Supervised(DATA, started(pretrained(0))),
    "other weights": lambda: Supervised(DATA, started(pretrained(1))),
    "random weights": lambda: Supervised(DATA, partial(nn.Linear, 4, 3)),
    "own loss": lambda: Supervised(DATA, Net, doubled),
    "smoothed": lambda: Supervised(DATA, Net, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "more smoothed": lambda: Supervised(DATA, Net, nn.CrossEntropyLoss(label_smoothing=0.2)),
    "weighted": lambda: Supervised(DATA, Net, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0]))),
    "otherwise weighted": lambda: Supervised(DATA, Net, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 1.0]))),
    "own forward": lambda: Noisy(DATA, Net),
    "shipped": lambda: Supervised(Digits(), MLP),
    "two heads": lambda: Supervised(DATA, lambda: nn.TransformerEncoderLayer(4, 2, 8)),
    "four heads": lambda: Supervised(DATA, lambda: nn.TransformerEncoderLayer(4, 4, 8)),
    "lazy": lambda: Supervised(DATA, partial(nn.LazyLinear, 3)),
}


def test_tasks_that_differ_are_told_apart_and_a_task_made_again_is_not():
    first = {name: describe(make(), {})[0] for name, make in TASKS.items()}
    again = {name: describe(make(), {})[0] for name, make in TASKS.items()}
    assert first == again
    texts = [str(question) for question in first.values()]
    assert len(set(texts)) == len(texts)


def test_it_is_plain_data_to_read():
    import yaml

    question, label = describe(TASKS["wide"](), {})
    assert yaml.safe_load(yaml.safe_dump(question)) == question
    assert question["model"]["class"] == "Net"
    assert question["model"]["arguments"] == {"width": 9}
    assert question["model"]["parameters"] == 4 * 9 + 9 + 9 * 3 + 3
    assert label == "threekinds-net"
    assert describe(TASKS["little dropout"](), {})[1] == "threekinds-sequential"
    assert describe(TASKS["shipped"](), {})[1] == "digits-mlp"


def test_the_generators_are_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    describe(TASKS["net"](), {})
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_is_built_with_the_searched_numbers():
    def make(inputs, outputs, p):
        return nn.Sequential(nn.Linear(inputs, outputs), nn.Dropout(p))

    assert describe(Supervised(DATA, make), {"p": 0.5})[1] == "threekinds-sequential"
    with pytest.raises(InputError, match=r"model: cannot be built \(ValueError: model=make: it needs `p`"):
        describe(Supervised(DATA, make), {})


@pytest.mark.parametrize("task", [Net, (X, Y), "digits", Supervised, functools.partial(Net, 4, 3)])
def test_what_is_no_task_is_told_how_to_make_one(task):
    with pytest.raises(InputError, match=r"^task=.*Make one: Supervised\(Arrays\(X, y\), Model\)"):
        describe(task, {})


def test_a_fine_tuned_task_is_its_inner_task_its_weights_and_what_is_frozen(tmp_path):
    paths = [tmp_path / "one.pt", tmp_path / "two.pt"]
    for seed, path in enumerate(paths):
        torch.save(Supervised(DATA, MLP).build(seed).state_dict(), path)

    def asked(path=paths[0], loss=None, **numbers):
        return describe(FineTuned(Supervised(DATA, MLP, loss), path, **numbers), {})

    question, name = asked()
    assert asked() == (question, name)
    assert name == "threekinds-mlp"
    for other in (asked(paths[1]), asked(loss=doubled), asked(freeze=["layers.0"]), asked(init_reset=["layers.0"])):
        assert other[0] != question
