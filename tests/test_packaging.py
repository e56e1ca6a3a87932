"""Packaging: contents, dependencies, allowed imports, set-up and installation."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
CONTRACTS = [contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]]


def run(*words, **options):
    return subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)


# --- metadata -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["conf", "sweeper", "tasks"])
def test_every_folder_with_files_is_a_package(folder):
    with_files = {path.parent for end in ("py", "yaml") for path in (ROOT / folder).rglob(f"*.{end}")}
    assert {path for path in with_files if not (path / "__init__.py").exists()} == set()


def pins():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return [Requirement(line) for line in lines]


def test_constraints_pin_one_public_version_each():
    names = [canonicalize_name(pin.name) for pin in pins()]
    assert len(names) == len(set(names))
    for pin in pins():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin  # no +cpu, no range
        assert pin.url is None
        assert not pin.marker
    assert {"nvidia", "triton", "cuda"}.isdisjoint(name.split("-")[0] for name in names)


def test_constraints_cover_and_satisfy_every_dependency():
    versions = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins()}
    asked = [*DEPENDENCIES, *(requirement for extra in EXTRAS.values() for requirement in extra)]
    for requirement in map(Requirement, asked):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but {version} is pinned"


DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
    "hydra": "hydra-core",
    "importlinter": "import-linter",
    "xdist": "pytest-xdist",
    "tiktoken_ext": "tiktoken",
}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("sweeper", "tasks"), ("optimizers", "text", "safetensors")),
        (("tests", "benchmarks", "examples"), ("dev",)),
        (("scripts",), ()),
    ],
)
def test_what_is_imported_is_declared(folders, extras):
    declared = {"sweeper", "packaging"}  # packaging: pytest's own
    for requirement in [*DEPENDENCIES, *(each for extra in extras for each in EXTRAS[extra])]:
        declared.add(canonicalize_name(Requirement(requirement).name))
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        runs_as_script = path.parent.name in ("benchmarks", "golden", "scripts")
        beside = {other.stem for other in path.parent.glob("*.py")} if runs_as_script else set()
        for module in imported(path) - beside - set(sys.stdlib_module_names):
            assert canonicalize_name(DISTRIBUTIONS.get(module, module)) in declared, f"{path} imports {module}"


def imported(path):
    """Return the top-level modules that a file imports anywhere."""
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


def test_import_and_help_are_light():
    """Neither imports libraries that take seconds to load."""
    code = "import sys, sweeper\nfrom sweeper.__main__ import main\nsys.argv[1:] = ['--help']\nassert main() == 0\n"
    heavy = "print('heavy:', {'torch', 'optuna', 'mlflow', 'pandas', 'hydra', 'scipy', 'sklearn'} & set(sys.modules))"
    assert run(sys.executable, "-c", code + heavy).stdout.endswith("heavy: set()\n")


FOREIGN = {
    "somebody's machine": r"(?<![\w.~$}])/(root|home|Users|work|tmp)/\w",
    "a package registry": r"\b(pypi|pythonhosted|npmjs|anaconda)\.(org|com)\b|index-url|file://",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_names(what, tracked):
    pattern = re.compile(FOREIGN[what])
    for path in tracked:
        if path == Path("tests/test_packaging.py") or (ROOT / path).is_dir():
            continue
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        assert not pattern.search(text), f"{path} names {what}: {pattern.search(text)}"


# --- import contracts ---------------------------------------------------------------------------------

DOWNWARDS = "Downwards only; rooms on one line do not know each other"
CIRCLES = "No circles, between rooms or within one"
TRACES = "Training and tracking see traces, not families"
HYDRA = "Hydra in __main__ and the composer alone"
MLFLOW = "MLflow where it is sent to, shown and asked, alone"
BREAKAGES = [  # contract, file, line to add to it
    (DOWNWARDS, "sweeper/results/tables.py", "import sweeper.views.note"),
    (DOWNWARDS, "sweeper/terminal/frame.py", "import sweeper.search.space"),
    (DOWNWARDS, "sweeper/tasks/models.py", "from sweeper.types import Task"),
    (DOWNWARDS, "sweeper/nowhere.py", ""),
    (CIRCLES, "sweeper/run/loop.py", "import sweeper.run.sweeping"),
    (TRACES, "sweeper/training/optimizers/optim.py", "import sweeper.schedules.trace"),
    (TRACES, "sweeper/tracking/spool.py", "from sweeper import schedules"),
    ("Tasks do not know us", "sweeper/tasks/text.py", "import optuna"),
    (HYDRA, "sweeper/run/sweeping.py", "from omegaconf import DictConfig"),
    (HYDRA, "sweeper/spec/overrides.py", "import hydra.utils"),
    ("Optuna in search and forecast alone", "sweeper/spec/parse.py", "import optuna"),
    (MLFLOW, "sweeper/run/sweeping.py", "from mlflow import MlflowClient"),
    (MLFLOW, "sweeper/tracking/spool.py", "import mlflow"),
    (
        "A sweep and its spool know no destination by name",
        "sweeper/tracking/spool.py",
        "from sweeper.tracking.mlflow import sender",
    ),
    (
        "A sweep and its spool know no destination by name",
        "sweeper/run/sweeping.py",
        "from sweeper.tracking.mlflow.tracker import MLflow",
    ),
    ("Schedules and the loop are NumPy and protocols: no torch", "sweeper/schedules/trace.py", "import torch"),
]


def test_every_contract_is_tried():
    assert {contract for contract, _, _ in BREAKAGES} == set(CONTRACTS)


def linted(folder, added):
    """Run import-linter on a copy of the package with lines added to files."""
    for part in ("sweeper", "conf", "tasks"):
        shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for file, line in added:
        with (folder / file).open("a") as changed:
            changed.write(f"\n{line}\n")
    program = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    return run(sys.executable, "-c", program, cwd=folder)


def test_the_contracts_are_kept(tmp_path):
    said = linted(tmp_path, [("sweeper/run/loop.py", "import numpy")])
    assert said.returncode == 0, said.stdout


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Return the message for each broken contract, with all the breakages at once."""
    said = linted(tmp_path_factory.mktemp("broken"), [(file, line) for _, file, line in BREAKAGES])
    assert said.returncode == 1, said.stdout
    _, _, details = said.stdout.partition("\nBroken contracts\n")
    words = re.split(r"^(.+)\n-{3,}$", details, flags=re.MULTILINE)
    return dict(zip(words[1::2], words[2::2], strict=True))


