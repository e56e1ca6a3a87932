"""Text as symbols of a vocabulary: predict the next one at each position. Symbols are cached in mapped files."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .counts import check_counts
from .metrics import Measures
from .problems import Problem, cross_entropy, log_classes
from .text import Windowed, Windows, read_texts, sample_parts
from .vocabulary import Vocabulary, build_vocabulary, identify_vocabulary

FORMAT = 1
NARROW = 2**15  # symbols that fit int16
PARTS = ("train", "valid", "test")


class Tokens(Windowed):
    """A data set of symbols: inputs int64 [B, context], targets int64 [B, context], the symbol after each input.

    The files of a part are concatenated. Each ends with an additional symbol of no bytes. An example may start at any
    symbol. Validation and test are random samples, drawn once.

    The symbols of each part are stored in a folder of `cache`, named by a digest of text and vocabulary, and mapped
    into memory. What is not read takes no memory.

    Args:
        path: A folder or a file, as in `sweeper.tasks.text.NextByte`. None for Python's standard library.
        pattern: Names of the files to read from a folder.
        tokenizer: "bytes"; "bpe", a byte-pair encoding trained on the training part (with folds, on everything but the
            test part, so that all folds have the same symbols); a file, tokenizer.json or .tiktoken; or the name of a
            tiktoken vocabulary ("gpt2").
        vocabulary: Number of symbols of "bpe", at most.
        context: Symbols of an input.
        split_seed: Of the split and of the samples.
        valid_size: Number of validation sequences.
        test_size: Number of test sequences.
        folds: Number of folds, as in `NextByte`. None for no folds.
        cache: The folder of the stored symbols. None for the user's cache folder.

    Raises:
        ValueError: If the text, the vocabulary or an argument cannot be used, or `cache` cannot be written to.
    """

    every = True

    def __init__(
        self,
        path: str | Path | None = None,
        pattern: str = "*.py",
        *,
        tokenizer: str = "bpe",
        vocabulary: int = 1024,
        context: int = 64,
        split_seed: int = 0,
        valid_size: int = 256,
        test_size: int = 1024,
        folds: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        check_counts("data", 1, context=context, valid_size=valid_size, test_size=test_size)
        check_counts("data", 0, split_seed=split_seed)
        vocabulary_id = identify_vocabulary(tokenizer, vocabulary)
        texts_K = read_texts(path, pattern, split_seed, folds)
        self._folder = _root(cache) / _key(vocabulary_id, texts_K)
        if not _is_complete(self._folder):
            _make_files(self._folder, tokenizer, vocabulary, texts_K)
        self.context, self.partitions = context, len(texts_K)
        self._sizes, self._seed, self._path = {"valid": valid_size, "test": test_size}, split_seed, path
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the symbols, because another process maps the same files."""
        return {key: value for key, value in vars(self).items() if key != "_parts_K"}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        vars(self).update(state)
        self._open()

    def _open(self) -> None:
        about = _read_description(self._folder)
        if about is None:
            raise ValueError(f"data.cache: {self._folder} is gone. Give all processes the same data.cache")
        self.bytes_V = torch.tensor([*about["bytes"], 0])
        self.inputs = self.outputs = len(self.bytes_V)
        self.problem = Problem(
            cross_entropy, Measures(("accuracy", "bits_per_byte"), bytes_V=self.bytes_V), log_classes
        )
        dtype = torch.int16 if self.outputs <= NARROW else torch.int32
        self._parts_K = []
        for counts in about["parts"]:
            parts = {}
            for part, (file, count) in counts.items():
                mapped = torch.from_file(str(self._folder / file), shared=False, size=count, dtype=dtype)
                parts[part] = _windows(mapped, self.context, part, self._path)
            self._parts_K.append(sample_parts(parts, self._sizes, self._seed, self._path, "sequences"))
        chosen = [parts[part].place_K for parts in self._parts_K for part in self._sizes]
        drawn = hashlib.blake2b(b"".join(place_K.numpy().tobytes() for place_K in chosen if place_K is not None))
        self.fingerprint = f"{about['fingerprint']}-{self.context}-{drawn.hexdigest()[:16]}"


