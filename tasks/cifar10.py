"""CIFAR-10: 60,000 color images of 32 x 32 pixels in ten classes (Krizhevsky 2009), from the published files."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from .files import damaged_file, missing_file, root_of
from .images import Images, LabeledImages, check_images

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CLASSES, SHAPE, PIXELS = 10, (3, 32, 32), 3072


class _Version(NamedTuple):
    """A published version of the files.

    Attributes:
        archive: Name of the archive.
        folder: Name of the folder inside the archive.
        trained: Names of the training files.
        tested: Name of the test file.
        read: (file name, content) -> images.
    """

    archive: str
    folder: str
    trained: tuple[str, ...]
    tested: str
    read: Callable[[str, bytes], LabeledImages]


def cifar10(path: str | Path | None = None, **options: Any) -> Images:
    """Return the images of the Python or the binary version.

    The Python version consists of pickles. They are read without running any code in them.

    Args:
        path: The .tar.gz, its unpacked folder, or a folder that contains one of them.
        options: The options of `Images`.

    Raises:
        ValueError: If files are missing or damaged, or an option cannot be used.
    """
    root = root_of(path, "CIFAR-10's files", SOURCE)
    version, contents = _read_version(root)
    images = {name: version.read(f"{root}/{name}", content) for name, content in contents.items()}
    counts = {name: len(images[name].label) for name in version.trained}
    name = min(counts, key=lambda name: counts[name])
    if counts[name] < max(counts.values()):
        problem = f"it has {counts[name]} images, and other files have {max(counts.values())}"
        raise damaged_file(f"{root}/{name}", problem, SOURCE)
    trained = LabeledImages(*map(np.concatenate, zip(*(images[name] for name in version.trained), strict=True)))
    return Images(trained, images[version.tested], classes=CLASSES, **options)


# --- where the files are ----------------------------------------------------------------------------


def _read_version(root: Path) -> tuple[_Version, dict[str, bytes]]:
    """Return the version found at `root`, and the contents of its files by name."""
    if root.is_file():
        return _unpack(root)
    for version in VERSIONS:
        for folder in (root, root / version.folder):
            names = (*version.trained, version.tested)
            if any((folder / name).is_file() for name in names):
                return version, {name: _read(folder / name) for name in names}
        if (root / version.archive).is_file():
            return _unpack(root / version.archive)
    raise missing_file(root, f"{VERSIONS[0].folder}/{VERSIONS[0].trained[0]} (or another version)", SOURCE)


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise missing_file(file.parent, file.name, SOURCE)
    try:
        return file.read_bytes()
    except OSError as error:
        raise damaged_file(file, f"it cannot be read ({error.strerror})", SOURCE) from error


def _unpack(archive: Path) -> tuple[_Version, dict[str, bytes]]:
    """Return the version and the contents of a .tar.gz. Nothing is written to disk."""
    known = {name for version in VERSIONS for name in (*version.trained, version.tested)}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                name = PurePosixPath(member.name).name
                file = members.extractfile(member) if name in known and member.isfile() else None
                if file is not None:
                    contents[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise damaged_file(archive, f"it cannot be unpacked ({error})", SOURCE) from error
    version = VERSIONS[0] if any(name in contents for name in VERSIONS[0].trained) else VERSIONS[1]
    for name in (*version.trained, version.tested):
        if name not in contents:
            raise damaged_file(archive, f"it has no {name}", SOURCE)
    return version, {name: contents[name] for name in (*version.trained, version.tested)}


# --- the two formats --------------------------------------------------------------------------------


def _read_python(file: str, content: bytes) -> LabeledImages:
    """Read a pickled mapping with b"data", uint8 [N, 3072], and b"labels", a list of N numbers."""
    try:
        batch = _Plain(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise damaged_file(file, f"it cannot be unpickled ({error})", SOURCE) from error
    if not isinstance(batch, Mapping) or b"data" not in batch or b"labels" not in batch:
        raise damaged_file(file, "it does not contain images with labels", SOURCE)
    pixels, label = batch[b"data"], np.asarray(batch[b"labels"])
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        raise damaged_file(file, f"its data are not {PIXELS} bytes for each image", SOURCE)
    if label.dtype.kind not in "iu" or label.ndim != 1 or (len(label) and not 0 <= label.min() <= label.max() <= 255):
        raise damaged_file(file, "its labels are not classes", SOURCE)
    return check_images(file, LabeledImages(pixels.reshape(-1, *SHAPE), label.astype(np.uint8)), CLASSES)


def _read_binary(file: str, content: bytes) -> LabeledImages:
    """Read records of one byte for the class and 3,072 for the pixels."""
    if not content or len(content) % (1 + PIXELS):
        problem = f"its {len(content)} bytes are not a multiple of {1 + PIXELS}"
        raise damaged_file(file, problem, SOURCE)
    record = np.frombuffer(content, dtype=np.uint8).reshape(-1, 1 + PIXELS)
    return check_images(file, LabeledImages(record[:, 1:].reshape(-1, *SHAPE).copy(), record[:, 0].copy()), CLASSES)


class _Plain(pickle.Unpickler):
    """An unpickler of arrays, text, numbers and containers, which refuses anything that could run code."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # bytes, as Python 3 writes them for Python 2
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which CIFAR-10 does not need")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


VERSIONS = (
    _Version(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        _read_python,
    ),
    _Version(
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test_batch.bin",
        _read_binary,
    ),
)
