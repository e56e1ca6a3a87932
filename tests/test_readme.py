"""The documentation is correct: commands run as written, keys and files exist, recipes work."""

import importlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml

from sweeper.training import finetuned
from sweeper.training.optimizers import spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
GUIDE = (ROOT / "docs" / "guide" / "configuration.md").read_text()
SCHEDULES = (ROOT / "docs" / "guide" / "schedules.md").read_text()
OPTIMIZERS = (ROOT / "docs" / "guide" / "optimizers.md").read_text()
RELIABILITY = (ROOT / "docs" / "guide" / "reliability.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def blocks(page, language):
    """Return the code blocks of a page in that language; "" for blocks without one."""
    every = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for tag, block in every if tag == language]


# --- commands -----------------------------------------------------------------------------------------

CLONE = "git clone <this repository> sweeper && cd sweeper"
COMMANDS = [line for block in blocks(README, "sh") for line in block.splitlines()]
SHORT = "search.n_trials=2 search.concurrent_trials=2 search.reports=4 train.steps=16 train.epochs=null"


def shortened(command):
    """Return the command with few and short trials, otherwise unchanged."""
    if command == "make sweep":
        return f"make sweep ARGS='{SHORT}' CONFIRM='confirm.looks=[5]'"
    if command == "make test":
        return 'make test ARGS="--collect-only -q tests/schedules"'
    if command == "python -m sweeper ui":
        return f"{command} --help"  # a server
    if "--trial cosine:4" in command:
        return command.replace("cosine:4", "cosine:0")  # fewer trials
    if command.startswith("python -m sweeper") and "=" in command:
        return f"{command} {SHORT} tracking=none"  # `make sweep` covers MLflow
    return command


def test_the_readme_gives_the_commands():
    assert {"make sweep", "make test", "python -m sweeper schedule=cosine"} <= set(COMMANDS)


@pytest.mark.slow
def test_the_readmes_commands_run_one_after_the_other(tmp_path, copy_checkout):
    """They run in a copy of the checkout, with this Python instead of .venv."""
    copy = copy_checkout(tmp_path / "sweeper")
    rows = "\n".join(f"{rooms},{'stone' if rooms % 3 else 'wood'},{100_000.5 + 20_000 * rooms}" for rooms in range(60))
    (copy / "houses.csv").write_text(f"rooms,walls,price\n{rows}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTEST", "MAKE"))}
    environment = kept | {
        "VENV": "0",
        "PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for command in COMMANDS:
        if command in (CLONE, ". .venv/bin/activate"):
            continue
        said = subprocess.run(
            ["bash", "-c", shortened(command)],
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert said.returncode == 0, f"{command}\n{said.stdout}"
    assert (copy / "mlflow.db").exists()
    assert list(copy.glob("sweeps/text-ngram-sgd-*/journal.log"))


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    own_model, own_loop = blocks(README, "python")
    X = np.random.default_rng(0).normal(size=(300, 4))
    names = {"X": X, "y": X[:, 0] > 0, "torch": torch}
    names["optimizer"] = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1)
    exec(own_model, names)
    assert names["sweep"].finished
    exec(own_loop, names)
    assert (names["lr"].shape, names["lr"].dtype) == ((500,), np.float64)
    used = []
    for _ in range(500):
        used.append(names["scheduler"].get_last_lr()[0])
        names["optimizer"].step()
        names["scheduler"].step()
    assert used == names["lr"].tolist()


# --- what the pages name ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_promise_names_tests_that_exist():
    """The rows of the tables of promises: what is promised, then `file::test` for each test that shows it."""
    tables = re.findall(r"^\| promise \| test \|\n.*\n((?:\|.*\n)+)", RELIABILITY, re.MULTILINE)
    rows = [line.strip("| \n").rsplit(" | ", 1) for table in tables for line in table.splitlines()]
    assert len(rows) >= 40
    for promise, tests in rows:
        names = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert names, promise
        assert tests.count("`") == 2 * len(names), promise
        for file, name in names:
            assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), (file, name)


def test_the_tree_in_contributing_is_the_tree():
    (tree,) = [block for block in blocks(CONTRIBUTING, "") if block.startswith("conf/ ")]
    named, folder = set(), Path()
    for line in tree.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split(", ")
        folder = folder if line.startswith(" ") else Path(names[0])
        named |= {(folder / name if line.startswith(" ") else folder).as_posix() for name in names}
    assert {name for name in named if not (ROOT / name).exists()} == set()
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sweeper").iterdir()}
    assert {name for name in there if not name.endswith(("__init__.py", "py.typed", "__pycache__"))} <= named


