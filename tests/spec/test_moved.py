"""Stored paths of what has moved since are read as today's."""

import importlib

import pytest

from sweeper.spec.moved import MOVED, with_current_paths
from sweeper.spec.question import Home


def test_only_the_targets_change_wherever_they_stand():
    (old, new), *_ = MOVED.items()
    stored = {"trainer": {"_target_": old, "why": old}, "studies": [{"sampler": {"_target_": "optuna.X"}}], "n": 1}
    expected = {"trainer": {"_target_": new, "why": old}, "studies": [{"sampler": {"_target_": "optuna.X"}}], "n": 1}
    assert with_current_paths(stored) == expected


def test_a_stored_sweep_is_read_with_todays_paths(tmp_path):
    (old, new), *_ = MOVED.items()
    (tmp_path / "config.yaml").write_text(f"question: {{}}\nstudies: {{}}\ntrainer: {{_target_: {old}, width: 4}}\n")
    assert Home(tmp_path).read() == {"question": {}, "studies": {}, "trainer": {"_target_": new, "width": 4}}


@pytest.mark.parametrize("path", MOVED.values())
def test_what_moved_is_there(path):
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
