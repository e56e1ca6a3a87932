"""Text as bytes: predict the next byte from the previous ones."""

from __future__ import annotations

import copy
import hashlib
import os
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .counts import check_counts
from .splits import is_folded

# Not part of the standard library's text: installed packages, tests, and build outputs, which differ by machine.
FOREIGN = (
    *("site-packages", "dist-packages", "test", "tests", "idle_test"),
    *("__pycache__", "lib-dynload", "config-*", "_sysconfigdata*", "sitecustomize.py", "usercustomize.py"),
)
HIDDEN = (".*",)
HELD = 0.1  # fraction of a text for validation, and the same for the test part


class Windowed:
    """A data set that stores the windows of each part, for each partition, in `_parts_K`."""

    _parts_K: list[dict[str, Windows]]

    def to(self, device: torch.device) -> Self:
        """Return the same data on `device`."""
        placed = copy.copy(self)
        placed._parts_K = [{part: rows.to(device) for part, rows in parts.items()} for parts in self._parts_K]
        return placed

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        return len(self._parts_K[partition][part])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the examples `index_B`."""
        return self._parts_K[partition][part].fetch(index_B)


class NextByte(Windowed):
    """A data set of bytes: inputs int64 [B, context], the bytes before each target; targets int64 [B]; 256 classes.

    A folder is split by file, 80 % for training and 10 % each for validation and test, in the order of a hash of
    `split_seed` and the file name. A single file is split into three contiguous pieces of 80, 10 and 10 % of its bytes,
    whatever `pattern` and `split_seed` are.

    Every byte of the training part is an example. Validation and test are random samples, drawn once. The start of a
    file is padded with zeros, so no example spans two files. (Text contains no zero bytes.)

    Args:
        path: A folder or a file. None for the source files of Python's standard library.
        pattern: Names of the files to read from a folder. Hidden files are skipped.
        context: Bytes of an input.
        split_seed: Of the split and of the samples.
        valid_size: Number of validation examples.
        test_size: Number of test examples.
        every: Whether each byte of an input has a target, the byte after it: targets are int64 [B, context]. No example
            then has padding, so files must be longer than `context`. Sizes count sequences.
        folds: Number of folds of everything but the test part (files, or pieces of the single file), instead of one
            validation part. None for no folds.

    Raises:
        ValueError: If the path is missing, unreadable, empty, too short or not text, or an argument cannot be used.
    """

    inputs, outputs = 256, 256

    def __init__(
        self,
        path: str | Path | None = None,
        pattern: str = "*.py",
        context: int = 8,
        split_seed: int = 0,
        valid_size: int = 4096,
        test_size: int = 16384,
        every: bool = False,
        folds: int | None = None,
    ) -> None:
        check_counts("data", 1, context=context, valid_size=valid_size, test_size=test_size)
        check_counts("data", 0, split_seed=split_seed)
        texts_K = read_texts(path, pattern, split_seed, folds)
        if not isinstance(every, bool):
            raise ValueError(f"data.every={every}: neither true nor false. Choose true or false")
        self.context, self.every = context, every
        all_K = [{part: windows(texts_F, context, every) for part, texts_F in texts.items()} for texts in texts_K]
        sizes, unit = {"valid": valid_size, "test": test_size}, "sequences" if every else "bytes"
        self._parts_K = [sample_parts(parts, sizes, split_seed, path, unit) for parts in all_K]
        self.partitions = len(self._parts_K)
        self.fingerprint = _fingerprint(self._parts_K)


def sample_parts(
    parts: Mapping[str, Windows], sizes: Mapping[str, int], seed: int, path: str | Path | None, unit: str
) -> dict[str, Windows]:
    """Return the parts, with random samples instead of the parts that `sizes` names.

    Args:
        parts: All examples of each part.
        sizes: Number of examples to draw, by part.
        seed: Of the samples.
        path: Where the text comes from, for the error.
        unit: A plural noun for the examples, for the error.

    Raises:
        ValueError: If a part has fewer examples.
    """
    for part, size in sizes.items():
        if len(parts[part]) < size:
            raise ValueError(
                f"data.path={_path_text(path)}: too short. Its {part} part has {len(parts[part])} {unit}, fewer than "
                f"data.{part}_size={size}. Choose a longer text, or a smaller data.{part}_size"
            )
    return {**parts, **{part: parts[part].sample(size, seed) for part, size in sizes.items()}}


@dataclass(frozen=True)
class Windows:
    """The symbols of one part and the positions of its examples. Examples overlap, and are cut when they are fetched.

    Attributes:
        bytes_N: All files in a row, uint8 (other symbols: int16 or int32). `context` zeros precede each file, unless
            `every`.
        first_F: Index of each file's first example, int64.
        offset_C: -context to 0, int64.
        place_K: Positions in bytes_N of the (last) targets of a sample, int64. None for all examples.
        every: Whether each symbol of an input has a target.
    """

    bytes_N: Tensor
    first_F: Tensor
    offset_C: Tensor
    place_K: Tensor | None = None
    every: bool = False

    def __len__(self) -> int:
        if self.place_K is not None:
            return len(self.place_K)
        return len(self.bytes_N) - len(self.first_F) * (len(self.offset_C) - 1)

    def places(self, index_B: Tensor) -> Tensor:
        """Return the positions of the last targets in bytes_N. They skip the first `context` bytes of every file."""
        if self.place_K is not None:
            return self.place_K[index_B]
        files_B = torch.searchsorted(self.first_F, index_B, right=True)
        return index_B + files_B * (len(self.offset_C) - 1)

    def fetch(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the examples `index_B`."""
        window = self.bytes_N[self.places(index_B).unsqueeze(-1) + self.offset_C].long()
        return window[..., :-1], window[..., 1:] if self.every else window[..., -1]

    def sample(self, size: int, seed: int) -> Windows:
        """Return `size` random examples without replacement."""
        drawn = np.random.default_rng(seed).choice(len(self), size, replace=False, shuffle=False)
        return replace(self, place_K=self.places(torch.from_numpy(np.sort(drawn))))

    def to(self, device: torch.device) -> Windows:
        """Return the same examples on `device`."""
        place_K = None if self.place_K is None else self.place_K.to(device)
        return Windows(self.bytes_N.to(device), self.first_F.to(device), self.offset_C.to(device), place_K, self.every)


