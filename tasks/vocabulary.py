"""Vocabularies, which split text into symbols: bytes, a trained byte-pair encoding, or one from a file."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .counts import check_counts

PIECE = 2**20  # bytes to encode at once; pieces end with a line


class Vocabulary(NamedTuple):
    """A vocabulary.

    Attributes:
        encode: text -> its symbols, int64.
        bytes_V: Number of bytes of each symbol.
    """

    encode: Callable[[bytes], NDArray[np.int64]]
    bytes_V: list[int]


def identify_vocabulary(tokenizer: str, size: int) -> str:
    """Return a text that changes when the same text would be split into other symbols.

    Args:
        tokenizer: As in `build_vocabulary`.
        size: Number of symbols of "bpe".

    Raises:
        ValueError: If the vocabulary cannot be used.
    """
    if tokenizer == "bytes":
        return "bytes"
    if tokenizer == "bpe":
        check_counts("data", 257, vocabulary=size)
        return f"bpe {size} tokenizers {_import_tokenizers('bpe').__version__}"
    file = _find_file(tokenizer)
    return f"file {file.suffix} {hashlib.blake2b(file.read_bytes()).hexdigest()}" if file else f"tiktoken {tokenizer}"


def build_vocabulary(tokenizer: str, size: int, texts: Sequence[bytes]) -> Vocabulary:
    """Return a vocabulary that restores every text byte by byte.

    Args:
        tokenizer: "bytes", "bpe", a .json or .tiktoken file, or the name of a tiktoken vocabulary.
        size: Number of symbols of "bpe".
        texts: What "bpe" is trained on.

    Raises:
        ValueError: If the vocabulary cannot be used, or its library is not installed.
    """
    if tokenizer == "bytes":
        return Vocabulary(lambda text: np.frombuffer(text, np.uint8).astype(np.int64), [1] * 256)
    if tokenizer == "bpe":
        return _from_tokenizers(_train(size, texts), tokenizer)
    file = _find_file(tokenizer)
    if file is None:
        return _from_tiktoken(_load_named(tokenizer), tokenizer)
    if file.suffix == ".json":
        try:
            return _from_tokenizers(_import_tokenizers(tokenizer).Tokenizer.from_file(str(file)), tokenizer)
        except ValueError:
            raise
        except Exception as error:  # tokenizers raises plain Exception
            raise _unreadable_file(tokenizer, "a tokenizer.json", error) from error
    return _from_tiktoken(_load_ranks(file, tokenizer), tokenizer)


def _find_file(tokenizer: str) -> Path | None:
    """Return the file that `tokenizer` names, or None if it is not a file name."""
    file = Path(tokenizer).expanduser()
    if file.suffix not in (".json", ".tiktoken"):
        return None
    if not file.is_file():
        raise ValueError(f"data.tokenizer={tokenizer}: there is no such file. Choose another file, bpe or bytes")
    return file


def _decode(piece: bytes, tokenizer: str) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"data.tokenizer={tokenizer}: the text is not UTF-8 ({error.reason}). "
            "Choose data.tokenizer=bytes, or save it as UTF-8"
        ) from error


def _split_lines(text: bytes) -> Iterator[bytes]:
    """Yield the text in pieces of whole lines. A line longer than `PIECE` is a piece by itself."""
    first = 0
    while first < len(text):
        end = text.rfind(b"\n", first, first + PIECE) + 1 if first + PIECE < len(text) else len(text)
        end = end or text.find(b"\n", first) + 1 or len(text)
        yield text[first:end]
        first = end


# --- the tokenizers library -------------------------------------------------------------------------


def _import_tokenizers(tokenizer: str) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise _missing_library(tokenizer, "tokenizers") from error
    return tokenizers


def _train(size: int, texts: Sequence[bytes]) -> Any:
    """Train a byte-level byte-pair encoding. Equal texts give equal encodings."""
    library = _import_tokenizers("bpe")
    levels = library.pre_tokenizers.ByteLevel
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = levels(add_prefix_space=False)
    trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=levels.alphabet(), show_progress=False)
    pieces = (_decode(piece, "bpe") for text in texts for piece in _split_lines(text))
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


def _from_tokenizers(tokenizer: Any, name: str) -> Vocabulary:
    """Return the vocabulary of a byte-level encoding, whose alphabet has one character for each byte."""
    alphabet = set(_import_tokenizers(name).pre_tokenizers.ByteLevel.alphabet())
    symbols: list[str] = [tokenizer.id_to_token(at) or "" for at in range(tokenizer.get_vocab_size())]
    sample = "An example,\n\twith  spaces and é."
    if tokenizer.decode(tokenizer.encode(sample, add_special_tokens=False).ids) != sample:
        raise ValueError(f"data.tokenizer={name}: it does not restore text exactly. Choose a byte-level tokenizer")

    def encode(text: bytes) -> NDArray[np.int64]:
        pieces = [_decode(piece, name) for piece in _split_lines(text)]
        encodings = tokenizer.encode_batch(pieces, add_special_tokens=False)
        return np.concatenate([np.array(encoding.ids, np.int64) for encoding in encodings])

    return Vocabulary(encode, [len(x) if set(x) <= alphabet else len(x.encode()) for x in symbols])


# --- tiktoken ---------------------------------------------------------------------------------------


def _load_named(name: str) -> Any:
    """Return one of tiktoken's encodings, whose vocabulary tiktoken caches or downloads."""
    tiktoken = _import_tiktoken(name)
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise ValueError(
            f"data.tokenizer={name}: there is no such vocabulary. Choose bytes, bpe, a file (.json or .tiktoken), "
            f"or one of tiktoken's: {', '.join(known)}"
        )
    try:
        return tiktoken.get_encoding(name)
    except Exception as error:  # any error of the network
        raise ValueError(
            f"data.tokenizer={name}: tiktoken could not load its vocabulary ({type(error).__name__}). Set "
            "TIKTOKEN_CACHE_DIR to a folder that has it, choose a .tiktoken file, or choose bpe"
        ) from error


