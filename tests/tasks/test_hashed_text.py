"""Hashed words: compared with scikit-learn's matrix, and learned by the model."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from torch import nn

from sweeper.tasks.hashed_text import Words, hashed_text
from sweeper.tasks.problems import Supervised
from sweeper.tasks.sparse_model import SparseLinear


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write three folders of text with different words, and one file next to them."""
    folder, draw = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    for name, words in {"fruit": "apple pear plum", "metal": "iron tin lead", "bird": "crow wren tit"}.items():
        (folder / name).mkdir()
        for number in range(6):
            lines = [" ".join(draw.choice([*words.split(), "and", "the"], 6)) for _ in range(20)]
            (folder / name / f"{number}.txt").write_text("\n\n".join(lines))
    (folder / "alone.txt").write_text("one line\n")
    return folder


def read(folder, **asked):
    return hashed_text(folder, "*.txt", **{"lines": 2, "classes": 3, "features": 256} | asked)


def dense(words, features):
    rows = torch.zeros(len(words.value_BK), features)
    return rows.scatter_add(1, words.feature_BK, words.value_BK)


def every(data, part, partition=0):
    return data.fetch(part, partition, torch.arange(data.size(part, partition)))


def test_the_features_are_scikit_learns(folder, tmp_path):
    texts = ["apple pear apple", "tin", "", "the the the wren and"]
    (tmp_path / "t.csv").write_text(
        "words,kind\n" + "".join(f'"{text} x{i}y",{i % 2}\n' for i, text in enumerate(texts * 8))
    )
    data = hashed_text(tmp_path / "t.csv", text="words", target="kind", features=64, ngrams=2, valid=0.25, test=0.25)
    assert [data.size(part, 0) for part in ("train", "valid", "test")] == [16, 8, 8]
    found = torch.cat([dense(every(data, part)[0], 64) for part in ("train", "valid", "test")])
    hashing = HashingVectorizer(n_features=64, ngram_range=(1, 2))
    expected = hashing.transform([f"{text} x{i}y" for i, text in enumerate(texts * 8)]).toarray().astype(np.float32)
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected.tolist()), rtol=1e-6)


def test_of_long_pieces_the_largest_features_are_kept(folder):
    whole, cut = (every(read(folder, lines=4, longest=longest), "valid")[0] for longest in (256, 3))
    assert cut.value_BK.shape[1] == 3
    largest = whole.value_BK.abs().sort(descending=True).values[:, :3]
    torch.testing.assert_close(cut.value_BK.abs(), largest)


def test_a_class_is_the_top_folder_and_the_largest_are_taken(folder):
    data = read(folder)
    assert data.classes == ("bird", "fruit", "metal")
    assert sum(data.size(part, 0) for part in ("train", "valid", "test")) == 3 * 6 * 10
    assert read(folder, classes=2).outputs == 2
    assert "alone" not in data.classes


def test_the_model_is_an_embedding_bag(folder):
    inputs, _ = every(read(folder), "valid")
    model = SparseLinear(256, 3)
    nn.init.normal_(model.weight.weight)
    bag = nn.functional.embedding_bag(
        inputs.feature_BK, model.weight.weight, per_sample_weights=inputs.value_BK, mode="sum"
    )
    torch.testing.assert_close(model(inputs), bag)
    padded = Words(torch.tensor([[5, 0]]), torch.tensor([[1.0, 0.0]]))
    model(padded).sum().backward()
    assert model.weight.weight.grad[0].eq(0).all()  # padding is not a feature


def test_folders_are_told_apart(folder):
    task = Supervised(read(folder), SparseLinear, metrics=["accuracy", "auroc"])
    model, (inputs_B, target_B) = task.build(0), every(task.data, "train")
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.5)
    assert task.loss(model(inputs_B), target_B).mean().item() == pytest.approx(task.untrained_loss)
    for _ in range(20):
        optimizer.zero_grad()
        task.loss(model(inputs_B), target_B).mean().backward()
        optimizer.step()
    inputs, target = every(task.data, "test")
    assert task.metrics(model(inputs), target)["accuracy"] > 0.9


def test_folds_share_the_test_part(folder):
    data = read(folder, folds=3)
    assert data.partitions == 3
    assert torch.equal(every(data, "test", 0)[0].value_BK, every(data, "test", 2)[0].value_BK)
    assert sum(data.size("valid", fold) for fold in range(3)) == 162


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"features": 1}, r"data\.features=1: "),
        ({"lines": 0}, r"data\.lines=0: "),
        ({"test": 0.0}, r"data\.valid=0\.1: with data\.test=0\.0"),
    ],
)
def test_what_cannot_be_is_refused(folder, asked, told):
    with pytest.raises(ValueError, match=told):
        read(folder, **asked)


def test_text_of_one_class_or_without_its_columns_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"fewer than two classes \(0\)"):
        hashed_text(folder / "fruit", "0.txt", lines=2)
    with pytest.raises(ValueError, match=r"fewer than two classes \(none\)"):
        hashed_text(folder, "*.rst")
    (tmp_path / "t.csv").write_text("a,b\nx,y\n,z\n")
    with pytest.raises(ValueError, match=r"data\.text=words: .* Choose from a, b"):
        hashed_text(tmp_path / "t.csv", text="words", target="b")
    with pytest.raises(ValueError, match=r"data\.text=a: 1 of 2 rows have no value"):
        hashed_text(tmp_path / "t.csv", text="a", target="b")
