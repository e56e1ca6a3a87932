"""Fashion-MNIST's files: the published files are read, and others give one clear error."""

import gzip
import struct

import numpy as np
import pytest
import torch

from sweeper.tasks.fashion_mnist import SOURCE, fashion_mnist

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array):
    """Return an IDX file: two zeros, the type 8 (unsigned byte), the dimensions, their sizes, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Write files of fifty training and ten test images."""
    draw = np.random.default_rng(0)
    for stem, count in (("train", 50), ("t10k", 10)):
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(
            idx(draw.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        )
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx(draw.integers(0, 10, count, dtype=np.uint8)))
    return tmp_path


def zipped(folder):
    for name in NAMES:
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    return folder


def refused(folder):
    with pytest.raises(ValueError, match=r"data\.path") as error:
        fashion_mnist(folder)
    assert SOURCE in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_are_read_in_their_true_format(folder):
    data = fashion_mnist(folder, valid=0.2)
    assert [data.size(part, 0) for part in ("train", "valid", "test")] == [40, 10, 10]
    assert (data.shape, data.inputs, data.outputs) == ((1, 28, 28), 784, 10)
    draw = np.random.default_rng(0)
    draw.integers(0, 256, (50, 28, 28), dtype=np.uint8), draw.integers(0, 10, 50, dtype=np.uint8)
    pixels, label = data.fetch("test", 0, torch.arange(10))
    assert (
        (pixels * data._moments_K[0][1] + data._moments_K[0][0]).round().numpy()[:, 0]
        == draw.integers(0, 256, (10, 28, 28), dtype=np.uint8)
    ).all()
    assert (label.numpy() == draw.integers(0, 10, 10, dtype=np.uint8)).all()


def test_gzipped_files_are_the_same_data(folder):
    plain = fashion_mnist(folder)
    assert fashion_mnist(zipped(folder)).fingerprint == plain.fingerprint


@pytest.mark.parametrize("path", [None, ""])
def test_no_path_says_where_people_get_the_files(path):
    said = refused(path)
    assert "not downloaded automatically" in said
    assert "set data.path to their folder" in said


def test_a_missing_folder_and_a_missing_file_are_named(folder):
    assert "nowhere not found" in refused(folder / "nowhere")
    (folder / NAMES[2]).unlink()
    assert f"{NAMES[2]}[.gz] not found" in refused(folder)


DAMAGE = {
    "magic": (NAMES[0], lambda content: b"\x89PNG" + content[4:], "it starts with 89 50 4e 47, not with 00 00 08 03"),
    "other kind": (NAMES[0], lambda content: idx(np.zeros(50, np.uint8)), "not with 00 00 08 03"),
    "empty": (NAMES[1], lambda content: b"", "it starts with , not with 00 00 08 01"),
    "header": (NAMES[1], lambda content: content[:6], "it has 6 bytes, and its header implies"),
    "truncated": (NAMES[0], lambda content: content[:-1], "it has 39215 bytes, and its header implies 39216"),
    "too long": (NAMES[3], lambda content: content + b"\0", "it has 19 bytes, and its header implies 18"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_refused(folder, kind):
    name, damage, told = DAMAGE[kind]
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    said = refused(folder)
    assert f"data.path={folder / name}" in said
    assert told in said


@pytest.mark.parametrize("damage", [lambda c: c[:-20], lambda c: c[:40] + b"x" * 9 + c[49:], lambda c: b"plain" + c])
def test_damaged_gzip_is_refused(folder, damage):
    zipped(folder)
    file = folder / f"{NAMES[0]}.gz"
    file.write_bytes(damage(file.read_bytes()))
    assert f"data.path={file}: damaged, or a file of another kind" in refused(folder)


def test_images_without_their_labels_and_labels_out_of_range_are_refused(folder):
    (folder / NAMES[1]).write_bytes(idx(np.full(50, 10, np.uint8)))
    with pytest.raises(ValueError, match="has the label 10, and classes are 0 to 9"):
        fashion_mnist(folder)
    (folder / NAMES[1]).write_bytes(idx(np.zeros(49, np.uint8)))
    with pytest.raises(ValueError, match="50 images have 49 labels"):
        fashion_mnist(folder)


def test_images_of_two_sizes_are_refused(folder):
    (folder / NAMES[2]).write_bytes(idx(np.zeros((10, 27, 28), np.uint8)))
    assert "training images have 28 x 28 pixels, and test images have 27 x 28" in refused(folder)