def windows(texts_F: Sequence[bytes], context: int, every: bool = False) -> Windows:
    """Return every byte as an example with the bytes before it, or every sequence within one file.

    Args:
        texts_F: Contents of the files, none of them empty.
        context: Bytes of an input.
        every: Whether examples are sequences with a target for each byte.
    """
    rows = [text for text in texts_F if len(text) > context] if every else [bytes(context) + text for text in texts_F]
    first_F = np.cumsum([0, *(len(row) - context for row in rows)])[: len(rows)]
    return Windows(
        torch.from_numpy(np.frombuffer(b"".join(rows), dtype=np.uint8).copy()),
        torch.from_numpy(first_F.astype(np.int64)),
        torch.arange(-context, 1),
        every=every,
    )


def read_texts(
    path: str | Path | None, pattern: str, seed: int, folds: int | None = None
) -> list[dict[str, list[bytes]]]:
    """Return the contents of the files of each part, for each fold.

    Args:
        path: A folder or a file. None for the source files of Python's standard library.
        pattern: Names of the files to read from a folder.
        seed: Of the split by file.
        folds: Number of folds. None or 1 for no folds.

    Raises:
        ValueError: If there are too few files, or a file is unreadable or not text.
    """
    count = folds if folds is not None and is_folded(folds) else 1
    if path is not None and Path(path).expanduser().is_file():
        return _split_into_pieces(_read(Path(path).expanduser(), path), path, count)
    texts = read_files(path, pattern)
    if len(texts) < max(3, count + 1):
        needed = "three are" if count < 3 else f"{count + 1} for data.folds={count} are"
        raise ValueError(
            f"data.path={_path_text(path)}: {len(texts)} nonempty files match data.pattern={pattern}, and {needed} "
            "needed, because training, validation and test share no file. Change data.pattern, or choose a single "
            "file, which is split into three pieces"
        )
    return _split_by_file(texts, seed, count)


