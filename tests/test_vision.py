"""Image data sets from the command line: the user's files, the recipe, and the error if files are missing."""

import gzip
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

# torch's DataLoader forks its processes. From 3.12 on, Python warns about forks in programs with threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

SHORT = [
    *("search.reports=4", "search.n_trials=1", "search.concurrent_trials=1", "tracking=none", "schedule=cosine"),
    *("trainer.workers=1", "device=cpu"),
]
FASHION = [*SHORT, "data=fashion_mnist", "data.path=fashion", "model=cnn", "model.width=4", "train.steps=4"]


@pytest.fixture
def files(tmp_path):
    """Write small files of both data sets in their original formats, below the working folder."""
    draw = np.random.default_rng(0)
    fashion, cifar = tmp_path / "fashion", tmp_path / "cifar-10-batches-py"
    fashion.mkdir()
    cifar.mkdir()
    for stem, count in (("train", 60), ("t10k", 20)):
        pixels, label = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10
        for name, array in (("images-idx3", pixels), ("labels-idx1", label)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (fashion / f"{stem}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {b"data": draw.integers(0, 256, (8, 3072), dtype=np.uint8), b"labels": list(range(8))}
        (cifar / name).write_bytes(pickle.dumps(batch, protocol=2))
    return tmp_path


def trained(sweeper, *words):
    code, _, err = sweeper(*words)
    assert code == 0, err
    answer = json.loads(sweeper("status", "--json")[1])
    assert answer["finished"]
    assert answer["trials"]["failed"] == 0
    return answer


@pytest.mark.slow
def test_fashion_mnist_trains_with_augmentation(files, sweeper):
    trained(sweeper, *FASHION, "data.augment={crop: 2, flip: true, cutout: 6, mixup: 0.2}", "trainer=lanes")


@pytest.mark.slow
def test_streamed_images_train_one_at_a_time_with_any_number_of_processes(files, sweeper):
    trained(sweeper, *FASHION, "trainer=lanes", "data.stream=true")
    trained(sweeper, *FASHION, "trainer=lanes", "data.stream=2", "search.n_trials=2")
    assert len(list(Path("sweeps").iterdir())) == 1


@pytest.mark.parametrize("data", ["fashion_mnist", "cifar10"])
@pytest.mark.parametrize("path", ["null", "nowhere"])
def test_missing_files_are_told_before_anything_is_written(sweeper, data, path):
    code, _, err = sweeper(*SHORT, f"data={data}", f"data.path={path}", "model=cnn")
    assert code == 2
    assert "Get " in err
    assert "https://" in err
    assert "set data.path to" in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("sweeps").exists()


@pytest.mark.parametrize(("key", "told"), [("zoom", "there is no such augmentation"), ("crop", "not a count")])
def test_augmentation_that_is_wrong_is_told_by_its_key(files, sweeper, key, told):
    code, _, err = sweeper(*FASHION, f"+data.augment={{{key}: -3}}")
    assert code == 2
    assert f"data.augment.{key}=-3: {told}" in err


def test_the_recipe_composes(sweeper):
    code, out, err = sweeper("experiment=cifar10", "data.path=x", "--cfg", "job")
    assert code == 0, err
    for line in (
        "batch_size: 512",
        "epochs: 24",
        "steps: null",
        "precision: bfloat16",
        "weight_decay: 0.0005",
        "label_smoothing: 0.1",
    ):
        assert line in out


@pytest.mark.slow
def test_the_recipe_trains(files, sweeper):
    trained(sweeper, *SHORT, "experiment=cifar10", "data.path=.", "train.epochs=null", "train.steps=4",
            "train.batch_size=8", "model.width=8", "data.augment.mixup=0.2")  # fmt: skip