@pytest.mark.parametrize(("contract", "file", "line"), BREAKAGES)
def test_a_contract_catches_a_breakage(broken, contract, file, line):
    """The message names the file and what the line imports. Without a line, the file itself is wrong.

    For a circle, the message names the room.
    """
    if contract == CIRCLES:
        assert f"No cycles are allowed in {file.rpartition('/')[0].replace('/', '.')}." in broken[contract]
        return
    module = re.escape(file.removesuffix(".py").replace("/", "."))
    imports = rf" -> {re.escape(line.split()[1].partition('.')[0])}\b" if line else "$"
    assert re.search(rf"^- +{module}{imports}", broken[contract], re.MULTILINE), broken[contract]


# --- the wheel ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def build(tmp_path_factory, copy_checkout):
    """Return a function that builds "wheel" or "sdist" from a folder.

    By default the folder is a copy of the checkout, so that no build folder leaks into the repository.
    """
    # By name only: importlib's find_spec("pip") switches off setuptools' distutils, which torch.compile needs.
    if not {"pip", "setuptools"} <= {found.metadata["Name"] for found in importlib.metadata.distributions()}:
        pytest.skip("this Python has no pip and setuptools of its own")

    def built(kind, source=None):
        source = source or copy_checkout(tmp_path_factory.mktemp("source"))
        folder = tmp_path_factory.mktemp(kind)
        program = f"from setuptools.build_meta import *; build_{kind}({str(folder)!r})"
        said = run(sys.executable, "-c", program, cwd=source)
        assert said.returncode == 0, said.stdout
        (path,) = (path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))
        return path

    return built


@pytest.fixture(scope="module")
def wheel(build):
    return build("wheel")


