"""Small files are whole or absent, and their owner's alone."""

import os
import shutil
import subprocess
import sys

import pytest

from sweeper.files import open_private
from sweeper.tracking.small_files import read_object, replace_object


def mode(path):
    return path.stat().st_mode & 0o777


def test_what_was_written_is_read(tmp_path):
    replace_object(tmp_path / "a.json", {"uri": "päß"})
    assert read_object(tmp_path / "a.json") == {"uri": "päß"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff"])
def test_a_damaged_file_is_empty(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    assert read_object(tmp_path / "a.json") == {}
    assert read_object(tmp_path / "missing.json") == {}


def test_only_the_owner_may_read_them_also_if_others_could_before(tmp_path):
    path, log = tmp_path / "a.json", tmp_path / "a.log"
    for each in (path, log):
        each.write_text("{}")
        each.chmod(0o644)
    replace_object(path, {})
    with open_private(log, os.O_WRONLY | os.O_APPEND) as file:
        file.write(b"more")
    assert (mode(path), mode(log)) == (0o600, 0o600)
    assert log.read_text() == "{}more"


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="to root every file is readable")
def test_another_user_gets_a_sentence(tmp_path):
    path = tmp_path / "a.json"
    replace_object(path, {})
    path.chmod(0)
    script = f"from pathlib import Path; from sweeper.tracking.small_files import *; read_object(Path({str(path)!r}))"
    user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run([*user, sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("who alone may read it. Run this command as that user")
