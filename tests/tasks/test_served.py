"""Served models take examples as the data were given them, and predict what the model predicts of prepared ones."""

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.digits import Digits
from sweeper.tasks.images import Images, LabeledImages
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised
from sweeper.tasks.served import Served
from sweeper.tasks.tabular import Table

DRAW = np.random.default_rng(0)
X = DRAW.normal(50, 20, (80, 3))
SIGNALS = DRAW.normal(3, 9, (80, 2, 5)).astype(np.float32)
PIXELS = DRAW.integers(0, 256, (80, 3, 4, 4)).astype(np.uint8)
LABEL = np.arange(80, dtype=np.uint8) % 4


class Flat(torch.nn.Module):
    """A linear model of anything."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.layer(x.flatten(1))


def frame(*, categories=True, gaps=True):
    made = pd.DataFrame({"size": X[:, 0], "age": X[:, 1]})
    if gaps:
        made.loc[::7, "age"] = np.nan
    if categories:
        made["color"] = np.array(["red", "blue", None])[np.arange(80) % 3]
        made["sold"] = np.arange(80) % 2 == 0
    made["price"] = 1000 + 30 * X[:, 0] + X[:, 2]
    made["kind"] = np.array(["a", "b"])[np.arange(80) % 2]
    return made


def of_table(target, *, folds=None, **columns):
    whole = frame(**columns)
    other = "kind" if target == "price" else "price"
    data = Table(whole, target, leave_out=[other], folds=folds)
    return data, lambda fold: data.encode(whole, fold)


def images(folds=None):
    data = Images(
        LabeledImages(PIXELS[:60], LABEL[:60]), LabeledImages(PIXELS[60:], LABEL[60:]), classes=4, folds=folds
    )
    return data, lambda fold: PIXELS


def of_arrays(x, y, **options):
    return Arrays(x, y, **options), lambda fold: x


KINDS = {
    "columns and classes": lambda: of_arrays(X, LABEL.astype(int)),
    "columns and a number": lambda: of_arrays(X, X[:, 0] * 7 + 900),
    "columns and two numbers": lambda: of_arrays(X, X[:, :2] * [1, 1000]),
    "columns in folds": lambda: of_arrays(X, LABEL.astype(int), folds=3),
    "signals": lambda: of_arrays(SIGNALS, LABEL.astype(int), scale=True),
    "digits": lambda: (Digits(), None),
    "digits in folds": lambda: (Digits(folds=3), None),
    "images": images,
    "images in folds": lambda: images(folds=3),
    "a table of numbers": lambda: of_table("kind", categories=False, gaps=False),
    "a table with gaps": lambda: of_table("price", categories=False),
    "a table with categories": lambda: of_table("kind"),
    "a table with categories, a number to predict, in folds": lambda: of_table("price", folds=3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_served_model_predicts_from_examples_as_given(kind):
    data, raw_of = KINDS[kind]()
    task = Supervised(data, None if isinstance(data, Table) else Flat)
    for fold in range(data.partitions):
        model = task.build(3).eval()
        served = data.served(model, fold)
        inputs_B, _ = data.fetch("train", fold, torch.arange(20))
        with torch.no_grad():
            expected = model(inputs_B)
            if data.scaling.target is not None:
                expected = data.scaling.target.invert(expected)
            predicted = served(data.given(inputs_B, fold))
        torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-4)
        if raw_of is not None:  # the very examples that were given are among them, bit for bit
            with torch.no_grad():
                of_raw = served(torch.as_tensor(raw_of(fold)))
            distance = (of_raw[None].double() - expected[:, None].double()).abs().flatten(2).max(2).values.min(1).values
            assert float(distance.max()) <= 1e-6 * float(expected.abs().max())


def test_nothing_scaled_is_the_model_itself():
    data = Arrays(X, LABEL.astype(int), scale=False)
    model = Supervised(data, Flat).build(0)
    inputs_B, _ = data.fetch("train", 0, torch.arange(5))
    assert data.served(model, 0) is model
    assert data.given(inputs_B, 0) is inputs_B


def test_a_missing_number_and_an_unknown_name_are_what_training_made_of_them():
    data, _ = of_table("kind")
    columns = data.encode(
        pd.DataFrame({"size": [1.0, 2.0], "age": [np.nan, 3.0], "color": ["green", "red"], "sold": [True, None]})
    )
    known = [column.get("categories") for column in data.columns()]
    assert [column["name"] for column in data.columns()] == ["size", "age", "color", "sold"]
    assert np.isnan(columns[0, 1])
    assert columns[0, 2] == 0  # unknown
    assert columns[1, 2] == 1 + known[2].index("red")
    assert columns[1, 3] == 0  # missing


def test_double_precision_stays():
    model = MLP(3, 2).double()
    data = Arrays(X, LABEL.astype(int))
    served = data.served(model, 0)
    assert isinstance(served, Served)
    assert served(torch.from_numpy(X)).dtype == torch.float64