def members(wheel):
    """Return the contents of a wheel without its records."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel, tracked):
    places = {"sweeper": "sweeper", "conf": "sweeper/conf", "tasks": "sweeper/tasks"}
    expected = {
        Path(places[path.parts[0]], *path.parts[1:]).as_posix()
        for path in tracked
        if path.parts[0] in places and path.suffix  # the links to conf and tasks have none
    }
    assert members(wheel).keys() == expected
    assert wheel.name.startswith("lr_sweeper-")
    assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_source_distribution_makes_the_same_wheel(build, wheel, tmp_path):
    with tarfile.open(build("sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert members(build("wheel", unpacked)) == members(wheel)


@pytest.mark.slow
def test_the_installed_wheel_sweeps_from_another_folder(wheel, tmp_path):
    """Put the wheel in front of this environment's packages. A path in a .pth file hides the editable install."""
    elsewhere = tmp_path / "work"
    elsewhere.mkdir()
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    said = run(*pip, str(wheel))
    assert said.returncode == 0, said.stdout
    site = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").stdout.strip())
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}

    where = run(str(python), "-Pc", "import sweeper.tasks as t; print(t.__file__)", cwd=elsewhere, env=environment)
    assert where.stdout.strip() == str(site / "sweeper" / "tasks" / "__init__.py")
    small = ["data=digits", "model=mlp", "schedule=cosine", "train.steps=8", "search.reports=4", "search.n_trials=2"]
    said = run(str(python), "-P", "-m", "sweeper", *small, "tracking=none", cwd=elsewhere, env=environment)
    assert said.returncode == 0, said.stdout
    assert list(elsewhere.glob("sweeps/digits-mlp-sgd-*/tables/trials.csv"))
    said = run(str(tmp_path / "env" / "bin" / "sweeper"), "status", "--json", cwd=elsewhere, env=environment)
    assert said.returncode == 0, said.stdout


# --- several checkouts --------------------------------------------------------------------------------

NEW_FAMILY = "halved: {factor: constant, peak_lr: 0.5, warmup: 0}\n"


@pytest.fixture
def second(tmp_path, copy_checkout):
    """Return a second checkout, with its own family and task. This Python's `sweeper` belongs to the first."""
    folder = copy_checkout(tmp_path / "second")
    (folder / "conf" / "schedule" / "halved.yaml").write_text(NEW_FAMILY)
    (folder / "tasks" / "added.py").write_text("HERE = True\n")
    return folder


PLACES = "import sweeper.tasks.added as t, sweeper.conf as c, sweeper as s; print(s.__file__, t.__file__, c.__file__)"


@pytest.mark.parametrize("by", ["folder", "PYTHONPATH"])
def test_a_second_checkout_is_itself(second, tmp_path, by):
    """In its folder or through PYTHONPATH, it uses its own package, families and tasks, never those of the first."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    where = {"cwd": second} if by == "folder" else {"cwd": elsewhere}
    where["env"] = environment | ({"PYTHONPATH": str(second)} if by == "PYTHONPATH" else {})
    files = run(sys.executable, "-c", PLACES, **where).stdout.split()
    assert [Path(file).parent for file in files] == [second / "sweeper" / part for part in ("", "tasks", "conf")]
    said = run(sys.executable, "-m", "sweeper", "preview", "schedule=halved", "--json", **where)
    assert said.returncode == 0, said.stdout
    assert "halved" in said.stdout


def test_the_tasks_have_one_name():
    """Under a second name their classes would be different ones, and count as the user's own code."""
    said = run(sys.executable, "-c", "import tasks", cwd=ROOT)
    assert said.returncode == 1
    assert said.stdout.splitlines()[-1].startswith("ImportError: import sweeper.tasks, not tasks")


# --- make and the set-up ------------------------------------------------------------------------------

SCRIPT = ROOT / "scripts" / "bootstrap.py"


@pytest.fixture
def bootstrap():
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_make_alone_helps_with_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    said = run("make", cwd=ROOT)
    assert said.returncode == 0
    assert sorted(re.findall(r"^  make (\w+) +\S", said.stdout, re.MULTILINE)) == sorted(targets)


def test_a_python_out_of_range_is_one_line():
    said = run("make", "setup", "PYTHON=no-such-python", cwd=ROOT)
    assert said.returncode == 2
    assert "Python 3.11, 3.12 or 3.13 is needed" in said.stdout
    assert said.stdout.count("\n") == 1


