"""What the tests share: the command line, sweeps without their pictures, and random numbers that do not hang on which
tests ran before."""

import os
import random
import sys

import pytest

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