def keys():
    """Yield every key of the configuration that users can set, by its dotted path."""
    top = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    trees = [{key: value for key, value in top.items() if key not in ("defaults", "hydra")}]
    for path in (ROOT / "conf").glob("*/*.yaml"):
        node = yaml.safe_load(path.read_text())
        if path.parent.name in groups - {"schedule", "experiment"} and isinstance(node, dict):
            trees.append({path.parent.name: {key: value for key, value in node.items() if key != "defaults"}})
    for tree in trees:
        yield from leaves(tree)


def leaves(tree, path=""):
    for key, value in tree.items():
        dotted = f"{path}{key}"
        searched = isinstance(value, dict) and ({"low", "choice"} & value.keys() or not value)
        if isinstance(value, dict) and not searched:
            yield from leaves(value, f"{dotted}.")
        else:
            yield dotted


def test_the_guide_explains_every_key():
    assert [key for key in sorted(set(keys())) if f"`{key}`" not in GUIDE + OPTIMIZERS] == []


def test_the_guide_names_every_file_of_every_group():
    missing = []
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if f"`{path.stem}`" not in GUIDE + OPTIMIZERS:
            missing.append(str(path.relative_to(ROOT)))
    assert missing == []


def test_the_guide_names_every_number_of_every_family():
    named = set(re.findall(r"`(?:schedule\.<family>\.)?(\w+)`", GUIDE + SCHEDULES))
    for path in (ROOT / "conf" / "schedule").glob("*.yaml"):
        for node in yaml.safe_load(path.read_text()).values():
            if isinstance(node, dict):
                assert set(node) <= named, path.name


def test_the_guide_names_no_key_that_is_not_there():
    there = set(keys()) | {f"optimizer.{key}" for key in spec.KEYS} | {f"model.{key}" for key in finetuned.KEYS}
    named = re.findall(r"^\| `([a-z_.`, ]+)` \|", GUIDE + OPTIMIZERS, re.MULTILINE)
    folders = {path.name for path in (ROOT / "conf").iterdir()}
    dotted = {
        key for row in named for key in re.findall(r"[a-z_.]+", row) if "." in key and key.split(".")[0] in folders
    }
    assert dotted - there == set()


# --- the recipes ----------------------------------------------------------------------------------------


def recipe(heading):
    """Return the function or class of a recipe in CONTRIBUTING, and its file of conf."""
    (section,) = re.findall(rf"^### {heading}\n(.*?)(?=^##|\Z)", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    (code,), (text,) = blocks(section, "python"), blocks(section, "yaml")
    return code, text


def test_the_recipe_for_a_family_works(tmp_path, monkeypatch):
    """CONTRIBUTING's function works in decays.py, together with its file, both as printed."""
    from sweeper import lr_trace
    from sweeper.schedules import family

    code, text = recipe("A family")
    decays = (ROOT / "sweeper" / "schedules" / "decays.py").read_text()
    (tmp_path / "own_factors.py").write_text(f"{decays}\n\n{code}")
    monkeypatch.syspath_prepend(tmp_path)
    ((name, node),) = yaml.safe_load(text).items()
    assert node["peak_lr"] == "${optimizer.peak_lr}"
    own = {**node, "factor": f"own_factors.{node['factor']}", "peak_lr": {"low": 0.01, "high": 1, "log": True}}
    made = family(name, own | {"warmup": 0.1})
    lr_S = lr_trace(made, {"peak_lr": 0.5, "warmup": 0.1, "decay": 0.01}, 100)
    assert lr_S.max() == 0.5
    assert lr_S[-1] == pytest.approx(0.5 * (0.01 + 0.99 * (1 / 90) ** 2))
    assert "`python scripts/catalogue.py`" in CONTRIBUTING
    monkeypatch.syspath_prepend(ROOT / "scripts")
    told = importlib.import_module("catalogue").parse_entry(name, made.factor)
    assert told.fields["Formula"] == "A((1-u)^2)"
    assert set(told.meanings) == {"decay"}


@pytest.mark.parametrize(
    ("heading", "module", "file", "words"),
    [
        ("An optimizer", "sweeper.training.optimizers.sign_sgd", "optimizer/sign_sgd", ["data=digits", "model=mlp"]),
        ("A data set or model", "sweeper.tasks.parity", "data/parity", ["model=mlp"]),
    ],
)
def test_the_recipe_for_a_class_works(heading, module, file, words, sweeper, tmp_path, monkeypatch):
    """The class as printed, at the path in its file, trains a sweep from the command line."""
    code, text = recipe(heading)
    assert f"_target_: {module}." in text
    own = tmp_path / "conf" / f"{file}.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(text.replace(module, "own_classes"))
    (tmp_path / "own_classes.py").write_text(f"import copy\n\nimport torch\n\n\n{code}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_classes", raising=False)
    choice = file.replace("/", "=")
    code, out, err = sweeper("--config-dir", str(tmp_path / "conf"), choice, *words, "schedule=cosine", *SHORT.split(),
                             "trainer.workers=1", "tracking=none")  # fmt: skip
    assert code == 0, err
    assert "Best: cosine" in out
