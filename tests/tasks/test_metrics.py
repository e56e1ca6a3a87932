"""Metrics of a whole part compared with scikit-learn, also with missing classes and constant or NaN outputs."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
)
from torch.nn import functional

from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.metrics import OF_CLASSES, Measures, TargetScores, auroc, build_measures
from sweeper.tasks.models import MLP
from sweeper.tasks.text import NextByte

LABELS = torch.zeros(1, dtype=torch.int64)


def of_classes(output, target):
    return Measures(OF_CLASSES)(output, target)


def scores(classes, seed=0, count=200):
    draw = np.random.default_rng(seed)
    target = torch.from_numpy(draw.integers(0, classes, count))
    output = torch.from_numpy(draw.normal(size=(count, classes))) + functional.one_hot(target, classes)
    return output.float(), target


@pytest.mark.parametrize("classes", [2, 5])
def test_they_are_scikit_learns(classes):
    output, target = scores(classes)
    found, label, predicted = of_classes(output, target), target.numpy(), output.argmax(1).numpy()
    assert found["accuracy"] == pytest.approx(accuracy_score(label, predicted))
    for name, score in {"precision": precision_score, "recall": recall_score, "f1": f1_score}.items():
        assert found[name] == pytest.approx(score(label, predicted, average="macro"))
    chance = output.double().softmax(1).numpy()
    expected = roc_auc_score(label, chance[:, 1] if classes == 2 else chance, multi_class="ovr")
    assert found["auroc"] == pytest.approx(expected, abs=1e-12)
    cells = [[found[f"confusion/{i}/{j}"] for j in range(classes)] for i in range(classes)]
    assert np.array_equal(cells, confusion_matrix(label, predicted))


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(2, 30))
def test_the_auroc_of_equal_scores_is_scikit_learns(seed, count):
    draw = np.random.default_rng(seed)
    target, output = draw.integers(0, 2, count), draw.integers(0, 3, size=(count, 2)).astype(np.float32)
    if len(set(target)) == 2:
        expected = roc_auc_score(target, output[:, 1] - output[:, 0])
        assert auroc(torch.from_numpy(output), torch.from_numpy(target)) == pytest.approx(expected)


def test_a_sure_model_keeps_its_order():
    """Probabilities that round to 1 would all be equal."""
    output = torch.stack([torch.zeros(4), torch.tensor([100.0, 200.0, 300.0, 400.0])], 1)
    assert auroc(output, torch.tensor([0, 0, 1, 1])) == 1.0


def test_a_class_that_does_not_occur_counts_in_no_mean():
    output, target = scores(3)
    target[target == 2] = 0
    found, predicted = of_classes(output, target), output.argmax(1).numpy()
    label = target.numpy()
    assert found["recall"] == pytest.approx(recall_score(label, predicted, labels=[0, 1], average="macro"))
    each = [roc_auc_score(label == c, output.double().softmax(1)[:, c]) for c in (0, 1)]
    assert found["auroc"] == pytest.approx(np.mean(each))


def test_a_constant_prediction_warns_of_nothing():
    target = torch.tensor([0, 0, 0, 1])
    output = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    found = of_classes(output, target)
    assert found["accuracy"] == 0.75
    assert found["auroc"] == 0.5
    assert found["precision"] == pytest.approx(0.375)  # 0 for the class that is never predicted
    assert found["recall"] == 0.5


def test_what_has_no_value_is_nan():
    output, _ = scores(2, count=5)
    one_class = of_classes(output, torch.ones(5, dtype=torch.int64))
    assert math.isnan(one_class["auroc"])
    assert math.isfinite(one_class["f1"])
    broken = of_classes(torch.full((4, 3), torch.nan), torch.tensor([0, 1, 2, 0]))
    assert math.isnan(broken["auroc"])
    assert set(broken) == set(one_class) | set(broken)


def test_the_positions_of_sequences_are_taken_together():
    output, target = scores(4, count=60)
    shaped = of_classes(output.view(10, 6, 4), target.view(10, 6))
    assert shaped == of_classes(output, target)


def test_numbers_are_told_in_their_own_unit():
    draw = np.random.default_rng(0)
    target = draw.normal(5, 3, 50)
    output = target + draw.normal(size=50)
    scaled = [torch.from_numpy((values - 5) / 3) for values in (output[:, None], target)]
    found = Measures(("mse", "mae", "r2"), unit=3.0)(*scaled)
    assert found["mse"] == pytest.approx(mean_squared_error(target, output))
    assert found["mae"] == pytest.approx(mean_absolute_error(target, output))
    assert found["r2"] == pytest.approx(r2_score(target, output))
    assert math.isnan(Measures(("r2",))(torch.zeros(3), torch.ones(3))["r2"])


def test_bits_per_byte_do_not_depend_on_how_text_is_cut():
    """Two equally likely symbols of 1 and 3 bytes have one bit each."""
    measure = Measures(("bits_per_byte",), bytes_V=torch.tensor([1, 3]))
    assert measure(torch.zeros(2, 2), torch.tensor([0, 1]))["bits_per_byte"] == pytest.approx(2 / 4)
    output, target = scores(256)
    expected = functional.cross_entropy(output, target).item() / math.log(2)
    assert Measures(("bits_per_byte",))(output, target)["bits_per_byte"] == pytest.approx(expected)
    silent = Measures(("bits_per_byte",), bytes_V=torch.tensor([1, 0]))
    assert math.isnan(silent(torch.zeros(1, 2), torch.tensor([1]))["bits_per_byte"])


def test_only_what_is_asked_for_is_measured():
    output, target = scores(3)
    assert set(Measures(("f1", "auroc"))(output, target)) == {"f1", "auroc"}
    assert Measures(())(output, target) == {}
    again = pickle.loads(pickle.dumps(Measures(("f1",), bytes_V=torch.ones(3))))
    assert again(output, target) == Measures(("f1",))(output, target)


@pytest.mark.parametrize(
    ("names", "target", "classes", "told"),
    [
        (["f2"], LABELS, 3, r"task\.metrics=f2: targets that are classes have no .* accuracy, precision"),
        (["accuracy"], LABELS.float(), 1, r"task\.metrics=accuracy: targets that are numbers .* mse, mae, r2$"),
        (["bits_per_byte"], LABELS, 3, r"task\.metrics=bits_per_byte: "),
        ("f1", LABELS, 3, r"task\.metrics=f1: not a list of names"),
        (["confusion"], LABELS, 11, r"task\.metrics=confusion: 11 classes would be 121 metrics"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, target, classes, told):
    with pytest.raises(ValueError, match=told):
        build_measures(names, target, classes)


def test_a_task_measures_what_it_is_told():
    draw = np.random.default_rng(0)
    task = Supervised(Arrays(draw.normal(size=(50, 3)), np.arange(50) % 4), MLP, metrics=["f1", "auroc"])
    inputs, target = task.fetch("valid", 0, torch.arange(task.size("valid", 0)))
    assert set(task.metrics(task.forward(task.build(0), inputs), target)) == {"f1", "auroc"}
    text = Supervised(NextByte(valid_size=8, test_size=8), MLP, metrics=["bits_per_byte"])
    assert text.metrics(torch.zeros(5, 256), torch.arange(5))["bits_per_byte"] == pytest.approx(8)
    with pytest.raises(ValueError, match=r"^task\.metrics=r2: "):
        Supervised(Arrays(draw.normal(size=(50, 3)), np.arange(50) % 4), MLP, metrics=["r2"])


def test_of_text_two_numbers_a_symbol_are_kept_of_each_batch():
    """Batches give the same result as the whole part, and outputs over the vocabulary are not kept."""
    measure = Measures(("accuracy", "bits_per_byte"), bytes_V=torch.tensor([1, 3, 2, 0]))
    output, target = scores(4, count=60)
    output, target = output.view(10, 6, 4), target.view(10, 6)
    batches = [measure.kept(output[first : first + 5], target[first : first + 5]) for first in (0, 5)]
    whole = TargetScores(*(torch.cat(part) for part in zip(*batches, strict=True)))
    assert whole.nats_B.shape == whole.right_B.shape == (10, 6)
    assert measure(whole, target) == pytest.approx(measure(output, target))
    assert measure(output, target)["accuracy"] == pytest.approx(
        accuracy_score(target.flatten(), output.argmax(-1).flatten())
    )
    assert Measures(("f1",)).kept(output, target) is output