def _windows(symbol_N: Tensor, context: int, part: str, path: str | Path | None) -> Windows:
    if len(symbol_N) <= context:
        raise ValueError(
            f"data.path={path}: too short. Its {part} part has {len(symbol_N)} symbols, no more than "
            f"data.context={context}. Choose a longer text, or a smaller data.context"
        )
    return Windows(symbol_N, torch.zeros(1, dtype=torch.int64), torch.arange(-context, 1), every=True)


# --- the files --------------------------------------------------------------------------------------


def _root(cache: str | Path | None) -> Path:
    if cache is not None:
        return Path(cache).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("sweeper") / "tokens"


def _key(vocabulary_id: str, texts_K: Sequence[dict[str, list[bytes]]]) -> str:
    digest = hashlib.blake2b(f"{FORMAT} {vocabulary_id}".encode(), digest_size=16)
    for texts in texts_K:
        for part in PARTS:
            for text in texts[part]:
                digest.update(f"{part} {len(text)} ".encode())
                digest.update(text)
    return digest.hexdigest()


def _read_description(folder: Path) -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return None
    return about


def _is_complete(folder: Path) -> bool:
    """Return whether all files exist and have their full size."""
    about = _read_description(folder)
    if about is None:
        return False
    width = 2 if len(about["bytes"]) < NARROW else 4
    files = [(folder / file, count) for counts in about["parts"] for file, count in counts.values()]
    return all(file.exists() and file.stat().st_size == width * count for file, count in files)


def _make_files(folder: Path, tokenizer: str, size: int, texts_K: Sequence[dict[str, list[bytes]]]) -> None:
    """Write all files to a temporary folder and rename it, so that other processes see all of it or nothing."""
    training_texts = [*texts_K[0]["train"], *(texts_K[0]["valid"] if len(texts_K) > 1 else [])]
    words = build_vocabulary(tokenizer, size, training_texts)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        _write_files(partial, words, texts_K)
        if folder.exists() and not _is_complete(folder):
            folder.rename(partial / "broken")
        partial.rename(folder)
    except OSError as error:
        if not _is_complete(folder):  # no other process was faster
            cause = error.strerror or type(error).__name__
            raise ValueError(
                f"data.cache={folder.parent}: cannot be written to ({cause}). Choose another folder"
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder / "broken", ignore_errors=True)


def _write_files(folder: Path, words: Vocabulary, texts_K: Sequence[dict[str, list[bytes]]]) -> None:
    digest = hashlib.blake2b(digest_size=16)
    symbols: dict[bytes, NDArray[np.int64]] = {}  # by text, because several folds share a text
    end, dtype = len(words.bytes_V), np.int16 if len(words.bytes_V) < NARROW else np.int32
    parts_K: list[dict[str, tuple[str, int]]] = []
    for fold, texts in enumerate(texts_K):
        parts_K.append({})
        for part in PARTS:
            rows = [
                symbols[text] if text in symbols else symbols.setdefault(text, words.encode(text))
                for text in texts[part]
            ]
            symbols_N = np.concatenate([np.append(row, end) for row in rows]).astype(dtype)
            digest.update(f"{part} {len(symbols_N)} ".encode())
            digest.update(symbols_N.data)
            file = f"{part}-{fold}.bin"
            with (folder / file).open("wb") as out:
                out.write(symbols_N.data)
                out.flush()
                os.fsync(out.fileno())
            parts_K[-1][part] = (file, len(symbols_N))
    about = {"bytes": words.bytes_V, "parts": parts_K, "fingerprint": digest.hexdigest()}
    (folder / "about.json").write_text(json.dumps(about))
