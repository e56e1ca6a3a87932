"""Text as sparse features: which folder, or which class, a piece of text comes from, by the words in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .counts import check_counts
from .examples import Examples
from .problems import CLASSIFICATION
from .splits import Index, Shares, draw_parts, split_folds
from .tabular import PARQUET, read_table
from .text import read_files

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TABLES = (".csv", ".gz", *PARQUET)


class Words(NamedTuple):
    """The features that are not 0, int64 and float32 [B, K]; rows that have fewer end with the value 0."""

    feature_BK: Tensor
    value_BK: Tensor


def hashed_text(
    path: str | Path | None = None,
    pattern: str = "*.py",
    *,
    lines: int | None = 8,
    classes: int = 20,
    text: str | None = None,
    target: str | None = None,
    features: int = 2**14,
    ngrams: int = 1,
    longest: int = 256,
    valid: float = 0.1,
    test: float = 0.1,
    split_seed: int = 0,
    folds: int | None = None,
) -> Examples:
    """Pieces of text as Words, each with the class it is of; split at random, class by class.

    path: a folder; a file's class is the top folder it lies in, or its own name without ending; files that match
    `pattern` are read, and those `classes` taken that have most pieces of `lines` lines that are not blank (None: a
    file is one piece). None: Python's own standard library. Neighbouring pieces of one file may be in different parts.
    Or a CSV or Parquet file with the columns `text` and `target`, a row a piece.

    Words and runs of up to `ngrams` of them are hashed to `features` places, and a piece is scaled to length 1:
    scikit-learn's HashingVectorizer, which is fitted to nothing. Of pieces with more than `longest` features the
    largest are kept. folds: K in place of the one validation part. Raises ValueError.
    """
    check_counts("data", 2, features=features, classes=classes)
    check_counts("data", 1, ngrams=ngrams, longest=longest, **({} if lines is None else {"lines": lines}))
    is_table = path is not None and Path(path).suffix.lower() in TABLES
    pieces, names = _read_columns(path, text, target) if is_table else _read_folder(path, pattern, lines, classes)
    known, label_N = np.unique(names, return_inverse=True)
    if len(known) < 2:
        raise ValueError(f"data.path={path}: all text is of one class ({', '.join(known) or 'none'}). Name another.")
    words = _hash_words(pieces, features, ngrams, longest)
    label_N = label_N.astype(np.int64)
    parts = draw_parts(len(label_N), Shares(valid, test, split_seed), label_N=label_N)
    return Examples(
        [
            {part: (_select(words, index), torch.from_numpy(label_N[index])) for part, index in split.items()}
            for split in split_folds(parts, folds, split_seed, label_N)
        ],
        inputs=features,
        outputs=len(known),
        problem=CLASSIFICATION,
        classes=tuple(known.tolist()),
    )


def _read_folder(path: str | Path | None, pattern: str, lines: int | None, classes: int) -> tuple[list[str], list[str]]:
    pieces: list[tuple[str, str]] = []
    for name, content in read_files(path, pattern).items():
        label = Path(Path(name).parts[0]).stem
        full = [line for line in content.decode(errors="replace").splitlines() if line.strip()]
        size = lines or max(1, len(full))
        pieces += [(label, "\n".join(full[first : first + size])) for first in range(0, len(full), size)]
    counts = Counter(label for label, _ in pieces)
    largest = set(sorted(counts, key=lambda label: (-counts[label], label))[:classes])
    kept = [(label, piece) for label, piece in pieces if label in largest]
    return [piece for _, piece in kept], [label for label, _ in kept]


def _read_columns(path: str | Path | None, text: str | None, target: str | None) -> tuple[list[str], list[str]]:
    frame = read_table(str(path))
    for key, name in {"text": text, "target": target}.items():
        if name not in frame.columns:
            known = ", ".join(frame.columns[:20])
            raise ValueError(f"data.{key}={name}: {path} has no such column. There are: {known}.")
        missing = int(frame[name].isna().sum())
        if missing:
            raise ValueError(f"data.{key}={name}: it is missing in {missing} of {len(frame)} rows. Leave these out.")
    return frame[text].astype(str).tolist(), frame[target].astype(str).tolist()


def _hash_words(pieces: list[str], features: int, ngrams: int, longest: int) -> Words:
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=features, ngram_range=(1, ngrams))
    return _pad_rows(hashing.transform(pieces), longest)


def _pad_rows(sparse: csr_matrix, longest: int) -> Words:
    """The rows of a sparse matrix, their largest features first."""
    count_N = np.diff(sparse.indptr)
    row = np.repeat(np.arange(len(count_N)), count_N)
    order = np.lexsort((sparse.indices, -np.abs(sparse.data), row))
    rank = np.arange(len(row)) - sparse.indptr[row]
    width = max(1, min(longest, int(count_N.max())))
    kept = rank < width
    feature_NK, value_NK = np.zeros((len(count_N), width), np.int64), np.zeros((len(count_N), width), np.float32)
    feature_NK[row[kept], rank[kept]] = sparse.indices[order][kept]
    value_NK[row[kept], rank[kept]] = sparse.data[order][kept]
    return Words(torch.from_numpy(feature_NK), torch.from_numpy(value_NK))


def _select(words: Words, index: Index) -> Words:
    place = torch.from_numpy(index)
    return Words(words.feature_BK[place], words.value_BK[place])
