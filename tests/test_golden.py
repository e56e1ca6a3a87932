"""The golden record: recorded results of the command line, the Python call and the stored folders.

`golden/record.py` records, `golden/asked.py` has the sweeps, `golden/readings/` has the results. Numbers may differ by
rounding (`golden/observed.py`); names, states, decisions and identities may not. What may be recorded again:

- `questions`, `more_questions` and the name, question and studies of any reading: never. A stored sweep is found by
  its name, and a study by its own.
- `folders/`: never. A new format gets another folder.
- `sweep`, `journal`, `status`, `files`, `process` and the results of the folders: with a change that is meant to change
  numbers, columns, files or the format, and that CHANGELOG.md describes.
- `imports`: when they become fewer. `own`, the package's own modules, also when light modules are imported at the top
  or a command shows more.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sweeper as package

GOLDEN = Path(__file__).with_name("golden")


def _module(name):
    spec = importlib.util.spec_from_file_location(f"golden_{name}", GOLDEN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pickle and inspect look up its classes
    spec.loader.exec_module(module)
    return module


asked, observed = _module("asked"), _module("observed")


def check(name, now):
    """Assert that a reading equals the recorded one."""
    path = GOLDEN / "readings" / f"{name}.json"
    if os.environ.get("GOLDEN") == "record" and not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(observed.text(now) + "\n", encoding="utf-8")
    parted = observed.differences(recorded(name), now)
    assert not parted, "\n".join([f"{len(parted)} differences from {path.name}:", *parted[:30]])


def recorded(name):
    return json.loads((GOLDEN / "readings" / f"{name}.json").read_text(encoding="utf-8"))


def reading(folder, *trials):
    """Return what is stored of a sweep, with everything logged for some trials."""
    sweep = package.load(folder.name, folder.parent)
    config = observed.config(folder)
    return {
        "name": folder.name,
        "question": config.pop("question"),
        "studies": sorted(config["studies"]),
        "config": config,
        **observed.tables(sweep),
        "logged": [observed.one_trial(sweep, trial) for trial in trials],
    }


def outcome(folder, *trials):
    """Return the same without the stored configuration, which depends on how the sweep was trained."""
    whole = reading(folder, *trials)
    return {key: value for key, value in whole.items() if key != "config"}


def copied(name, place):
    """Copy a stored folder to `place`/sweeps, where the test may change it."""
    stored = GOLDEN / "folders" / name
    config = observed.yaml.safe_load((stored / "config.yaml").read_text(encoding="utf-8"))
    return Path(shutil.copytree(stored, place / "sweeps" / config["name"]))


def words(name):
    """Return the command of a stored folder."""
    lanes = "trainer=lanes" in asked.FOLDERS[name]
    return [word for word in (*asked.STORED, *asked.FOLDERS[name]) if not lanes or word != "trainer=sequential"]


def process(place, *command):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    done = subprocess.run([sys.executable, *command], cwd=place, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def only(folders):
    (folder,) = folders.iterdir()
    return folder


# --- a sweep ----------------------------------------------------------------------------------------

LOGGED = ("cosine:1", "onecycle:0", "sgdr:2")


def test_a_sweep(sweeper, tmp_path):
    code, _, err = sweeper(*asked.SWEEP)
    assert code == 0, err
    folder = only(tmp_path / "sweeps")
    check("sweep", reading(folder, *LOGGED))
    check("journal", observed.journal(folder))
    check("files", observed.files(folder))  # without figures and MLflow
    code, out, _ = sweeper("status", "--json")
    check("status", observed.plain(json.loads(out)))


@pytest.mark.slow
def test_a_sweep_in_a_process_of_its_own_with_mlflow_and_pictures(tmp_path):
    sent = [word for word in asked.SWEEP if word != "tracking=none"]
    code, _, err = process(tmp_path, "-m", "sweeper", *sent)
    assert code == 0, err
    folder = only(tmp_path / "sweeps")
    check("sweep", reading(folder, *LOGGED))
    check("journal", observed.journal(folder))
    check("process", {"files": observed.files(folder), "mlflow": observed.in_mlflow(tmp_path / "mlflow.db")})


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_and_continued(tmp_path):
    stopping = [str(GOLDEN / "stopping.py"), str(asked.SWEEP_STOPPED_AFTER)]
    code, _, err = process(tmp_path, *stopping, *asked.SWEEP)
    folder = only(tmp_path / "sweeps")
    journal = observed.journal(folder)
    check("sweep_stopped", {"code": code, "files": observed.files(folder), "journal": len(journal)})
    assert not observed.differences(recorded("journal")[: len(journal)], journal)
    code, _, err = process(tmp_path, "-m", "sweeper", *asked.SWEEP)
    assert code == 0, err
    check("sweep", reading(folder, *LOGGED))
    check("journal", observed.journal(folder))


# --- what identifies a sweep ------------------------------------------------------------------------


def questions(sweeper, place, of):
    """Return name, question and studies of each sweep from its folder, without training."""
    asked.write_text(place)
    found = {}
    for key, of_one in of.items():
        code, _, err = sweeper(*asked.ASKED_ONLY, *of_one)
        assert code == 0, (key, err)
        folder = only(place / "sweeps")
        config = observed.config(folder)
        found[key] = {"name": folder.name, "question": config["question"], "studies": sorted(config["studies"])}
        shutil.rmtree(folder)
    return found


def test_questions(sweeper, tmp_path):
    check("questions", questions(sweeper, tmp_path, asked.QUESTIONS))


@pytest.mark.slow
def test_more_questions(sweeper, tmp_path):
    pytest.importorskip("pytorch_optimizer")
    check("more_questions", questions(sweeper, tmp_path, asked.MORE_QUESTIONS))


def test_a_sweep_in_python(tmp_path):
    """The code of the user's model is part of the sweep's identity."""
    sweep = asked.sweep_in_python(tmp_path / "sweeps", scale=False)
    check("python", reading(tmp_path / "sweeps" / sweep.name, "linear:0"))


# --- what is imported -------------------------------------------------------------------------------

MARGIN = {"own": 1.1, "all": 1.15}  # so that a module may be split and a library may grow


@pytest.mark.parametrize("verb", ["--help", "status", "load"])
def test_imports(tmp_path, verb):
    copied("finished", tmp_path)
    code, out, err = process(tmp_path, str(GOLDEN / "loaded.py"), *([verb] if verb == "--help" else [verb, "finished"]))
    assert code == 0, err
    now, name = json.loads(out), f"imports_{verb.strip('-')}"
    if os.environ.get("GOLDEN") == "record":
        check(name, now)
    before = recorded(name)
    assert {*now["heavy"]} <= {*before["heavy"]}
    for kind, margin in MARGIN.items():
        assert now[kind] <= before[kind] * margin, kind


# --- stored folders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["finished", "stopped", "stopped_in_lanes", "python"])
def test_a_stored_folder_is_read(sweeper, tmp_path, name):
    folder = copied(name, tmp_path)
    code, out, err = sweeper("status", "--json")
    assert code == 0, err
    logged = {"python": ["linear:0"]}.get(name, ["constant:0", "linear:1"])
    check(f"{name}_read", {"status": observed.plain(json.loads(out)), **outcome(folder, *logged)})


def close(weights, others):
    import torch

    torch.testing.assert_close(weights, others, rtol=observed.RELATIVE, atol=observed.ABSOLUTE)


def best_of(sweep, family):
    row = sweep.families[sweep.families["family"] == family].iloc[0]
    return f"{family}:{row['best_trial']}"


@pytest.mark.parametrize("name", ["finished", "stopped", "stopped_in_lanes"])
def test_a_stored_trial_is_trained_again(sweeper, tmp_path, name):
    """The results are equal bit for bit on the machine that trained it. Elsewhere the weights are close."""
    import torch

    folder = copied(name, tmp_path)
    sweep = package.load(folder.name, folder.parent)
    trial = best_of(sweep, "linear")
    code, out, err = sweeper("rerun", folder.name, "--trial", trial, "--weights", "w.pt")
    assert code in (0, 1), err  # 1: not equal bit for bit
    assert trial in out
    close(torch.load("w.pt"), sweep.weights(trial))


def test_a_stored_trial_of_a_sweep_in_python_is_trained_again(tmp_path):
    """It was started before arrays were standardized, and is trained on the data as given."""
    import torch

    folder = copied("python", tmp_path)
    sweep = package.load(folder.name, folder.parent)
    trial = best_of(sweep, "linear")
    sweep.rerun(trial, asked.task(), weights=tmp_path / "w.pt")
    close(torch.load(tmp_path / "w.pt"), sweep.weights(trial))


@pytest.mark.parametrize("name", ["stopped", pytest.param("stopped_in_lanes", marks=pytest.mark.slow)])
def test_a_stopped_sweep_is_continued_from_its_checkpoint(sweeper, tmp_path, name):
    """It ends with the table of an uninterrupted sweep. With changed weights in the checkpoint it does not."""
    folder = copied(name, tmp_path)
    changed = Path(shutil.copytree(folder, tmp_path / "changed" / "sweeps" / folder.name))
    code, _, err = sweeper(*words(name))
    assert code == 0, err
    assert not (folder / "checkpoint").exists()
    check(f"{name}_ended", outcome(folder, "linear:4"))
    change_weights(changed / "checkpoint")
    os.chdir(tmp_path / "changed")
    code, _, err = sweeper(*words(name))
    assert code == 0, err
    assert observed.differences(recorded(f"{name}_ended"), outcome(changed, "linear:4"))


def change_weights(checkpoint):
    """Change every value of every tensor of floats."""
    import torch

    def changed(tree):
        if isinstance(tree, dict):
            return {key: changed(value) for key, value in tree.items()}
        if isinstance(tree, list | tuple):
            return type(tree)(map(changed, tree))
        return tree * 1.01 if isinstance(tree, torch.Tensor) and tree.is_floating_point() else tree

    paths = list(checkpoint.rglob("*.pt"))
    assert paths
    for path in paths:
        states = changed(torch.load(path, weights_only=True))
        torch.save(states, path)


def test_a_family_joins_the_finished_sweep(sweeper, tmp_path):
    folder = copied("finished", tmp_path)
    before = observed.tables(package.load(folder.name, folder.parent))["trials"]
    code, _, err = sweeper(*words("finished"), "schedule=cosine")
    assert code == 0, err
    assert only(tmp_path / "sweeps") == folder
    after = outcome(folder, "cosine:4")
    assert [row for row in after["trials"] if row["family"] != "cosine"] == before
    check("joined", after)


def test_a_family_joins_the_finished_sweep_in_python(tmp_path):
    """It was started before arrays were standardized, and resumes on the data as given."""
    folder = copied("python", tmp_path)
    before = observed.tables(package.load(folder.name, folder.parent))["trials"]
    sweep = asked.sweep_in_python(folder.parent, ["cosine"])
    assert only(folder.parent).name == sweep.name == folder.name
    after = outcome(folder, "cosine:3")
    assert [row for row in after["trials"] if row["family"] != "cosine"] == before
    check("joined_in_python", after)
