"""A disk that is full or read-only: one sentence, exit code 1, and the same results once there is space again."""

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = [
    "name=d",
    "data=digits",
    "model=mlp",
    "model.width=4",
    "device=cpu",
    "trainer=sequential",
    "trainer.workers=1",
    "tracking=none",
    "schedule=[constant,linear]",
    "train.steps=24",
    "search.reports=4",
    "search.n_trials=3",
    "search.concurrent_trials=2",
]


@contextlib.contextmanager
def largest_file(size):
    """Let the system refuse to let a file grow beyond `size` bytes: a write stops in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def table(sweeper):
    code, out, err = sweeper("status", "d", "--json")
    assert code == 0, err
    rows = json.loads(out)["families"]
    return [(row["family"], row["rank"], row["trials"], row["best"] and row["best"]["value"]) for row in rows]


def test_wherever_the_disk_was_full_the_same_command_resumes_with_the_same_results(sweeper, tmp_path):
    """The limit grows until the sweep passes. Each file that outgrows it has its turn."""
    (tmp_path / "whole").mkdir()
    os.chdir(tmp_path / "whole")
    assert sweeper(*SWEEP)[0] == 0
    right, largest = table(sweeper), Path("sweeps/d/spool/events.jsonl").stat().st_size
    named = set()
    for size in (900, 2500, largest // 3, largest - 1):
        (tmp_path / str(size)).mkdir()
        os.chdir(tmp_path / str(size))
        with largest_file(size):
            code, _, err = sweeper(*SWEEP)
        last = err.splitlines()[-1]
        assert code == 1, (size, err)
        assert "Traceback" not in err, err
        assert last.startswith("sweeper: "), err
        assert "Error executing job" not in err
        assert last.endswith(
            " could not be written (File too large). What was committed is safe. Free some space, then repeat the "
            "command: it resumes"
        )
        named.add(Path(last.split(":")[1]).name)
        code, _, err = sweeper(*SWEEP)
        assert code == 0, (size, err)
        assert table(sweeper) == right, size
        assert not list(Path("sweeps").rglob("*.new")), size
    assert {"config.yaml", "events.jsonl"} <= named


@pytest.mark.parametrize("name", ["sweeps", "sweeps/d", "sweeps/d/spool", "sweeps/d/tables", "sweeps/d/traces"])
def test_a_file_in_the_way_of_a_folder_is_named(sweeper, name):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).touch()
    code, _, err = sweeper(*SWEEP, "search.n_trials=1", *(["fresh=true"] if name.endswith(("spool", "traces")) else []))
    if code == 0:  # a fresh start beside what is there
        assert Path("sweeps/d.2/config.yaml").exists()
        return
    assert code == 1, err
    assert err.splitlines()[-1].startswith(f"sweeper: {name}")
    assert "Traceback" not in err


def give_up_rights_of_root():
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH at the next exec, with which root writes everywhere."""
    PR_CAPBSET_DROP = 24
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def run(folder, *words):
    """Run a command without the rights of root."""
    command = [sys.executable, "-m", "sweeper", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, preexec_fn=give_up_rights_of_root)


@pytest.mark.slow
@pytest.mark.parametrize("read_only", [".", "sweeps/d", "sweeps/d/journal.log", "sweeps/d/spool", "sweeps/d/tables"])
def test_what_is_read_only_is_named_and_can_still_be_read(tmp_path, read_only):
    if read_only != ".":
        done = run(tmp_path, *SWEEP)
        assert done.returncode == 0, done.stderr
    target = tmp_path / read_only
    target.chmod(0o555 if target.is_dir() else 0o444)
    done = run(tmp_path, *SWEEP, "search.n_trials=4")
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "could not be written (Permission denied). What was committed is safe. Allow this user to read" in last
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    if read_only != ".":
        done = run(tmp_path, "status", "d")
        assert (done.returncode, done.stderr) == (0, "")
    target.chmod(0o755 if target.is_dir() else 0o644)
    assert run(tmp_path, *SWEEP, "search.n_trials=4").returncode == 0


@pytest.mark.slow
def test_the_sweep_of_another_user_is_shown(tmp_path):
    done = run(tmp_path, *SWEEP)
    assert done.returncode == 0, done.stderr
    private = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o077 == 0]
    assert [path.name for path in private] == ["published.json"]
    for path in private:
        path.chmod(0)
    shown = run(tmp_path, "status", "d")
    assert (shown.returncode, shown.stderr) == (0, "")
