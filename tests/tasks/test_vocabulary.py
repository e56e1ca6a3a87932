"""Vocabularies: each restores text byte by byte, and missing or broken ones give errors."""

import base64
import importlib

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sweeper.tasks import vocabulary as module
from sweeper.tasks.vocabulary import build_vocabulary, identify_vocabulary

TEXT = ("the cat sat on the mat, the café too.\n" * 50).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a vocabulary of each kind in its real format."""
    folder = tmp_path_factory.mktemp("vocabularies")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT.decode()], trainer)
    tokenizer.save(str(folder / "own.json"))
    symbols = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b"at"]
    lines = [base64.b64encode(symbol) + b" %d\n" % rank for rank, symbol in enumerate(symbols)]
    (folder / "own.tiktoken").write_bytes(b"".join(lines))
    return folder


def kinds(files):
    return ["bytes", "bpe", str(files / "own.json"), str(files / "own.tiktoken")]


@pytest.mark.parametrize("kind", range(4))
def test_symbols_are_as_long_as_the_text(files, kind):
    words = build_vocabulary(kinds(files)[kind], 300, [TEXT])
    symbol_N = words.encode(TEXT)
    assert symbol_N.dtype == np.int64
    assert sum(words.bytes_V[symbol] for symbol in symbol_N) == len(TEXT)
    assert (len(symbol_N) < len(TEXT)) == (kind > 0)
    assert symbol_N.max() < len(words.bytes_V)


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=60))
def test_any_text_is_cut_into_symbols_of_its_bytes(text):
    words = build_vocabulary("bpe", 257, [TEXT])
    assert sum(words.bytes_V[symbol] for symbol in words.encode(text.encode())) == len(text.encode())


def test_a_long_text_is_cut_at_the_ends_of_lines(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 100)
    pieces = list(module._split_lines(TEXT + b"x" * 300 + b"\n" + TEXT))
    assert b"".join(pieces) == TEXT + b"x" * 300 + b"\n" + TEXT
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert max(map(len, pieces)) == 301


def test_the_same_text_gives_the_same_encoding():
    one, other = (build_vocabulary("bpe", 280, [TEXT]).encode(TEXT) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_tiktokens_symbols_are_its_own(files):
    words = build_vocabulary(str(files / "own.tiktoken"), 0, [])
    assert words.encode(b"the cat").tolist() == [257, 32, 99, 259]
    assert words.bytes_V[256:] == [2, 3, 4, 2]


def test_what_identifies_it(files, tmp_path):
    told = {identify_vocabulary(kind, 300) for kind in kinds(files)} | {
        identify_vocabulary("bpe", 301),
        identify_vocabulary("gpt2", 300),
    }
    assert len(told) == 6
    copy = tmp_path / "copy.json"
    copy.write_bytes((files / "own.json").read_bytes())
    assert identify_vocabulary(str(copy), 300) == identify_vocabulary(str(files / "own.json"), 300)


def test_a_vocabulary_that_tiktoken_cannot_get_is_told(monkeypatch, tmp_path):
    def unreachable(path):
        raise OSError("no route to host")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.load, "read_file", unreachable)
    with pytest.raises(ValueError, match=r"^data\.tokenizer=gpt2: .* TIKTOKEN_CACHE_DIR .* or choose bpe$"):
        build_vocabulary("gpt2", 0, [TEXT])


@pytest.mark.parametrize(
    ("library", "kind"), [("tokenizers", "bpe"), ("tokenizers", ".json"), ("tiktoken", ".tiktoken")]
)
def test_a_library_that_is_not_installed_is_told(files, monkeypatch, library, kind):
    monkeypatch.setitem(importlib.sys.modules, library, None)
    tokenizer = kind if kind == "bpe" else str(files / f"own{kind}")
    with pytest.raises(
        ValueError, match=rf"the library {library} is not installed\. .*pip install {library}\), or .*=bytes"
    ):
        build_vocabulary(tokenizer, 300, [TEXT])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.json", None, "there is no such file"),
        ("bad.json", b"{}", "not a tokenizer.json"),
        ("bad.tiktoken", b"!! 0\n", "not a .tiktoken file"),
        ("few.tiktoken", b"YQ== 0\n", "its ranks have gaps, or a byte is missing"),
    ],
)
def test_files_that_cannot_be_used_are_told(tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^data\.tokenizer=.*{told}"):
        build_vocabulary(str(tmp_path / name), 0, [])


def test_a_tokenizer_that_loses_spaces_is_refused(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"the": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "words.json"))
    with pytest.raises(ValueError, match="it does not restore text exactly"):
        build_vocabulary(str(tmp_path / "words.json"), 0, [])


def test_names_and_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"^data\.vocabulary=256: .* at least 257"):
        identify_vocabulary("bpe", 256)
    with pytest.raises(ValueError, match=r"^data\.tokenizer=nothing: .* tiktoken's: gpt2, "):
        build_vocabulary("nothing", 300, [TEXT])


def test_text_that_is_not_utf8_is_told():
    latin = "é".encode("latin-1") * 10
    with pytest.raises(ValueError, match=r"^data\.tokenizer=bpe: the text is not UTF-8 .* data\.tokenizer=bytes"):
        build_vocabulary("bpe", 300, [latin])
    assert build_vocabulary("bytes", 0, [latin]).encode(latin).tolist() == [0xE9] * 10