def read_files(path: str | Path | None, pattern: str) -> dict[str, bytes]:
    """Return the contents of the nonempty files of a folder by relative path, in sorted order.

    Args:
        path: The folder. None for Python's standard library.
        pattern: Names of the files.

    Raises:
        ValueError: If there is no such folder, or a file is unreadable or not text.
    """
    root = Path(sysconfig.get_path("stdlib")) if path is None else Path(path).expanduser()
    if str(path) == "" or not root.is_dir():
        raise ValueError(
            f"data.path={path}: there is no such file or folder. Choose one, or null for Python's standard library"
        )
    names = _list_files(root, pattern, HIDDEN if path else FOREIGN, path)
    return {name: text for name in names if (text := _read(root / name, path))}


def _list_files(root: Path, pattern: str, skipped: Sequence[str], path: str | Path | None) -> list[str]:
    """Return the relative paths of the files below `root` in sorted order."""

    def is_included(name: str) -> bool:
        return not any(fnmatchcase(name, skip) for skip in skipped)

    def refuse(error: OSError) -> None:
        raise _unreadable_file(path, error)

    paths = []
    for folder, inner, files in os.walk(root, onerror=refuse):
        inner[:] = filter(is_included, inner)
        relative = Path(folder).relative_to(root)
        paths += [(relative / name).as_posix() for name in files if is_included(name) and fnmatchcase(name, pattern)]
    return sorted(paths)


def _read(file: Path, path: str | Path | None) -> bytes:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise _unreadable_file(path, error) from error
    if 0 in text:
        raise ValueError(
            f"data.path={_path_text(path)}: {file} is not text. It contains zero bytes, as UTF-16 does. "
            "Choose text files with data.pattern, or save it as UTF-8"
        )
    return text


def _split_into_pieces(text: bytes, path: str | Path | None, folds: int) -> list[dict[str, list[bytes]]]:
    size = int(len(text) * HELD)
    if size == 0:
        raise ValueError(f"data.path={path}: too short, with {len(text)} bytes. Choose a longer text, or a folder")
    rest, test = text[:-size], [text[-size:]]
    if folds == 1:
        return [{"train": [rest[:-size]], "valid": [rest[-size:]], "test": test}]
    ends = [len(rest) * fold // folds for fold in range(folds + 1)]
    return [
        {"train": [piece for piece in (rest[:first], rest[last:]) if piece], "valid": [rest[first:last]], "test": test}
        for first, last in pairwise(ends)
    ]


def _split_by_file(texts: dict[str, bytes], seed: int, folds: int) -> list[dict[str, list[bytes]]]:
    order = sorted(texts, key=lambda name: hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape")).digest())
    size = max(1, round(len(order) * HELD))
    test, rest = order[size : 2 * size], order[:size] + order[2 * size :]
    valids = [rest[:size]] if folds == 1 else [rest[fold::folds] for fold in range(folds)]
    return [
        {
            "train": [texts[name] for name in rest if name not in valid],
            "valid": [texts[name] for name in rest if name in valid],
            "test": [texts[name] for name in test],
        }
        for valid in map(set, valids)
    ]


def _fingerprint(parts_K: list[dict[str, Windows]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (part for parts in parts_K for part in parts.values()):
        for tensor in (part.bytes_N, part.first_F, part.place_K):
            if tensor is not None:
                digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _unreadable_file(path: str | Path | None, error: OSError) -> ValueError:
    return ValueError(
        f"data.path={_path_text(path)}: {error.filename} cannot be read ({error.strerror}). "
        "Make it readable, or leave it out with data.pattern"
    )


def _path_text(path: str | Path | None) -> str:
    return "null (the standard library)" if path is None else str(path)
