"""What the tests share: one Hypothesis profile, random numbers that do not depend on which tests ran before, the
command line, sweeps without pictures, and work of the package that is done once in a process."""

import functools
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Tests run side by side: libraries that spread one operation over all cores would wait for each other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The machine may be busy, so no deadline; the same examples in every run, so that a failure is everybody's.
settings.register_profile("sweeper", deadline=None, derandomize=True)
settings.load_profile("sweeper")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file in one worker: what its fixtures train, and the processes they start, are there once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log) if config.option.dist == "load" else None


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


@pytest.fixture(autouse=True, scope="session")
def data_made_once():
    """MNIST-1D is made, signal by signal; the digits are read from a text file, which has no public name.

    tests/tasks/test_mnist1d.py calls what makes the signals.
    """
    from sweeper.tasks import digits, mnist1d

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist1d, "signals", functools.cache(mnist1d.signals))
        patch.setattr(digits, "_images", functools.cache(digits._images))
        yield


@pytest.fixture(autouse=True, scope="session")
def configuration_read_by_libyaml():
    """Hydra reads some thirty files for a command: by libyaml's parser in a tenth of the time, with the same nodes."""
    import yaml

    with pytest.MonkeyPatch.context() as patch:
        if yaml.__with_libyaml__:
            patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
        yield


@pytest.fixture(autouse=True, scope="session")
def undrawn():
    """A short sweep spends longer on its pictures than on its trials: only tests that look at them ask for `drawn`.

    The private name is the one place where a sweep draws.
    """
    from sweeper.views import conclusion

    draw = conclusion._draw_pictures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclusion, "_draw_pictures", lambda sweep, folder: {})
        yield draw


@pytest.fixture
def drawn(undrawn, monkeypatch):
    """Sweeps that end in this test draw their pictures."""
    monkeypatch.setattr("sweeper.views.conclusion._draw_pictures", undrawn)


@pytest.fixture
def composed_once(monkeypatch):
    """Hydra composes a command's configuration twice, at first only to read hydra.mode, which ours leaves open.

    Nothing public does without. tests/test_command_line.py runs Hydra as it is.
    """
    monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda self, config_name, overrides: None)


@pytest.fixture
def sweeper(tmp_path, monkeypatch, capfd, composed_once):
    """Run the command line in an empty folder: (exit code, stdout, stderr)."""
    from sweeper import __main__ as command_line

    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sweeper", *words])
        code = command_line.main()
        out, err = capfd.readouterr()
        return code, out, err

    return run
