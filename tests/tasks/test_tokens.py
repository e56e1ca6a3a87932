"""Token files: contents, one complete write even by several processes, and mapping."""

import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sweeper.tasks.problems import Supervised
from sweeper.tasks.tokens import Tokens
from sweeper.tasks.transformer import Transformer

MAPS = Path("/proc/self/maps")  # of Linux
WORDS = ("the", "cat", "sat", "on", "mat", "and", "dog", "too", "where", "another", "quietly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    for number in range(12):
        lines = [" ".join(draw.choice(WORDS, 8)) for _ in range(30)]
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder


def read(folder, cache, **asked):
    sizes = {"vocabulary": 280, "context": 8, "valid_size": 20, "test_size": 20}
    return Tokens(folder, "*.txt", **sizes | {"cache": cache} | asked)


def every(data, part, partition=0):
    return data.fetch(part, partition, torch.arange(data.size(part, partition)))


def test_bytes_of_a_part_stand_in_a_row_with_an_end_to_each_file(folder, tmp_path):
    data = read(folder, tmp_path, tokenizer="bytes")
    inputs, target = every(data, "train")
    assert (inputs.dtype, target.dtype, inputs.shape[1]) == (torch.int64, torch.int64, 8)
    assert torch.equal(inputs[1:], target[:-1])
    row = [*inputs[0].tolist(), *target[:, -1].tolist()]
    texts = {file.read_bytes() for file in folder.iterdir()}
    found = bytes(symbol if symbol < 256 else 0 for symbol in row).split(b"\0")
    assert found.pop() == b""
    assert set(found) < texts
    assert len(found) == 10
    assert (data.inputs, data.bytes_V.tolist()) == (257, [1] * 256 + [0])


def test_symbols_are_learnt_from_the_training_part_and_fewer_than_bytes(folder, tmp_path):
    small, large = read(folder, tmp_path, tokenizer="bytes"), read(folder, tmp_path)
    assert large.size("train", 0) < small.size("train", 0) / 2
    assert large.inputs == 281
    inputs, _ = every(large, "train")
    assert inputs.max() == 280


def test_files_are_made_once(folder, tmp_path):
    first = read(folder, tmp_path)
    made = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    again = read(folder, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == made
    assert again.fingerprint == first.fingerprint
    assert read(folder, tmp_path, context=9).fingerprint != first.fingerprint
    assert len(list(tmp_path.iterdir())) == 1
    assert read(folder, tmp_path, vocabulary=290).fingerprint != first.fingerprint
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_were_cut_off_are_made_again(folder, tmp_path):
    first = read(folder, tmp_path)
    (file,) = tmp_path.rglob("train-0.bin")
    file.write_bytes(file.read_bytes()[:-2])
    again = read(folder, tmp_path)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(every(again, "train")[0], every(first, "train")[0])
    (about,) = tmp_path.rglob("about.json")
    about.write_text("{")
    assert read(folder, tmp_path).fingerprint == first.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [about.parent.name]


def _print_of(folder, cache, out):
    out.put(read(folder, cache).fingerprint)


@pytest.mark.slow
def test_several_processes_at_once_make_one_folder(folder, tmp_path):
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = [context.Process(target=_print_of, args=(folder, tmp_path, out)) for _ in range(4)]
    for process in processes:
        process.start()
    prints = {out.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
    assert prints == {read(folder, tmp_path).fingerprint}
    assert len(list(tmp_path.iterdir())) == 1


def test_another_process_maps_the_same_files(folder, tmp_path):
    data = read(folder, tmp_path)
    packed = pickle.dumps(data)
    assert len(packed) < 20_000
    assert torch.equal(every(pickle.loads(packed), "valid")[0], every(data, "valid")[0])
    if MAPS.exists():
        assert str(tmp_path) in MAPS.read_text()
    for file in tmp_path.rglob("about.json"):
        file.unlink()
    with pytest.raises(ValueError, match=r"^data\.cache: .* is gone\."):
        pickle.loads(packed)


def test_folds_have_the_same_symbols_and_test_part(folder, tmp_path):
    data = read(folder, tmp_path, folds=3)
    assert data.partitions == 3
    tests = [every(data, "test", fold)[1] for fold in range(3)]
    assert torch.equal(tests[0], tests[1])
    assert torch.equal(tests[0], tests[2])
    assert len({data.size("train", fold) for fold in range(3)}) > 1


def test_loss_and_bits_per_byte_agree(folder, tmp_path):
    """Bits per byte are nats of a symbol / ln 2 * symbols / bytes."""
    task = Supervised(read(folder, tmp_path), Transformer)
    inputs, target = every(task.data, "valid")
    with torch.no_grad():
        output = task.forward(task.build(0), inputs)
    found = task.metrics(output, target)
    count = int(task.data.bytes_V[target].sum())
    nats = task.loss(output, target).double().mean().item()
    assert found["bits_per_byte"] == pytest.approx(nats / np.log(2) * target.numel() / count, rel=1e-5)
    assert 0 <= found["accuracy"] <= 1


def test_a_placed_copy_gives_the_same(folder, tmp_path):
    data = read(folder, tmp_path)
    assert torch.equal(every(data.to(torch.device("cpu")), "valid")[0], every(data, "valid")[0])
    there = data.to(torch.device("meta"))
    assert there.fetch("train", 0, torch.arange(3, device="meta"))[0].device.type == "meta"


def test_many_symbols_are_kept_in_four_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sweeper.tasks.tokens.NARROW", 100)
    wide = read(folder, tmp_path / "wide")
    monkeypatch.undo()
    narrow = read(folder, tmp_path / "narrow")
    assert torch.equal(every(wide, "valid")[0], every(narrow, "valid")[0])
    files = [next((tmp_path / kind).rglob("train-0.bin")).stat().st_size for kind in ("wide", "narrow")]
    assert files[0] == 2 * files[1]
    assert json.loads(next((tmp_path / "wide").rglob("about.json")).read_text())["parts"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"context": 0}, r"data\.context=0: "),
        ({"context": 100_000}, r"too short. Its train part has \d+ symbols, no more than data\.context=100000"),
        ({"valid_size": 100_000}, r"fewer than data\.valid_size=100000"),
        ({"folds": 20}, r"21 for data\.folds=20 are needed"),
        ({"tokenizer": "nothing"}, r"data\.tokenizer=nothing: there is no such vocabulary"),
    ],
)
def test_what_cannot_be_is_refused(folder, tmp_path, asked, told):
    with pytest.raises(ValueError, match=told):
        read(folder, tmp_path, **asked)
    assert not list(tmp_path.glob("*.*"))  # no partial files are left


def test_a_cache_that_cannot_be_written_to_is_told(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^data\.cache=.*: cannot be written to"):
        read(folder, tmp_path / "file" / "inner")
