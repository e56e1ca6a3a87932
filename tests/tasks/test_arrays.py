"""Arrays: your own examples as a data set, and errors."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.problems import CLASSIFICATION, REGRESSION, Problem, errors, squared_error

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
CLASSES = np.arange(50) % 4
VALUES = X @ [1.0, -2.0, 0.5] + 7
NAMES = pd.Series(np.array(["red", "blue", "green", "gold"])[CLASSES])
FRAME = pd.DataFrame({"age": X[:, 0], "city": NAMES, "day": pd.date_range("2020-01-01", periods=50)})


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.layer(x)


def each_cross_entropy(output_B, target_B):
    return functional.cross_entropy(output_B, target_B, reduction="none")


def every(data, part):
    return data.fetch(part, 0, torch.arange(data.size(part, 0)))


def test_each_example_is_in_one_part_with_its_target():
    data = Arrays(X, CLASSES, valid=0.1, test=0.3, scale=False)
    assert [data.size(part, 0) for part in ("train", "valid", "test")] == [30, 5, 15]
    rows = {tuple(row): label for row, label in zip(X.astype(np.float32).tolist(), CLASSES, strict=True)}
    seen = [(x, y) for part in ("train", "valid", "test") for x, y in zip(*every(data, part), strict=True)]
    assert {tuple(x.tolist()): int(y) for x, y in seen} == rows
    assert (data.inputs, data.outputs, data.problem) == (3, 4, CLASSIFICATION)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, CLASSES),
        (torch.tensor(X), torch.tensor(CLASSES)),
        (X.tolist(), CLASSES.tolist()),
        (pd.DataFrame(X), pd.Series(CLASSES)),
        (X.astype(np.float32), CLASSES.astype(np.uint8)),
        (torch.tensor(X, dtype=torch.float32, requires_grad=True), torch.tensor(CLASSES, dtype=torch.int32)),
    ],
    ids=["numpy", "torch", "lists", "pandas", "small", "grad"],
)
def test_every_kind_of_array_gives_the_same_data(x, y):
    assert Arrays(x, y).fingerprint == Arrays(X, CLASSES).fingerprint


def test_the_fingerprint_is_the_examples_and_their_split():
    changed = X.copy()
    changed[7, 1] += 1e-3
    prints = [
        Arrays(X, CLASSES).fingerprint,
        Arrays(changed, CLASSES).fingerprint,
        Arrays(X, (CLASSES + 1) % 4).fingerprint,
        Arrays(X, CLASSES, split_seed=1).fingerprint,
        Arrays(X, CLASSES, valid=0.1).fingerprint,
        Arrays(X.reshape(50, 3, 1), CLASSES).fingerprint,
    ]
    assert len(set(prints)) == len(prints)


def test_what_happens_to_the_array_later_changes_nothing():
    x, own = torch.tensor(X, dtype=torch.float32), torch.tensor(X[:5], dtype=torch.float32)
    data = Arrays(x, CLASSES, valid=(own, CLASSES[:5]))
    before = every(data, "valid")[0].clone()
    own.zero_()
    x.zero_()
    assert torch.equal(every(data, "valid")[0], before)
    assert every(data, "train")[0].abs().sum() > 0


def test_parts_of_ones_own_are_kept_as_they_are():
    data = Arrays(X[:30], CLASSES[:30], valid=(X[30:40], CLASSES[30:40]), test=(X[40:], CLASSES[40:]))
    assert every(data, "valid")[1].tolist() == CLASSES[30:40].tolist()
    assert every(data, "train")[1].tolist() == CLASSES[:30].tolist()
    without_test = Arrays(X, CLASSES, test=0)
    assert without_test.size("test", 0) == 0
    assert without_test.size("train", 0) == 40


def test_numbers_are_a_regression():
    task = Supervised(Arrays(X, VALUES, scale=False), Net)
    inputs, target = every(task.data, "train")
    assert task.problem is REGRESSION
    assert task.data.outputs == 1
    assert task.untrained_loss == pytest.approx(target.double().square().mean().item())
    output = task.forward(task.build(0), inputs)
    assert output.shape == (30, 1)
    torch.testing.assert_close(task.loss(output, target), (output[:, 0] - target) ** 2)
    perfect = task.metrics(target[:, None], target)
    assert perfect == {"mae": 0.0, "r2": 1.0}
    assert task.metrics(torch.full((30, 1), float(target.mean())), target)["r2"] == pytest.approx(0, abs=1e-6)


def test_errors_agree_with_scikit_learn():
    from sklearn.metrics import mean_absolute_error, r2_score

    output = VALUES + RNG.normal(size=50)
    got = errors(torch.tensor(output), torch.tensor(VALUES))
    assert got["mae"] == pytest.approx(mean_absolute_error(VALUES, output))
    assert got["r2"] == pytest.approx(r2_score(VALUES, output))
    assert math.isnan(errors(torch.zeros(3), torch.ones(3))["r2"])


def test_several_columns_are_one_loss_for_each_example():
    task = Supervised(Arrays(X, np.stack([VALUES, VALUES**2], 1)), Net)
    assert task.data.outputs == 2
    inputs, target = every(task.data, "valid")
    assert task.loss(task.forward(task.build(0), inputs), target).shape == (10,)
    with pytest.raises(ValueError, match=r"outputs of shape \[4, 3\] for targets of shape \[4\]"):
        squared_error(torch.zeros(4, 3), torch.zeros(4))


def test_whole_numbers_are_symbols_of_a_vocabulary():
    symbols = RNG.integers(0, 9, size=(40, 6))
    symbols[0, 0] = 8
    data = Arrays(symbols, symbols[:, -1])
    assert (data.inputs, data.context) == (9, 6)
    assert every(data, "train")[0].dtype == torch.int64


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), lambda o, t: functional.cross_entropy(o, t, label_smoothing=0.1)),
        (functional.cross_entropy, functional.cross_entropy),
        (each_cross_entropy, functional.cross_entropy),
        (
            Problem(each_cross_entropy, lambda o, t: {}),
            functional.cross_entropy,
        ),
    ],
    ids=["module", "function", "own", "problem"],
)
def test_a_loss_of_torch_is_taken_example_by_example(loss, reference):
    task = Supervised(Arrays(X, CLASSES), Net, loss)
    inputs, target = every(task.data, "train")
    output = task.forward(task.build(0), inputs)
    loss_B = task.loss(output, target)
    assert loss_B.shape == (30,)
    torch.testing.assert_close(loss_B.mean(), reference(output, target))
    assert task.untrained_loss == pytest.approx(loss_B.mean().item())


def test_the_given_loss_is_left_as_it_was():
    loss = nn.SmoothL1Loss()
    task = Supervised(Arrays(X, np.stack([VALUES, VALUES], 1)), Net, loss)
    inputs, target = every(task.data, "train")
    assert task.loss(task.forward(task.build(0), inputs), target).shape == (30,)
    assert loss.reduction == "mean"


WRONG = {
    "lengths": ({"X": X[:-1]}, r"X, y: X has 49 examples, y has 50"),
    "nan": ({"X": np.where(X > 2, np.nan, X)}, r"X, y: X has NaN or infinity in \d+ of 50 examples"),
    "text": ({"X": np.array([["a", "b"]] * 50)}, r"^X, y: X does not hold numbers"),
    "column": ({"X": FRAME}, r"^X, y: column 'city' of X is not made of numbers\. Use Table\(df, target=\.\.\.\)"),
    "date": ({"X": FRAME[["day"]]}, r"^X, y: column 'day' of X is not made of numbers"),
    "no class": ({"y": NAMES.where(CLASSES != 1)}, r"^X, y: y has no value in 13 of 50 examples"),
    "text amounts": ({"y": NAMES, "problem": "regression"}, r"^problem=regression: y does not hold numbers"),
    "fractions": ({"y": VALUES, "problem": "classification"}, r"^problem=classification: .*numbers with a fraction"),
    "many": (
        {"y": np.arange(50)},
        r'y has 50 different whole numbers.*problem="classification" or problem="regression"',
    ),
    "problem": ({"problem": "clasification"}, r"^problem=clasification: no such choice\. Choose one of auto"),
    "scale": ({"scale": "yes"}, r'^scale=yes: no such choice\. Choose "auto", True or False'),
    "scale 1": ({"scale": 1}, r"^scale=1: no such choice"),
    "negative": ({"y": CLASSES - 1}, "has the class -1. Number the classes from 0"),
    "share": ({"valid": 0}, "valid=0: not a fraction of the examples. Choose a fraction above 0"),
    "large": ({"valid": 0.6, "test": 0.4}, "valid=0.6, test=0.4: no examples are left for training"),
    "small": ({"valid": 0.001}, "valid=0.001: selects none of the 50 examples"),
    "unlike": ({"valid": (X[:, :2], CLASSES)}, r"valid: X has rows of floats \[2\], .* of floats \[3\]"),
    "kinds": ({"test": (X, VALUES)}, "test: y has rows of floats"),
    "scalar": ({"X": 3.0}, "X is a single number"),
}


@pytest.mark.parametrize(("given", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_told(given, told):
    with pytest.raises(ValueError, match=told):
        Arrays(**{"X": X, "y": CLASSES, **given})


def test_a_model_that_is_made_already_is_refused():
    with pytest.raises(ValueError, match=r"model=Net: this is a model, .* lambda: copy.deepcopy\(model\)"):
        Supervised(Arrays(X, CLASSES), Net(3, 4))


def test_a_loss_that_is_none_is_refused():
    with pytest.raises(ValueError, match="neither a Problem nor a loss"):
        Supervised(Arrays(X, CLASSES), Net, "mse")


def test_folds_share_the_test_part_and_each_validates_once():
    plain, data = Arrays(X, CLASSES, scale=False), Arrays(X, CLASSES, folds=4, scale=False)
    assert (plain.partitions, data.partitions) == (1, 4)
    seen = []
    for fold in range(4):
        index = {part: torch.arange(data.size(part, fold)) for part in ("train", "valid", "test")}
        rows = {part: data.fetch(part, fold, index[part]) for part in index}
        assert torch.equal(rows["test"][0], every(plain, "test")[0])
        assert len(torch.cat([rows["train"][0], rows["valid"][0]]).unique(dim=0)) == 40
        assert rows["valid"][1].bincount(minlength=4).min() >= 2
        seen.append(rows["valid"][0])
    assert len(torch.cat(seen).unique(dim=0)) == 40
    there = data.to(torch.device("meta"))
    assert there.fetch("valid", 3, torch.arange(2, device="meta"))[0].device.type == "meta"
    assert Arrays(X, VALUES, folds=3).partitions == 3
    with pytest.raises(ValueError, match="folds=3: `valid` is your own validation part"):
        Arrays(X, CLASSES, valid=(X[:5], CLASSES[:5]), folds=3)
