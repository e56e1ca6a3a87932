"""Files of torch.save: nothing but the stored values is read, however the file was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sweeper.training import torch_files
from sweeper.training.torch_files import DamagedError

CONTENT = {("cosine", 0, 0): {"step": 5, "weight": torch.arange(40.0), "lr": [0.1, 0.2]}}


def is_content(content: object) -> bool:
    torch.testing.assert_close(content, CONTENT, rtol=0, atol=0)
    return True


@pytest.mark.parametrize("mmap", [True, False])
def test_what_was_saved_is_loaded(tmp_path: Path, mmap: bool) -> None:
    torch_files.save(CONTENT, tmp_path / "x.pt")
    assert is_content(torch_files.load(tmp_path / "x.pt", mmap=mmap))
    torch.save(CONTENT, tmp_path / "y.pt")  # as earlier versions wrote it
    assert is_content(torch_files.load(tmp_path / "y.pt", mmap=mmap))
    with pytest.raises(FileNotFoundError):
        torch_files.load(tmp_path / "z.pt")


def test_every_flipped_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch_files.save(CONTENT, path)
    data, refused = path.read_bytes(), 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x21]) + data[place + 1 :])
        try:
            assert is_content(torch_files.load(path)), place
        except DamagedError:
            refused += 1
    assert refused > len(data) / 3


def test_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch_files.save(CONTENT, path)
    data = path.read_bytes()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(DamagedError):
            torch_files.load(path)


def test_a_write_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    """/dev/full fails as a full disk does, in the middle of torch's own code."""
    (tmp_path / "x.pt").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        torch_files.save({"w": torch.zeros(1_000_000)}, tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").is_symlink()
