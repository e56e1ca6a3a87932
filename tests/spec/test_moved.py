"""Stored paths of what has moved since are read as today's; what was removed is an error that names what to use."""

import importlib
import shutil
from pathlib import Path

import pytest
import yaml

import sweeper as package
from sweeper.importing import REMOVED
from sweeper.spec.moved import MOVED, REMOVED_CHOICES, with_current_paths
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


FOLDER = Path(__file__).parents[1] / "golden" / "folders" / "finished"
CLASSES = {
    "sweeper.training.optimizers.adahessian": "sweeper.training.optimizers.adahessian.AdaHessian",
    "sweeper.training.optimizers.asgd": "sweeper.training.optimizers.asgd.ASGD",
}
REPLACEMENTS = {
    "sweeper.training.optimizers.adahessian": ("optimizer=adamw", "optimizer=soap"),
    "sweeper.training.optimizers.asgd": ("optimizer=sgd train.ema=0.99", "optimizer=schedule_free_sgd"),
}


def test_every_removed_module_is_tried():
    assert REMOVED.keys() == CLASSES.keys() == REPLACEMENTS.keys() == set(REMOVED_CHOICES.values())


@pytest.fixture(params=REMOVED)
def removed(request):
    return request.param


@pytest.fixture
def stored(removed, tmp_path):
    """Return the name of a stored sweep that was trained with a removed optimizer."""
    folder = tmp_path / "sweeps" / "finished"
    shutil.copytree(FOLDER, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["question"]["optimizer"] = {"_target_": CLASSES[removed], "weight_decay": 0.0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder.name


def test_a_stored_sweep_with_a_removed_optimizer_is_still_shown(sweeper, stored, tmp_path):
    code, out, err = sweeper("status", stored)
    assert (code, err) == (0, "")
    assert "constant" in out
    original = package.load("finished", FOLDER.parent)
    loaded = package.load(stored, tmp_path / "sweeps")
    assert loaded.trials.equals(original.trials)
    assert loaded.trace("constant:2")["step"].tolist() == list(range(25))


def test_it_cannot_be_trained_and_the_error_names_what_to_use(sweeper, stored, removed, tmp_path):
    """By its name in conf/, by its class, and by `rerun`. Nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    ((group, choice),) = (pair for pair, module in REMOVED_CHOICES.items() if module == removed)
    target = f"{group}._target_={CLASSES[removed]}"
    for start, more in {f"{group}={choice}": (f"name={stored}",), target: ("optimizer.peak_lr=0.1",)}.items():
        code, out, err = sweeper("data=digits", "model=mlp", "schedule=constant", start, *more, "tracking=none")
        assert (code, out) == (2, "")
        assert err == f"sweeper: {start}: no longer part of sweeper. {REMOVED[removed]}\n"
    code, out, err = sweeper("rerun", stored, "--trial", "constant:0")
    assert code == 2
    assert err.startswith(f"sweeper: {group}._target_={CLASSES[removed]}: no longer part of sweeper. ")
    assert all(replacement in err for replacement in REPLACEMENTS[removed])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("removed", REMOVED)
def test_what_to_use_instead_trains(sweeper, removed):
    for replacement in REPLACEMENTS[removed]:
        small = ["data=digits", "model=mlp", "schedule=constant", "train.steps=4", "search.reports=4"]
        code, _, err = sweeper(*small, *replacement.split(), "search.n_trials=1", "trainer=sequential", "tracking=none")
        assert code == 0, err
