"""Standardized arrays: equal to arrays that were standardized by hand, and said in words."""

import copy
import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from sweeper.tasks import REGRESSION, Arrays, Problem, Streamed, Supervised, Table
from sweeper.tasks.models import MLP
from sweeper.tasks.scaling import fit

RNG = np.random.default_rng(0)
N = 50
X = RNG.normal(size=(N, 4)) * [1, 1000, 0.001, 0] + [0, 1e6, 5, 0.1]  # the last column is constant
VALUES = 100 * X[:, 0] + 7
COLUMNS = np.stack([VALUES, X[:, 1]], axis=1)
CLASSES = np.arange(N) % 4
IS_LARGE = X[:, :3] > 0
IMAGES = RNG.normal(size=(N, 1, 3, 3))
PARTS = ("train", "valid", "test")


def every(data, part, partition=0):
    return data.fetch(part, partition, torch.arange(data.size(part, partition)))


def float32(values):
    return torch.from_numpy(np.asarray(values).astype(np.float32))


def by_hand(values, train):
    """Standardize columns by the rows `train`."""
    columns = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return float32(StandardScaler().fit(columns[train]).transform(columns).reshape(np.shape(values)))


@pytest.fixture(scope="module")
def rows():
    """Return the rows of each part of the default split: targets that are their own number."""
    data = Arrays(X, np.arange(N), problem="classification", scale=False)
    return {part: every(data, part)[1].numpy() for part in PARTS}


