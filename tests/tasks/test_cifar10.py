"""CIFAR-10's files: both published versions are read, without running code in a pickle."""

import io
import pickle
import struct
import tarfile
from typing import ClassVar

import numpy as np
import pytest
import torch

from sweeper.tasks.cifar10 import SOURCE, cifar10

TRAINED = [f"data_batch_{i}" for i in range(1, 6)]
NAMES = [*TRAINED, "test_batch"]
COUNT = 8  # images of a file


class Python2(pickle._Pickler):
    """A pickler like Python 2's, which wrote the published files: bytes are str."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        code = b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))
        self.write(code + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2(value):
    file = io.BytesIO()
    Python2(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def images(name):
    """Return uint8 [N, 3072] and the labels of a file."""
    draw = np.random.default_rng(NAMES.index(name))
    return draw.integers(0, 256, (COUNT, 3072), dtype=np.uint8), draw.integers(0, 10, COUNT).tolist()


def batch(name, **changes):
    data, labels = images(name)
    files = [f"image_{i}.png".encode() for i in range(COUNT)]
    content = {b"batch_label": name.encode(), b"labels": labels, b"data": data, b"filenames": files}
    return {key: value for key, value in (content | changes).items() if value is not None}


def record(name):
    data, labels = images(name)
    return b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, data, strict=True))


@pytest.fixture
def python(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(python2(batch(name)))
    (folder / "batches.meta").write_bytes(python2({b"num_cases_per_batch": COUNT}))
    return folder


@pytest.fixture
def binary(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.bin").write_bytes(record(name))
    return folder


def packed(folder, name):
    archive = folder.parent / name
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, folder.name)
    return archive


def refused(path):
    with pytest.raises(ValueError, match=r"data\.path") as error:
        cifar10(path)
    assert SOURCE in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_python_2_wrote_so():
    """Compare with the first bytes of the published data_batch_1, without its contents."""
    content = python2(batch("data_batch_1"))
    assert content[:2] == b"\x80\x02"
    assert b"U\x0bbatch_label" in content
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content
    assert b"_codecs" not in content


def test_the_python_version(python):
    data = cifar10(python, valid=0.25)
    assert [data.size(part, 0) for part in ("train", "valid", "test")] == [30, 10, COUNT]
    assert (data.shape, data.inputs, data.outputs) == ((3, 32, 32), 3072, 10)
    pixels, label = data.fetch("test", 0, torch.arange(COUNT))
    expected, labels = images("test_batch")
    assert (
        (pixels * data._moments_K[0][1] + data._moments_K[0][0]).round().numpy().reshape(COUNT, -1) == expected
    ).all()
    assert label.tolist() == labels


def test_all_versions_wherever_they_lie_are_the_same_data(python, binary, tmp_path):
    known = cifar10(python).fingerprint
    assert cifar10(tmp_path).fingerprint == known
    assert cifar10(binary).fingerprint == known
    archives = [packed(python, "cifar-10-python.tar.gz"), packed(binary, "cifar-10-binary.tar.gz")]
    assert [cifar10(archive).fingerprint for archive in archives] == [known, known]
    for folder in (python, binary):
        folder.rename(tmp_path.parent / f"{tmp_path.name}-{folder.name}")
    assert cifar10(tmp_path).fingerprint == known


def test_files_that_python_3_wrote_are_read_too(python):
    known = cifar10(python).fingerprint
    (python / "data_batch_3").write_bytes(pickle.dumps(batch("data_batch_3"), protocol=2))
    assert cifar10(python).fingerprint == known


def test_no_path_says_where_people_get_the_files():
    assert "not downloaded automatically" in refused(None)


def test_what_is_missing_is_named(python, tmp_path):
    assert "nowhere not found" in refused(tmp_path / "nowhere")
    (python / "data_batch_4").unlink()
    assert "data_batch_4 not found" in refused(python)
    (tmp_path / "empty").mkdir()
    assert "data_batch_1" in refused(tmp_path / "empty")


class Bomb:
    def __reduce__(self):
        return eval, ("open('exploded', 'w')",)


PICKLES = {
    "truncated": (python2(batch("data_batch_2"))[:-900], "cannot be unpickled"),
    "no pickle": (b"<html>404</html>", "cannot be unpickled"),
    "empty": (b"", "cannot be unpickled"),
    "code": (pickle.dumps(batch("data_batch_2", x=Bomb()), protocol=2), "it refers to __builtin__.eval"),
    "no mapping": (python2([1, 2]), "does not contain images with labels"),
    "no labels": (python2(batch("data_batch_2") | {b"labels": None}), "labels are not classes"),
    "cifar-100": (
        python2({key.replace(b"labels", b"fine_labels"): v for key, v in batch("data_batch_2").items()}),
        "does not contain images with labels",
    ),
    "floats": (python2(batch("data_batch_2") | {b"data": np.zeros((8, 3072))}), "its data are not 3072 bytes"),
    "size": (python2(batch("data_batch_2") | {b"data": np.zeros((8, 784), np.uint8)}), "its data are not 3072 bytes"),
    "fewer labels": (python2(batch("data_batch_2") | {b"labels": [1]}), "8 images have 1 labels"),
    "label": (python2(batch("data_batch_2") | {b"labels": [10] * 8}), "label 10, and classes are 0 to 9"),
    "negative": (python2(batch("data_batch_2") | {b"labels": [-1] * 8}), "its labels are not classes"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_damaged_pickles_are_refused_and_run_nothing(python, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, told = PICKLES[kind]
    (python / "data_batch_2").write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.path=.*data_batch_2: ") as error:
        cifar10(python)
    assert told in str(error.value)
    assert not (tmp_path / "exploded").exists()


def test_damaged_records_are_refused(binary):
    file = binary / "data_batch_2.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert f"its {8 * 3073 - 1} bytes are not a multiple of 3073" in refused(binary)
    file.write_bytes(whole[:-3073])
    assert "it has 7 images, and other files have 8" in refused(binary)
    file.write_bytes(b"\x0b" + whole[1:])
    with pytest.raises(ValueError, match="label 11, and classes are 0 to 9"):
        cifar10(binary)


def test_damaged_archives_are_refused(python, tmp_path):
    archive = packed(python, "cifar-10-python.tar.gz")
    content = archive.read_bytes()
    for damaged in (content[: len(content) // 2], content[100:], b""):
        archive.write_bytes(damaged)
        assert "it cannot be unpacked" in refused(archive)
    (python / "test_batch").unlink()
    assert "it has no test_batch" in refused(packed(python, "cifar-10-python.tar.gz"))
