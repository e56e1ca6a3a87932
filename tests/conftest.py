"""What the tests of the command line share."""

import sys

import pytest


@pytest.fixture
def sweeper(tmp_path, monkeypatch, capfd):
    """Run the command line in an empty folder: (exit code, stdout, stderr)."""
    from sweeper import __main__ as command_line

    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sweeper", *words])
        code = command_line.main()
        out, err = capfd.readouterr()
        return code, out, err

    return run
