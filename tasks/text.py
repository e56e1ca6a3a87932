"""Text as bytes: the next one from the last few."""

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

# Not the library's own text: other people's packages, tests, what a build wrote (it differs between machines).
FOREIGN = (
    *("site-packages", "dist-packages", "test", "tests", "idle_test"),
    *("__pycache__", "lib-dynload", "config-*", "_sysconfigdata*", "sitecustomize.py", "usercustomize.py"),
)
HIDDEN = (".*",)
HELD = 0.1  # of a text, for validation, and again for the test


class Windowed:
    """Data that hold the windows of each part, by partition, in `_parts_K`."""

    _parts_K: list[dict[str, Windows]]

    def to(self, device: torch.device) -> Self:
        placed = copy.copy(self)
        placed._parts_K = [{part: own.to(device) for part, own in parts.items()} for parts in self._parts_K]
        return placed

    def size(self, part: str, partition: int) -> int:
        return len(self._parts_K[partition][part])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        return self._parts_K[partition][part].fetch(index_B)


class NextByte(Windowed):
    """Inputs int64 [B, context], the bytes before each target; targets int64 [B]; 256 classes.

    path: a folder, of which the files whose names match `pattern` are read (hidden ones are not) and split *by
    file*, 80 % for training, 10 % each for validation and test, in the order of a hash of split_seed and name;
    or one file, split into three contiguous pieces of 80, 10 and 10 % of its bytes (`pattern` and split_seed do
    not move them); or None: the source files of Python's own standard library. Every byte of the training part
    is an example; of the others valid_size and test_size positions are drawn once, by split_seed.

    Zeros stand before the beginning of a file, so no example sees another file; a text has none itself.
    every: targets are int64 [B, context], the byte after each byte of the inputs; examples then lie wholly in one file,
    which has to be longer than `context`, and the sizes count sequences.
    folds: the files (of one file the pieces) that are not the test, in K parts in place of the one validation part.
    Raises ValueError for a path that is missing, empty, unreadable, too short or not text.
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
            raise ValueError(f"data.every={every}: this is neither true nor false. Choose one of them.")
        self.context, self.every = context, every
        whole_K = [{part: windows(texts_F, context, every) for part, texts_F in texts.items()} for texts in texts_K]
        sizes, unit = {"valid": valid_size, "test": test_size}, "sequences" if every else "bytes"
        self._parts_K = [sample_parts(parts, sizes, split_seed, path, unit) for parts in whole_K]
        self.partitions = len(self._parts_K)
        self.fingerprint = _fingerprint(self._parts_K)


def sample_parts(
    parts: Mapping[str, Windows], sizes: Mapping[str, int], seed: int, path: str | Path | None, unit: str
) -> dict[str, Windows]:
    """Return the parts, of those in `sizes` so many examples, drawn once: they are measured alone.

    path, unit: the text, and what examples of it are called, for the error. Raises ValueError where a part has fewer.
    """
    for part, size in sizes.items():
        if len(parts[part]) < size:
            raise ValueError(
                f"data.path={_path_text(path)}: too short, its {part} part has {len(parts[part])} {unit}, fewer than "
                f"data.{part}_size={size}. Take a longer text, or a smaller data.{part}_size."
            )
    return {**parts, **{part: parts[part].sample(size, seed) for part, size in sizes.items()}}


@dataclass(frozen=True)
class Windows:
    """The bytes of one part, and where its examples are; no window is ever stored.

    bytes_N: uint8, all files in a row, `context` zeros before each (none where `every`). first_F: int64, the number of
    each file's first example. offset_C: int64, -context .. 0. place_K: int64, where in bytes_N the (last) targets of a
    sample are; None where all examples are taken. every: a target for each byte of the inputs.
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
        """Where in bytes_N the last targets are: behind the `context` first bytes of every file begun up to them."""
        if self.place_K is not None:
            return self.place_K[index_B]
        begun_B = torch.searchsorted(self.first_F, index_B, right=True)
        return index_B + begun_B * (len(self.offset_C) - 1)

    def fetch(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        window = self.bytes_N[self.places(index_B).unsqueeze(-1) + self.offset_C].long()
        return window[..., :-1], window[..., 1:] if self.every else window[..., -1]

    def sample(self, size: int, seed: int) -> Windows:
        """`size` of the examples, without repetition."""
        drawn = np.random.default_rng(seed).choice(len(self), size, replace=False, shuffle=False)
        return replace(self, place_K=self.places(torch.from_numpy(np.sort(drawn))))

    def to(self, device: torch.device) -> Windows:
        place_K = None if self.place_K is None else self.place_K.to(device)
        return Windows(self.bytes_N.to(device), self.first_F.to(device), self.offset_C.to(device), place_K, self.every)


def windows(texts_F: Sequence[bytes], context: int, every: bool = False) -> Windows:
    """Every byte of those files, none of them empty, as an example; or every sequence that lies within one of them."""
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
    """The files of each part, of each fold. Raises ValueError."""
    count = folds if folds is not None and is_folded(folds) else 1
    if path is not None and Path(path).expanduser().is_file():
        return _split_into_pieces(_read(Path(path).expanduser(), path), path, count)
    texts = read_files(path, pattern)
    if len(texts) < max(3, count + 1):
        needed = "three are" if count < 3 else f"{count + 1} for data.folds={count} are"
        raise ValueError(
            f"data.path={_path_text(path)}: {len(texts)} non-empty files match data.pattern={pattern}, and {needed} "
            "needed: training, validation and test share none. Change data.pattern, or name a single file, "
            "which is cut into three pieces."
        )
    return _split_by_file(texts, seed, count)


def read_files(path: str | Path | None, pattern: str) -> dict[str, bytes]:
    """What is in the files of a folder that are not empty, by their names, in order. Raises ValueError."""
    root = Path(sysconfig.get_path("stdlib")) if path is None else Path(path).expanduser()
    if str(path) == "" or not root.is_dir():
        raise ValueError(f"data.path={path}: there is no such file or folder. Name one, or null for Python's own.")
    names = _list_files(root, pattern, HIDDEN if path else FOREIGN, path)
    return {name: text for name in names if (text := _read(root / name, path))}


def _list_files(root: Path, pattern: str, skipped: Sequence[str], path: str | Path | None) -> list[str]:
    """Files below `root`, relative and in order."""

    def is_included(name: str) -> bool:
        return not any(fnmatchcase(name, skip) for skip in skipped)

    def refuse(error: OSError) -> None:
        raise _unreadable_file(path, error)

    found = []
    for folder, inner, files in os.walk(root, onerror=refuse):
        inner[:] = filter(is_included, inner)
        here = Path(folder).relative_to(root)
        found += [(here / name).as_posix() for name in files if is_included(name) and fnmatchcase(name, pattern)]
    return sorted(found)


def _read(file: Path, path: str | Path | None) -> bytes:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise _unreadable_file(path, error) from error
    if 0 in text:
        raise ValueError(
            f"data.path={_path_text(path)}: {file} is not text, it holds zero bytes (UTF-16 does too). "
            "Choose text files with data.pattern, or save it as UTF-8."
        )
    return text


def _split_into_pieces(text: bytes, path: str | Path | None, folds: int) -> list[dict[str, list[bytes]]]:
    held = int(len(text) * HELD)
    if held == 0:
        raise ValueError(f"data.path={path}: too short, it has {len(text)} bytes. Name a longer text or a folder.")
    rest, test = text[:-held], [text[-held:]]
    if folds == 1:
        return [{"train": [rest[:-held]], "valid": [rest[-held:]], "test": test}]
    ends = [len(rest) * fold // folds for fold in range(folds + 1)]
    return [
        {"train": [piece for piece in (rest[:first], rest[last:]) if piece], "valid": [rest[first:last]], "test": test}
        for first, last in pairwise(ends)
    ]


def _split_by_file(texts: dict[str, bytes], seed: int, folds: int) -> list[dict[str, list[bytes]]]:
    order = sorted(texts, key=lambda name: hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape")).digest())
    held = max(1, round(len(order) * HELD))
    test, rest = order[held : 2 * held], order[:held] + order[2 * held :]
    valids = [rest[:held]] if folds == 1 else [rest[fold::folds] for fold in range(folds)]
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
        "Make it readable, or leave it out with data.pattern."
    )


def _path_text(path: str | Path | None) -> str:
    return "null (the standard library)" if path is None else str(path)
