"""What the tests share: the command line, sweeps without their pictures, and random numbers that do not hang on which
tests ran before."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Tests run side by side: libraries that spread one operation over all cores would wait for each other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def seeded():
    """Which tests share a process changes from run to run; what they draw must not."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tracked():
    """Files and links of the repository that are or will be committed, relative to its top."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="session")
def copy_checkout(tracked):
    """A function that makes a second checkout: the repository's files and links, in a folder of its own."""

    def copy(folder):
        for path in tracked:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path, follow_symlinks=False)
        return folder

    return copy


@pytest.fixture
def no_pictures(monkeypatch):
    """A short sweep spends as long on its pictures as on its trials: for tests of something else."""
    monkeypatch.setattr("sweeper.answer.conclusion._pictures", lambda sweep, folder: {})


@pytest.fixture
def sweeper(tmp_path, monkeypatch, capfd, no_pictures):
    """Run the command line in an empty folder: (exit code, stdout, stderr)."""
    from sweeper import __main__ as command_line

    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sweeper", *words])
        code = command_line.main()
        out, err = capfd.readouterr()
        return code, out, err

    return run