def _load_ranks(file: Path, name: str) -> Any:
    """Return an encoding from a file of lines "<base64 of the bytes> <rank>", which splits text first as GPT-2 does.

    tiktoken's own reader is not used, because it caches files by path.
    """
    tiktoken = _import_tiktoken(name)
    from tiktoken_ext.openai_public import r50k_pat_str

    try:
        lines = [line.split() for line in file.read_bytes().splitlines() if line]
        ranks = {base64.b64decode(symbol, validate=True): int(rank) for symbol, rank in lines}
    except (ValueError, binascii.Error) as error:
        raise _unreadable_file(name, "a .tiktoken file", error) from error
    if sorted(ranks.values()) != list(range(len(ranks))) or not all(bytes([b]) in ranks for b in range(256)):
        raise ValueError(
            f"data.tokenizer={name}: its ranks have gaps, or a byte is missing. Choose a complete vocabulary"
        )
    return tiktoken.Encoding(file.stem, pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={})


def _from_tiktoken(encoding: Any, name: str) -> Vocabulary:
    def encode(text: bytes) -> NDArray[np.int64]:
        pieces = [_decode(piece, name) for piece in _split_lines(text)]
        return np.concatenate([np.array(encoding.encode_ordinary(piece), np.int64) for piece in pieces])

    length = {encoding._mergeable_ranks[symbol]: len(symbol) for symbol in encoding._mergeable_ranks}
    return Vocabulary(encode, [length.get(at, 0) for at in range(encoding.n_vocab)])


def _import_tiktoken(tokenizer: str) -> Any:
    try:
        import tiktoken
    except ImportError as error:
        raise _missing_library(tokenizer, "tiktoken") from error
    return tiktoken


def _missing_library(tokenizer: str, library: str) -> ValueError:
    return ValueError(
        f"data.tokenizer={tokenizer}: the library {library} is not installed. Install it (pip install {library}), or "
        "choose data.tokenizer=bytes"
    )


def _unreadable_file(tokenizer: str, what: str, error: Exception) -> ValueError:
    cause = " ".join(str(error).split()).rstrip(".")
    return ValueError(f"data.tokenizer={tokenizer}: not {what} ({cause}). Choose another file, or bpe")