GIVEN = {
    "numpy": X,
    "tensor": torch.tensor(X),
    "table": pd.DataFrame(X),
    "table of several types": pd.DataFrame(X).assign(whole=np.arange(N), nullable=pd.array([1] * N, dtype="Int64")),
    "one feature": X[:, 1],
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("y", [CLASSES, VALUES, COLUMNS], ids=["classes", "values", "columns"])
def test_columns_of_floats_and_values_are_standardized_by_the_training_part(given, y, rows):
    data = Arrays(given, y)
    inputs = by_hand(np.asarray(given, dtype=np.float64), rows["train"])
    target = torch.from_numpy(y) if y is CLASSES else by_hand(y, rows["train"])
    for part, index in rows.items():
        x, of_part = every(data, part)
        assert torch.equal(x, inputs[index])
        assert torch.equal(of_part, target[index])
    if given is X:
        assert every(data, "valid")[0][:, 3].abs().max() < 1e-15  # the constant column


@pytest.mark.parametrize("valid", [0.2, (X[:9] + 1, VALUES[:9])], ids=["share", "own"])
def test_arrays_standardized_by_hand_are_the_same_data(valid, rows):
    auto = Arrays(X, VALUES, valid=valid)
    one, target = auto.scaling.inputs[0], auto.scaling.target
    given = valid if isinstance(valid, float) else (one.apply(valid[0]), target.apply(valid[1]))
    hand = Arrays(one.apply(X), target.apply(VALUES), valid=given, scale=False)
    for part in PARTS:
        assert all(torch.equal(a, b) for a, b in zip(every(auto, part), every(hand, part), strict=True))


LEFT = {
    "scale=False": ({"X": X, "scale": False}, float32(X)),
    "images": ({"X": IMAGES}, float32(IMAGES)),
    "symbols": ({"X": np.arange(4 * N).reshape(N, 4) % 9}, torch.arange(4 * N).reshape(N, 4) % 9),
    "true and false": ({"X": IS_LARGE}, float32(IS_LARGE)),
}


@pytest.mark.parametrize(("given", "x"), LEFT.values(), ids=LEFT)
def test_what_is_left_as_it_is(given, x, rows):
    data = Arrays(**given, y=CLASSES)
    assert (data.scaling.inputs, data.scaling.target, data.unscaled) == ((), None, None)
    assert all(torch.equal(every(data, part)[0], x[index]) for part, index in rows.items())
    assert data.fingerprint == Arrays(**{**given, "scale": False}, y=CLASSES).fingerprint


def test_images_are_standardized_together_if_asked(rows):
    data = Arrays(IMAGES, CLASSES, scale=True)
    train = IMAGES[rows["train"]]
    expected = float32((IMAGES[rows["test"]] - train.mean()) / train.std())
    torch.testing.assert_close(every(data, "test")[0], expected)


@pytest.mark.parametrize(("factor", "is_told"), [(0.02, True), (0.04, False), (25, False), (40, True)])
def test_images_far_from_the_usual_deviation_are_told(factor, is_told):
    far = factor * IMAGES / IMAGES.std()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Arrays(far, CLASSES)
        Arrays(far, CLASSES, scale=True)
        Arrays(far, CLASSES, scale=False)
    assert len(told) == is_told
    for one in told:
        assert str(one.message).endswith("and models train best near 1. Set scale=True")
        assert one.filename == __file__


def test_each_fold_standardizes_its_inputs_and_all_share_the_unit_of_the_target():
    data = Arrays(X, VALUES, folds=3)
    raw = Arrays(X, VALUES, folds=3, scale=False)
    trained = torch.cat([every(raw, "valid", fold)[1] for fold in range(3)]).double()
    for fold in range(3):
        x, _ = every(data, "train", fold)
        torch.testing.assert_close(x.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
        torch.testing.assert_close(x[:, :3].std(0, correction=0), torch.ones(3))
        for part in PARTS:
            given, expected = every(data, part, fold)[1], every(raw, part, fold)[1].double()
            torch.testing.assert_close(given.double(), (expected - trained.mean()) / trained.std(correction=0))
    tests = {tuple(every(data, "test", fold)[0][0].tolist()) for fold in range(3)}
    assert len(tests) == len(data.scaling.inputs) == 3


@pytest.mark.parametrize("y", [VALUES, COLUMNS], ids=["one", "two columns"])
@pytest.mark.parametrize("metrics", [None, ["mse", "mae", "r2"]])
def test_metrics_are_in_the_unit_of_the_target(y, metrics, rows):
    auto, given = (Supervised(Arrays(X, y, scale=scale), MLP, metrics=metrics) for scale in ("auto", False))
    off = float32(y[rows["test"]]) * 1.01 + 3
    standardized = auto.data.scaling.target.apply(off)
    measured = auto.metrics(standardized, every(auto.data, "test")[1])
    assert measured == pytest.approx(given.metrics(off, every(given.data, "test")[1]), rel=1e-4)
    assert auto.untrained_loss == pytest.approx(1)


LOSSES = {
    "none": (None, True),
    "MSE": (nn.MSELoss(), True),
    "L1": (nn.L1Loss(), True),
    "smooth L1": (nn.SmoothL1Loss(beta=0.5), True),
    "Huber": (nn.HuberLoss(), True),
    "function": (functional.mse_loss, True),
    "BCE": (nn.BCEWithLogitsLoss(), False),
    "Poisson": (nn.PoissonNLLLoss(), False),
    "own": (lambda output_B, target_B: (output_B[:, 0] - target_B).square(), False),
    "problem": (REGRESSION, False),
    "problem without a loss of an untrained model": (Problem(REGRESSION.loss, REGRESSION.metrics), False),
}


@pytest.mark.parametrize(("loss", "is_standardized"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("kind", [Arrays, Table])
def test_a_loss_that_may_not_fit_gets_the_target_as_given(kind, loss, is_standardized):
    y = np.arange(N) % 2 + 0.0
    data = Arrays(X, y) if kind is Arrays else Table(pd.DataFrame(X).assign(y=y), "y")
    task = Supervised(data, partial(nn.Linear, 4, 1), loss)
    values = set(torch.cat([every(task.data, part)[1] for part in PARTS]).tolist())
    assert (values == {0.0, 1.0}) == (not is_standardized)
    assert ("the target" in task.data.summary) == is_standardized
    assert (task.fingerprint == data.fingerprint) == is_standardized
    x, target = every(task.data, "valid")
    output = task.forward(task.build(0), x)
    loss_B = task.loss(output, target)
    assert loss_B.shape == (len(target),)
    if isinstance(loss, nn.Module):
        assert loss_B.mean().item() == pytest.approx(loss(output[:, 0], target).item(), rel=1e-5)


@pytest.mark.parametrize("scale", [True, False])
def test_a_scale_that_was_asked_for_holds_under_any_loss(scale):
    data = Arrays(X, VALUES, scale=scale)
    assert Supervised(data, MLP, nn.PoissonNLLLoss()).data is data


# --- targets ----------------------------------------------------------------------------------------

NAMES = np.array(["cat", "dog", "ape", "bee"])[CLASSES]
KINDS = {
    "text": (NAMES, [2, 3, 0, 1]),
    "objects": (NAMES.astype(object), [2, 3, 0, 1]),
    "column": (pd.Series(NAMES), [2, 3, 0, 1]),
    "categorical": (pd.Series(NAMES).astype("category"), [2, 3, 0, 1]),
    "list": (NAMES.tolist(), [2, 3, 0, 1]),
    "nullable": (pd.Series(CLASSES, dtype="Int64"), [0, 1, 2, 3]),
    "true and false": (CLASSES > 1, [0, 0, 1, 1]),
    "nullable true and false": (pd.Series(CLASSES > 1, dtype="boolean"), [0, 0, 1, 1]),
}


@pytest.mark.parametrize(("y", "classes"), KINDS.values(), ids=KINDS)
def test_targets_that_are_classes(y, classes, rows):
    data = Arrays(X, y)
    for part, index in rows.items():
        assert every(data, part)[1].tolist() == np.array(classes)[CLASSES][index].tolist()
    assert data.outputs == max(classes) + 1
    assert data.classes == (("ape", "bee", "cat", "dog") if max(classes) == 3 and classes[0] == 2 else ())


def test_names_of_classes_are_those_of_all_parts():
    data = Arrays(X[:40], NAMES[:40], valid=(X[40:], np.array(["zebra"] * 10)))
    assert data.classes == ("ape", "bee", "cat", "dog", "zebra")
    assert every(data, "valid")[1].eq(4).all()


@pytest.mark.parametrize(
    ("y", "problem", "expected"),
    [
        (np.arange(N), "regression", np.arange(N)),
        (np.arange(N), "classification", np.arange(N)),
        (np.arange(20).repeat(3)[:N], "auto", np.arange(20).repeat(3)[:N]),
        (CLASSES + 0.0, "classification", CLASSES),
        (CLASSES + 0.0, "auto", CLASSES + 0.0),
        (CLASSES - 2, "regression", CLASSES - 2.0),
    ],
)
def test_the_problem_may_be_given(y, problem, expected, rows):
    data = Arrays(X, y, problem=problem, scale=False)
    target = every(data, "test")[1]
    assert target.tolist() == expected[rows["test"]].tolist()
    is_regression = problem == "regression" or (problem == "auto" and y.dtype.kind == "f")
    assert target.is_floating_point() == is_regression


# --- the first line ---------------------------------------------------------------------------------

LINES = {
    "classification, 4 classes; 4 inputs are standardized (scale=False leaves them)": Arrays(X, CLASSES),
    "classification, 4 classes (ape, bee, cat, dog); nothing is standardized": Arrays(X, NAMES, scale=False),
    "classification, 10 classes; X holds symbols, 9 of them": Arrays(CLASSES[:, None] + 5, np.arange(N) % 10),
    "regression on y (2 different values); 4 inputs and the target are standardized (scale=False leaves them)": Arrays(
        X, CLASSES % 2 + 0.0
    ),
    "regression on 2 columns of y (100 different values); 1 input and the targets are standardized "
    "(scale=False leaves them)": Arrays(X[:, :1], COLUMNS),
    "regression on y (50 different values); the target is standardized (scale=False leaves it)": Arrays(IMAGES, VALUES),
    "classification, 2 classes (no, yes); 2 columns of numbers are standardized; 1 column of categories": Table(
        pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": NAMES, "y": np.where(CLASSES > 1, "yes", "no")}), "y"
    ),
    "regression on b (50 different values); 1 column of numbers and the target are standardized": Table(
        pd.DataFrame({"a": X[:, 0], "b": X[:, 1]}), "b"
    ),
    "classification, 4 classes; nothing is standardized": Streamed((X, CLASSES), (X, CLASSES), outputs=4),
}


@pytest.mark.parametrize("line", LINES)
def test_the_data_say_what_was_understood_and_done(line):
    assert LINES[line].summary == line


# --- copies -----------------------------------------------------------------------------------------


def test_the_data_as_given_stay_in_this_process():
    data = Arrays(X, VALUES, folds=2)
    assert torch.equal(every(data.unscaled, "test")[0], every(Arrays(X, VALUES, folds=2, scale=False), "test")[0])
    for other in (pickle.loads(pickle.dumps(data)), data.to(torch.device("cpu")), copy.copy(data)):
        assert other.unscaled is None
        assert all(torch.equal(a, b) for a, b in zip(every(other, "valid", 1), every(data, "valid", 1), strict=True))


def test_predictions_return_to_the_unit_of_the_target():
    scaling = Arrays(X, COLUMNS).scaling
    restored = scaling.target.invert(scaling.target.apply(COLUMNS))
    np.testing.assert_allclose(restored, COLUMNS, rtol=1e-5)
    assert scaling.inputs[0].mean.shape == (4,)


def test_equal_values_have_a_deviation_of_one():
    """The variance of equal values is not 0 in floating point."""
    assert np.full(1000, 0.1).std() > 0
    assert fit(np.full((1000, 1), 0.1)).deviation.tolist() == [1]
