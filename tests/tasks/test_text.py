"""NextByte: its windows compared with a plain loop over the files, its split, and errors."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.tasks.text import NextByte, windows


def slow_windows(texts, context):
    """Return every (context, target) by slicing each file."""
    pairs = []
    for text in texts:
        padded = bytes(context) + text
        pairs += [(list(padded[i : i + context]), padded[i + context]) for i in range(len(text))]
    return pairs


def everything(data, part):
    inputs, target = data.fetch(part, 0, torch.arange(data.size(part, 0)))
    return list(zip(inputs.tolist(), target.tolist(), strict=True))


@pytest.fixture
def folder(tmp_path):
    """Write ten files with distinct letters, two of them in a subfolder, and files that are not read."""
    (tmp_path / "inner").mkdir()
    (tmp_path / ".hidden").mkdir()
    for number in range(10):
        place = tmp_path / "inner" if number > 7 else tmp_path
        (place / f"{number}.txt").write_bytes(bytes([97 + number]) * (20 + number))
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "other.md").write_bytes(b"zzzz")
    (tmp_path / ".hidden" / "x.txt").write_bytes(b"zzzz")
    (tmp_path / ".y.txt").write_bytes(b"zzzz")
    return tmp_path


def small(path, **numbers):
    return NextByte(path, **{"pattern": "*.txt", "context": 3, "valid_size": 10, "test_size": 10} | numbers)


@settings(max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 5))
def test_sequences_lie_within_a_file_and_have_a_target_at_each_byte(texts, context):
    part = windows(texts, context, every=True)
    inputs, target = part.fetch(torch.arange(len(part)))
    expected = [text[i : i + context + 1] for text in texts for i in range(len(text) - context)]
    assert inputs.tolist() == [list(piece[:-1]) for piece in expected]
    assert target.tolist() == [list(piece[1:]) for piece in expected]


@settings(max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 5))
def test_windows_equal_a_loop_over_the_files(texts, context):
    part = windows(texts, context)
    inputs, target = part.fetch(torch.arange(len(part)))
    assert (inputs.dtype, target.dtype) == (torch.int64, torch.int64)
    assert list(zip(inputs.tolist(), target.tolist(), strict=True)) == slow_windows(texts, context)


def test_windows_take_indices_of_any_shape():
    part = windows([b"hello", b"world"], 2)
    inputs, target = part.fetch(torch.tensor([[0, 5], [9, 2]]))
    assert target.tolist() == [[ord("h"), ord("w")], [ord("d"), ord("l")]]
    assert inputs.tolist() == [[[0, 0], [0, 0]], [[*b"rl"], [*b"he"]]]


def test_a_sample_has_no_repetition_and_depends_on_its_seed():
    part = windows([bytes(range(1, 200)), bytes(range(1, 100))], 2)
    pairs = slow_windows([bytes(range(1, 200)), bytes(range(1, 100))], 2)
    sample = part.sample(250, 7)
    inputs, target = sample.fetch(torch.arange(len(sample)))
    drawn = list(zip(inputs.tolist(), target.tolist(), strict=True))
    remaining = list(pairs)
    for pair in drawn:
        remaining.remove(pair)  # raises if an example was drawn more often than it exists
    assert len(drawn) == 250
    assert torch.equal(sample.places(torch.arange(250)), part.sample(250, 7).places(torch.arange(250)))
    assert not torch.equal(sample.places(torch.arange(250)), part.sample(250, 8).places(torch.arange(250)))


def test_a_folder_is_split_by_file_and_hidden_files_are_left_out(folder):
    data = small(folder)
    letters = {part: {target for _, target in everything(data, part)} for part in ("train", "valid", "test")}
    assert [len(letters[part]) for part in ("train", "valid", "test")] == [8, 1, 1]
    assert set.union(*letters.values()) == set(range(97, 107))
    for part, found in letters.items():
        symbols = {symbol for inputs, _ in everything(data, part) for symbol in inputs}
        assert symbols - {0} <= found


def test_the_split_depends_on_the_seed_alone(folder):
    assert small(folder).fingerprint == small(folder).fingerprint
    assert len({small(folder, split_seed=seed).fingerprint for seed in range(5)}) == 5


def test_a_file_is_cut_into_three_pieces(tmp_path):
    text = bytes(np.random.default_rng(0).integers(1, 256, 1005).astype(np.uint8))
    (tmp_path / "book.txt").write_bytes(text)
    data = NextByte(tmp_path / "book.txt", context=4, valid_size=100, test_size=100)
    assert everything(data, "train") == slow_windows([text[:805]], 4)
    assert everything(data, "valid") == slow_windows([text[805:905]], 4)
    assert everything(data, "test") == slow_windows([text[905:]], 4)


def test_the_fingerprint_follows_the_contents_and_not_the_place(folder, tmp_path):
    before = small(folder).fingerprint
    moved = folder.rename(folder.parent / "moved")
    assert small(moved).fingerprint == before
    (moved / "3.txt").write_bytes(b"D" + b"d" * 22)
    assert small(moved).fingerprint != before


def test_the_default_is_the_standard_library_without_tests():
    data = NextByte()
    assert data.size("train", 0) > 3_000_000
    assert (data.size("valid", 0), data.size("test", 0)) == (4096, 16384)
    assert (data.inputs, data.outputs, data.context) == (256, 256, 8)
    inputs, target = data.fetch("valid", 0, torch.arange(4096))
    assert inputs.shape == (4096, 8)
    assert (target == ord(" ")).double().mean() > 0.1
    assert int(target.min()) > 0
    assert NextByte().fingerprint == data.fingerprint


def test_a_placed_copy_and_a_pickle_give_the_same(folder):
    data = small(folder)
    assert everything(data.to(torch.device("cpu")), "valid") == everything(data, "valid")
    again = pickle.loads(pickle.dumps(data))
    assert everything(again, "train") == everything(data, "train")
    there = data.to(torch.device("meta"))
    assert there.fetch("train", 0, torch.arange(5, device="meta"))[0].device.type == "meta"
    assert data.fetch("train", 0, torch.arange(5))[0].device.type == "cpu"


@pytest.mark.parametrize("name", ["context", "valid_size", "test_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_counts_are_checked(folder, name, value):
    with pytest.raises(ValueError, match=rf"^data\.{name}={value}: "):
        small(folder, **{name: value})


def test_a_negative_seed_is_refused(folder):
    with pytest.raises(ValueError, match=r"^data\.split_seed=-1: "):
        small(folder, split_seed=-1)


@pytest.mark.parametrize("path", ["", "nowhere", "~/nowhere-at-all"])
def test_a_missing_path_is_refused(path):
    with pytest.raises(ValueError, match=rf"^data\.path={path}: there is no such file or folder\. "):
        NextByte(path)


def test_a_folder_with_nothing_to_read_is_refused(folder):
    with pytest.raises(ValueError, match=r"^data\.path=.*: 0 nonempty files match data\.pattern=\*\.rst, .* Change"):
        small(folder, pattern="*.rst")


def test_two_files_are_too_few(folder):
    with pytest.raises(ValueError, match=r"2 nonempty files match data\.pattern=\[23\]\.txt"):
        small(folder, pattern="[23].txt")
    assert small(folder, pattern="[234].txt").size("train", 0) >= 22


def test_a_short_text_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"Its valid part has \d+ bytes, fewer than data\.valid_size=4096\. Choose"):
        small(folder, valid_size=4096)
    with pytest.raises(ValueError, match=r"Its test part has \d+ bytes, fewer than data\.test_size=4096\. Choose"):
        small(folder, test_size=4096)
    (tmp_path / "short").write_bytes(b"too short")
    with pytest.raises(ValueError, match=r"too short, with 9 bytes"):
        small(tmp_path / "short")


def test_what_is_not_text_is_refused(folder):
    (folder / "picture.txt").write_bytes(b"\x89PNG\x00\x00")
    with pytest.raises(ValueError, match=r"^data\.path=.*picture\.txt is not text"):
        small(folder)


def test_an_unreadable_file_is_refused_and_not_skipped(folder):
    (folder / "gone.txt").symlink_to(Path("nowhere"))
    with pytest.raises(ValueError, match=r"^data\.path=.*gone\.txt cannot be read .* leave it out with data\.pattern"):
        small(folder)


def test_bytes_of_any_encoding_are_text(tmp_path):
    (tmp_path / "latin").write_bytes("é".encode("latin-1") * 1000)
    data = NextByte(tmp_path / "latin", valid_size=10, test_size=10)
    assert {target for _, target in everything(data, "test")} == {0xE9}
    assert math.isclose(data.size("train", 0), 800)


def test_folds_of_files_and_of_pieces(folder, tmp_path):
    plain, data = small(folder), small(folder, folds=3)
    assert data.partitions == 3
    letters = [
        {part: set(data.fetch(part, k, torch.arange(10))[1].tolist()) for part in ("valid", "test")} for k in range(3)
    ]
    assert len(set.union(*(own["valid"] for own in letters))) >= 3
    assert all(own["test"] == {target for _, target in everything(plain, "test")} for own in letters)
    text = bytes(np.random.default_rng(0).integers(1, 256, 1000).astype(np.uint8))
    (tmp_path / "book").write_bytes(text)
    pieces = NextByte(tmp_path / "book", context=4, valid_size=300, test_size=100, folds=3)
    for k in range(3):
        index = torch.arange(pieces.size("valid", k))
        assert pieces.fetch("valid", k, index)[1].tolist() == list(text[300 * k : 300 * k + 300])
        rest = [target for _, target in slow_windows([text[: 300 * k], text[300 * k + 300 : 900]], 4)]
        assert pieces.fetch("train", k, torch.arange(600))[1].tolist() == rest
    with pytest.raises(ValueError, match=r"and 12 for data\.folds=11 are needed"):
        small(folder, folds=11)
