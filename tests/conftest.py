"""Shared fixtures: seeded random numbers, the command line, sweeps without figures, and work done once per process.

Also the one Hypothesis profile.
"""

import functools
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Tests run in parallel. Libraries that spread one operation over all cores would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline, since the machine may be busy. The same examples in every run, so that everybody can reproduce a failure.
settings.register_profile("sweeper", deadline=None, derandomize=True)
settings.load_profile("sweeper")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run all tests of a file in one worker, so that its fixtures train and start processes only once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log) if config.option.dist == "load" else None


@pytest.fixture(autouse=True)
def seeded():
    """Seed every generator before each test: which tests share a process changes from run to run."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tracked():
    """Return the files and links of the repository that are or will be committed, relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="session")
def copy_checkout(tracked):
    """Return a function that copies the repository's files and links into a folder and returns the folder."""

    def copy(folder):
        for path in tracked:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path, follow_symlinks=False)
        return folder

    return copy


@pytest.fixture(autouse=True, scope="session")
def data_made_once():
    """Cache the signals of MNIST-1D and the images of the digits, which take long to make and to read.

    The private name is the only one for the digits. tests/tasks/test_mnist1d.py tests how signals are made.
    """
    from sweeper.tasks import digits, mnist1d

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist1d, "signals", functools.cache(mnist1d.signals))
        patch.setattr(digits, "_images", functools.cache(digits._images))
        yield


@pytest.fixture(autouse=True, scope="session")
def configuration_read_by_libyaml():
    """Let Hydra read YAML with libyaml: about thirty files per command in a tenth of the time, with the same result."""
    import yaml

    with pytest.MonkeyPatch.context() as patch:
        if yaml.__with_libyaml__:
            patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
        yield


@pytest.fixture(autouse=True, scope="session")
def undrawn():
    """Skip figures and report of a sweep, which take longer than a short sweep's trials. Tests of them use `drawn`.

    The two names are the only places where a sweep draws.
    """
    from sweeper.views import conclusion

    draw = {name: getattr(conclusion, name) for name in ("_draw_pictures", "write_report")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclusion, "_draw_pictures", lambda sweep, folder: folder.mkdir(exist_ok=True) or {})
        patch.setattr(conclusion, "write_report", lambda sweep: [])
        yield draw


@pytest.fixture
def drawn(undrawn, monkeypatch):
    """Let sweeps that end in this test draw their figures."""
    for name, draw in undrawn.items():
        monkeypatch.setattr(f"sweeper.views.conclusion.{name}", draw)


@pytest.fixture(scope="session")
def check_form():
    """Return a function that checks the form of an error: one line, `key=value: problem. Remedy`."""

    def check(text):
        assert re.fullmatch(r"\S+?(=.*?)?: \S.*\S\. \S.*\S", text), text

    return check


@pytest.fixture(scope="session")
def build_confirmation():
    """Return a function that builds a confirmation from the expected value of trial 7 of each family.

    Its arguments: the standard deviations over seeds of one family (`noise`) and of all together (three times that),
    how many seeds were trained (`seeds`, of all or by family), `states` by (family, place of the seed), and `beside`,
    which returns more keys of a row from family, place of the seed and value. The rest goes to `Confirmation`.
    """
    import numpy as np

    from sweeper.results.assembling import Confirmation, Contestant
    from sweeper.results.judging import Rules

    own_KS, common_S = np.random.default_rng(1).normal(0, 1, (12, 64)), np.random.default_rng(2).normal(0, 3, 64)
    listed = [100 + place for place in range(64)]

    def row_of(family, place, fold, state, value, beside):
        ended = state == "complete"
        row = {"family": family, "trial": 7, "stage": "judge", "seed": listed[place], "fold": fold, "state": state}
        others = beside(family, place, value) if ended else {"reason": "out of memory"} if state == "failed" else {}
        return {**row, "value": value if ended else None, **others}

    def build(means, *, noise=0.01, seeds=64, states=(), folds=1, beside=lambda *_: {}, left_out=(), **others):
        states = dict(states)
        rows = [
            row_of(family, place, fold, states.get((family, place), "complete"), value, beside)
            for k, (family, mean) in enumerate(means.items())
            for place in range(seeds if isinstance(seeds, int) else seeds.get(family, 64))
            for value in [float(mean + noise * (own_KS[k, place] + common_S[place]))]
            for fold in range(folds)
        ]
        of = {family: Contestant(family, 7, {"peak_lr": 0.1}, mean - noise) for family, mean in means.items()}
        return Confirmation(**{
            "sweep": "a-sweep", "seed": 0, "objective": {"metric": "valid/loss", "direction": "minimize", "at": "last"},
            "rules": Rules(), "contestants": tuple(one for family, one in of.items() if family != "default_lr"),
            "default_lr": of.get("default_lr"), "seeds": {"choose": [], "judge": listed}, "rows": tuple(rows),
            "left_out": tuple(Contestant(family, 3, {}, value) for family, value in dict(left_out).items()),
            "searched": 160, **others,
        })  # fmt: skip

    return build


@pytest.fixture
def composed_once(monkeypatch):
    """Let Hydra compose a command's configuration once. It composes it twice, first only to read hydra.mode.

    Our configuration does not set hydra.mode. No public option skips this. tests/test_command_line.py runs plain Hydra.
    """
    monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda self, config_name, overrides: None)


@pytest.fixture
def sweeper(tmp_path, monkeypatch, capfd, composed_once):
    """Return a function that runs the command line in an empty folder and returns (exit code, stdout, stderr)."""
    from sweeper import __main__ as command_line

    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sweeper", *words])
        code = command_line.main()
        out, err = capfd.readouterr()
        return code, out, err

    return run
