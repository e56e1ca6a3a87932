"""Whole files, the sentence about one that cannot be written, and checksums."""

import errno
import json
import os
import pickle

import pytest

from sweeper.files import StorageError, explain, is_about_storage, is_intact, replace_file, seal, writing


def test_every_flipped_bit_of_sealed_lines_is_found_except_in_the_name_of_the_checksum():
    line = seal(b'{"a":1.25}\n{"b":[1,2]}')
    assert is_intact(line)
    first, last = map(json.loads, line.splitlines())
    assert (first, last) == ({"a": 1.25}, {"b": [1, 2], "crc": line[-10:-2].decode()})
    name = range(len(line) - 18, len(line) - 10)  # then it is one of an earlier version, without a checksum
    for place in range(len(line) - 2):
        for bit in range(8):
            flipped = line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1 :]
            assert not is_intact(flipped) or place in name, (place, bit)


def test_lines_of_earlier_versions_have_no_checksum():
    assert is_intact(b'{"e":"mark","round":7,"t":1}')
    assert is_intact(b"")


REMEDIES = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EFBIG: "Free some space",
    errno.EROFS: "Allow this user to read and write it",
    errno.EACCES: "Allow this user to read and write it",
    errno.EISDIR: "Move away what is in its place",
    errno.ENOTDIR: "Move away what is in its place",
    errno.EIO: "Fix this",
}


@pytest.mark.parametrize("number", REMEDIES)
def test_a_failed_write_names_file_cause_and_remedy(tmp_path, number):
    with pytest.raises(StorageError) as caught, writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    text = (
        f"{tmp_path / 'x'}: could not be written ({os.strerror(number)}). What was committed is safe. "
        f"{REMEDIES[number]}, then repeat the command: it resumes"
    )
    assert str(caught.value) == explain(caught.value) == str(pickle.loads(pickle.dumps(caught.value))) == text
    assert is_about_storage(caught.value)


def test_the_innermost_file_is_named_and_other_errors_pass(tmp_path):
    with pytest.raises(StorageError, match="inner"), writing(tmp_path / "outer"), writing(tmp_path / "inner"):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(ValueError, match="else"), writing(tmp_path / "x"):
        raise ValueError("something else")


def test_errors_that_are_not_about_a_disk_stay_errors():
    assert not is_about_storage(ConnectionResetError(errno.ECONNRESET, "reset"))
    assert not is_about_storage(FileNotFoundError(errno.ENOENT, "gone"))
    full = OSError(errno.ENOSPC, "full")
    assert explain(full) == "the output: No space left on device. Free some space, then repeat the command"


@pytest.mark.parametrize(("durable", "private"), [(True, False), (False, True)])
def test_a_file_is_replaced_whole_or_stays(tmp_path, durable, private):
    path = tmp_path / "x"
    replace_file(path, "one", durable=durable, private=private)
    replace_file(path, b"two", durable=durable, private=private)
    assert path.read_text() == "two"
    assert (path.stat().st_mode & 0o077 == 0) is private
    (tmp_path / f"x.{os.getpid()}.new").mkdir()  # the new content cannot be written
    with pytest.raises(StorageError, match=r"/x: could not be written \(Is a directory\)"):
        replace_file(path, "three", durable=durable, private=private)
    assert path.read_text() == "two"
