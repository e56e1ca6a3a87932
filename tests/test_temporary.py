"""Temporary folders with the user's data: removed in the end, however their process ends, and never another's."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from sweeper import owners, temporary

CODE = """
import os, signal, sys, time
from sweeper import temporary
folder = temporary.make_folder()
(folder / "data.pt").write_text("mine")
print(folder, flush=True)
{ending}
"""
ENDINGS = {"returns": "", "raises": "1 / 0", "exits": "sys.exit(3)", "forks": "os.fork() or sys.exit(0)"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the folder of temporary files, for this process and those it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def start(ending):
    return subprocess.Popen(
        [sys.executable, "-c", CODE.format(ending=ending)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_that_ends_by_itself_removes_its_folder(place, ending):
    with start(ENDINGS[ending]) as process:
        assert process.stdout.readline().startswith(str(place / "sweeper-"))
        process.communicate(timeout=60)
    assert list(place.iterdir()) == []


def test_the_next_start_removes_what_a_killed_process_left_and_nothing_else(place):
    others = ["sweeper-old", "sweeper-0123abcd-1-1-xyz", "sweeper-results", f"other-{owners.label()}-x"]
    for name in others:
        (place / name).mkdir()
    mine = temporary.make_folder()
    with start("time.sleep(600)") as killed, start("time.sleep(600)") as living:
        dead, alive = (process.stdout.readline().strip() for process in (killed, living))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert os.path.exists(dead)  # noqa: PTH110
        temporary.remove_abandoned()
        left = sorted(str(path) for path in place.iterdir())
        assert left == sorted([alive, str(mine), *(str(place / name) for name in others)])
        living.kill()
    temporary.remove(mine)
    temporary.remove_abandoned()
    assert sorted(path.name for path in place.iterdir()) == sorted(others)