def made_environment(bootstrap, folder, extras=("dev",)):
    """Make a folder that looks like a finished environment of this Python."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(bootstrap.base_python())
    bootstrap.write_stamp(folder, PROJECT, list(extras))
    return folder


def test_a_finished_set_up_is_nothing_to_do(bootstrap, tmp_path):
    folder = made_environment(bootstrap, tmp_path / "venv")
    said = run(sys.executable, str(SCRIPT), "--venv", str(folder), "--extras", ",dev", "--this-python")
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("changed", ["inputs", "root", "python", "extras"])
def test_the_stamp_counts_only_for_what_it_was_made_from(bootstrap, tmp_path, changed):
    folder = made_environment(bootstrap, tmp_path / "venv")
    stamp = bootstrap.read_stamp(folder)
    assert bootstrap.is_done(stamp, folder, PROJECT, {"dev"}, None)
    other = stamp | {changed: [] if changed == "extras" else "another"}
    assert not bootstrap.is_done(other, folder, PROJECT, {"dev"}, None)


def test_a_dependency_changes_the_inputs_and_a_linter_does_not(bootstrap):
    before = bootstrap.inputs(PROJECT)
    assert bootstrap.inputs({**PROJECT, "tool": {**PROJECT["tool"], "ruff": {}}}) == before
    assert bootstrap.inputs({**PROJECT, "project": {**PROJECT["project"], "dependencies": []}}) != before


@pytest.mark.parametrize("torn", ["", "{", "[]", json.dumps({"inputs": "x"})])
def test_a_torn_stamp_is_none(bootstrap, tmp_path, torn):
    (tmp_path / bootstrap.STAMP).write_text(torn)
    assert bootstrap.read_stamp(tmp_path) is None


def test_an_environment_of_somebody_else_is_left_alone(tmp_path):
    theirs = tmp_path / "venv" / "theirs"
    theirs.parent.mkdir()
    theirs.touch()
    said = run(sys.executable, str(SCRIPT), "--venv", str(theirs.parent))
    assert said.returncode == 1
    assert "was not created by this set-up" in said.stdout
    assert list(theirs.parent.iterdir()) == [theirs]


OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "1",
}


@pytest.mark.slow
def test_without_a_network_it_says_so_and_an_unfinished_environment_is_made_anew(bootstrap, tmp_path):
    unfinished = tmp_path / "venv"
    (unfinished / "half").mkdir(parents=True)
    (unfinished / bootstrap.LOCK).touch()
    said = run(sys.executable, str(SCRIPT), "--venv", str(unfinished), env=os.environ | OFFLINE)
    assert said.returncode == 1
    assert "pip cannot reach a package index" in said.stdout
    assert len(said.stdout.splitlines()) <= 5
    assert not (unfinished / "half").exists()
    assert bootstrap.read_stamp(unfinished) is None


def test_an_own_python_that_lacks_something_is_told_in_one_line(bootstrap, capsys):
    wanting = {"dependencies": ["numpy>=1", "no-such-package[x]>=2,<3", "torch<1"], "optional-dependencies": {}}
    with pytest.raises(SystemExit):
        bootstrap.check_own({"project": wanting}, set())
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2  # torch is a warning
    assert error[0].startswith("set-up: torch ")
    assert error[1].endswith("-m pip install 'no-such-package[x]>=2,<3'")


@pytest.mark.parametrize(
    ("said", "sentence", "details"),
    [
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'",
            "pip cannot reach a package index",
            [],
        ),
        ("ReadTimeoutError: Read timed out.", "the connection broke", []),
        ("ERROR: [Errno 28] No space left on device", "stage failed", ["ERROR: [Errno 28] No space left on device"]),
        ("Killed", "stage failed", ["Collecting torch", "Killed"]),
    ],
)
def test_a_failure_is_explained(bootstrap, said, sentence, details):
    explained, lines = bootstrap.explain(["Collecting torch", said], "stage")
    assert (explained.startswith(sentence), lines) == (True, details)


def test_a_python_without_ensurepip_is_told_what_to_install(bootstrap, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        bootstrap.make_venv(tmp_path)
    assert re.search(r"has no ensurepip\. .*apt-get install python3\.\d+-venv\n$", capsys.readouterr().err)
