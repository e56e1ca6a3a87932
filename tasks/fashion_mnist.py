"""Fashion-MNIST: 70,000 images of 28 x 28 pixels in ten classes (Xiao et al. 2017, arXiv 1708.07747), from IDX files.

MNIST and Kuzushiji-MNIST have the same file names and format, so this module reads them too.
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
    """Return the images of train-images-idx3-ubyte, train-labels-idx1-ubyte and their t10k- counterparts.

    Args:
        path: The folder of the four files, gzipped or not.
        options: The options of `Images`.

    Raises:
        ValueError: If files are missing or damaged, or an option cannot be used.
    """
    root = root_of(path, "Fashion-MNIST's four files", SOURCE)
    trained, tested = (_read_images(root, stem) for stem in STEMS.values())
    if trained.pixels.shape[1:] != tested.pixels.shape[1:]:
        sizes = [" x ".join(map(str, images.pixels.shape[2:])) for images in (trained, tested)]
        raise damaged_file(root, f"training images have {sizes[0]} pixels, and test images have {sizes[1]}", SOURCE)
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
    """Return the array of bytes in an IDX file.

    The file starts with 0, 0, 8 (the type: bytes) and the number of dimensions. Then come the size of each dimension,
    as big-endian words of 4 bytes, and the values.

    Source: yann.lecun.com/exdb/mnist, "the IDX file format".

    Args:
        file: The file, gzipped if it ends with .gz.
        dimensions: The expected number of dimensions.

    Raises:
        ValueError: If the file is damaged or of another kind.
    """
    content = _content(file)
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise damaged_file(file, f"it starts with {content[:4].hex(' ')}, not with {magic.hex(' ')}", SOURCE)
    first = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, first, 4)]
    if len(content) != first + math.prod(sizes):
        problem = f"it has {len(content)} bytes, and its header implies {first + math.prod(sizes)}"
        raise damaged_file(file, problem, SOURCE)
    return np.frombuffer(content, dtype=np.uint8, offset=first).reshape(sizes).copy()  # frombuffer is read-only


def _content(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise damaged_file(file, f"it cannot be read ({error})", SOURCE) from error
