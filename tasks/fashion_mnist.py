"""Fashion-MNIST: 70,000 images of 28 x 28 pixels, ten classes (Xiao et al. 2017, arXiv 1708.07747), from IDX files.

MNIST and Kuzushiji-MNIST have files of the same names and format, and are read as well.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import damaged_file, missing_file, root_of
from .images import Images, LabeledImages, check_images

SOURCE = "https://github.com/zalandoresearch/fashion-mnist"
CLASSES = 10
STEMS = {"train": "train", "test": "t10k"}


def fashion_mnist(path: str | Path | None = None, **options: Any) -> Images:
    """The images of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... in the folder `path`, gzipped or not.

    options: those of Images. Raises ValueError for files that are missing or damaged.
    """
    root = root_of(path, "Fashion-MNIST's four files", SOURCE)
    trained, tested = (_read_images(root, stem) for stem in STEMS.values())
    if trained.pixels.shape[1:] != tested.pixels.shape[1:]:
        sizes = [" x ".join(map(str, images.pixels.shape[2:])) for images in (trained, tested)]
        raise damaged_file(root, f"images are {sizes[0]} pixels for training, {sizes[1]} for the test", SOURCE)
    return Images(trained, tested, classes=CLASSES, **options)


def _read_images(root: Path, stem: str) -> LabeledImages:
    file = _find_file(root, f"{stem}-labels-idx1-ubyte")
    pixels, label = read_idx(_find_file(root, f"{stem}-images-idx3-ubyte"), 3), read_idx(file, 1)
    return check_images(str(file), LabeledImages(pixels[:, None], label), CLASSES)


def _find_file(root: Path, name: str) -> Path:
    for file in (root / name, root / f"{name}.gz"):
        if file.is_file():
            return file
    raise missing_file(root, f"{name}[.gz]", SOURCE)


def read_idx(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes of an IDX file: 0, 0, 8 (bytes), the dimensions, each one's size, then the numbers.

    Sizes are big-endian words of 4 bytes (yann.lecun.com/exdb/mnist, "the IDX file format"). Raises ValueError.
    """
    content = _content(file)
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise damaged_file(file, f"it begins with {content[:4].hex(' ')}, not with {magic.hex(' ')}", SOURCE)
    first = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, first, 4)]
    if len(content) != first + math.prod(sizes):
        told = " x ".join(map(str, sizes))
        raise damaged_file(file, f"{told} numbers are announced, and {max(0, len(content) - first)} there", SOURCE)
    return np.frombuffer(content, dtype=np.uint8, offset=first).reshape(sizes).copy()  # one that may be written to


def _content(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise damaged_file(file, f"it cannot be read ({error})", SOURCE) from error
