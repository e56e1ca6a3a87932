"""Record missing readings, or with --again all of them: `python tests/golden/record.py`.

Stored folders are made once and never replaced: they test that later versions can read them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import asked

GOLDEN = Path(__file__).parent
FOLDERS = GOLDEN / "folders"
PROCESSOR = re.compile(r"^  processor: .*$", re.MULTILINE)


def command(name):
    """Return the command for the sweep of a stored folder. The finished one also logs to MLflow (not stored)."""
    words = [*asked.STORED, *asked.FOLDERS[name]]
    if name == "finished":
        words.remove("tracking=none")
        return [sys.executable, "-m", "sweeper", *words]
    words = [word for word in words if word != "trainer=sequential" or "trainer=lanes" not in words]
    return [sys.executable, str(GOLDEN / "stopping.py"), str(asked.STOPPED_AFTER), *words]


def make(name, work):
    """Run a sweep in the folder `work` and return the sweep's folder."""
    if name == "python":
        return asked.sweep_in_python(work / "sweeps").home.path
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    done = subprocess.run(command(name), cwd=work, env={**environment, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE)
    assert done.returncode == (0 if name == "finished" else 130), done.stdout.decode()
    return work / "sweeps" / name


def store(folder, work, target):
    """Copy the folder to `target`, without figures and without traces of the machine that made it."""
    shutil.rmtree(folder / "figures", ignore_errors=True)
    for path in folder.rglob("*"):
        if path.suffix in (".yaml", ".json", ".jsonl", ".log", ".txt"):
            text = path.read_text(encoding="utf-8").replace(f"{work}/", "")
            path.write_text(PROCESSOR.sub("  processor: x86-64", text), encoding="utf-8")
            assert str(Path.home()) not in text
            assert "/tmp" not in text
    shutil.copytree(folder, target)


def make_folders():
    """Make the stored folders that are missing."""
    for name in (*asked.FOLDERS, "python"):
        if not (FOLDERS / name).exists():
            with tempfile.TemporaryDirectory() as work:
                store(make(name, Path(work)), work, FOLDERS / name)


def record(again):
    """Record the readings by running the golden tests; return the exit code."""
    if again:
        shutil.rmtree(GOLDEN / "readings", ignore_errors=True)
    test = [sys.executable, "-m", "pytest", "-q", "-m", "", str(GOLDEN.with_name("test_golden.py"))]
    return subprocess.run(test, env={**os.environ, "GOLDEN": "record"}).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="replace existing readings, too")
    arguments = parser.parse_args()
    make_folders()
    sys.exit(record(arguments.again))
