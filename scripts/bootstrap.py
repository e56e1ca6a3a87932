"""Create the environment `.venv` with the versions of constraints.txt. Needs only the standard library.

A stamp file marks a finished environment. It is written last and records what the environment was made from, so an
interrupted set-up never counts. Without a stamp the environment is created again. If the stamp does not match, the
environment is updated. If nothing has to be done, nothing is printed. The Makefile calls this script.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
OLDEST, TOO_NEW = (3, 11), (3, 14)
STAMP, LOCK, LOG = "setup.json", "setup.lock", "setup.log"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder of the environment")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, separated by commas")
    parser.add_argument(
        "--this-python", action="store_true", help="use this Python, even if the environment works with another"
    )
    parser.add_argument("--own", action="store_true", help="install nothing; check this Python")
    options = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        fail(f"Python {sys.version.split()[0]} is not supported. Use 3.11, 3.12 or 3.13")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {extra for extra in re.split(r"[,\s]+", options.extras) if extra}
    if unknown := extras - set(project["project"]["optional-dependencies"]):
        fail(f"no such extra: {', '.join(sorted(unknown))}. pyproject.toml lists them")
    if options.own:
        check_own(project, extras)
        return 0
    venv = options.venv.absolute()
    python = base_python() if options.this_python else None
    if not is_done(read_stamp(venv), venv, project, extras, python):
        claim(venv)
        with hold_lock(venv):
            if not is_done(read_stamp(venv), venv, project, extras, python):
                set_up(venv, project, extras, python)
    return 0


def fail(sentence: str, details: Sequence[str] = ()) -> NoReturn:
    """Exit with one line that states the problem and the remedy, with lines of pip's output below it if they help."""
    print(f"set-up: {sentence}", *(f"    {line}" for line in details), sep="\n", file=sys.stderr)
    sys.exit(1)


# --- is the environment up to date? --------------------------------------------------------------------


def base_python() -> str:
    """Return the real file of this interpreter, outside any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def inputs(project: dict[str, Any]) -> str:
    """Return a hash of everything that decides what is installed. Settings of linters are not part of it."""
    parts = [project["build-system"], project["project"], project["tool"]["setuptools"]]
    text = json.dumps(parts, sort_keys=True) + (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()


def read_stamp(venv: Path) -> dict[str, Any] | None:
    """Return the stamp, or None if it is missing or damaged."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) and stamp.keys() >= {"inputs", "extras", "python", "root"} else None


def has_same_python(stamp: dict[str, Any], venv: Path, python: str | None) -> bool:
    """Return whether the environment's Python still exists, and is `python` if that is given."""
    now = os.path.realpath(venv / "bin" / "python")
    return stamp["python"] == now and os.access(now, os.X_OK) and python in (None, now)


def is_done(
    stamp: dict[str, Any] | None, venv: Path, project: dict[str, Any], extras: set[str], python: str | None
) -> bool:
    """Return whether the environment is finished and has these extras."""
    if stamp is None or not has_same_python(stamp, venv, python):
        return False
    return bool(stamp["inputs"] == inputs(project) and stamp["root"] == str(ROOT) and extras <= set(stamp["extras"]))


# --- one at a time ------------------------------------------------------------------------------------


def claim(venv: Path) -> None:
    """Create the folder. Refuse one that this script did not create."""
    if venv.is_dir() and any(venv.iterdir()) and not (venv / LOCK).exists():
        fail(
            f"{venv} was not created by this set-up. Remove it, choose another folder (VENV=.venv-sweeper), "
            f"or use it unchanged (VENV=0 PYTHON={venv}/bin/python)"
        )
    try:
        venv.mkdir(parents=True, exist_ok=True)
        (venv / LOCK).touch()
    except OSError as error:
        fail(f"{venv} is not writable ({error.strerror}). Choose another folder: VENV=FOLDER")


@contextlib.contextmanager
def hold_lock(venv: Path) -> Iterator[None]:
    """Hold the environment's lock. pip inherits it, so pip still holds it if this process is killed."""
    with (venv / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Set-up: waiting for another set-up of this environment", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # the file system has no locks
            pass
        os.set_inheritable(lock.fileno(), True)
        yield


# --- the work -----------------------------------------------------------------------------------------


def set_up(venv: Path, project: dict[str, Any], extras: set[str], python: str | None) -> None:
    """Create or update the environment. Extras that were installed before stay."""
    stamp = read_stamp(venv)
    (venv / STAMP).unlink(missing_ok=True)
    is_new = stamp is None or not has_same_python(stamp, venv, python)
    all_extras = sorted(extras if stamp is None else extras | set(stamp["extras"]) & extras_of(project))
    version = sys.version.split()[0]
    print(f"Set-up: {display_path(venv)}" + (f", Python {version}, 2 GB or more (only once)" if is_new else ""))
    (venv / LOG).write_text("", encoding="utf-8")
    if is_new:
        make_venv(venv)
    names = f".[{','.join(all_extras)}]" if all_extras else "."
    pip = [venv_python(venv), "-m", "pip", "install", "--no-compile", "-c", "constraints.txt"]
    # Without isolation the build uses the pinned setuptools instead of downloading another.
    stage("packages", [*pip, "--no-build-isolation", "-e", names], venv)
    # On all cores; pip would use one. Some packages ship templates that are not valid Python, which is not an error.
    compileall = [venv_python(venv), "-W", "ignore", "-m", "compileall", "-q", "-j", "0"]
    stage("bytecode", [*compileall, str(venv / "lib")], venv, may_fail=True)
    write_stamp(venv, project, all_extras)


def extras_of(project: dict[str, Any]) -> set[str]:
    """Return the names of the extras that pyproject.toml declares."""
    return set(project["project"]["optional-dependencies"])


def write_stamp(venv: Path, project: dict[str, Any], extras: Sequence[str]) -> None:
    """Mark the environment as finished, in one atomic step."""
    python = os.path.realpath(venv / "bin" / "python")
    stamp = {"inputs": inputs(project), "extras": list(extras), "python": python, "root": str(ROOT)}
    unfinished = venv / f"{STAMP}.new"
    unfinished.write_text(json.dumps(stamp), encoding="utf-8")
    unfinished.replace(venv / STAMP)


def make_venv(venv: Path) -> None:
    """Create an empty environment with the pinned pip and setuptools."""
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        fail(f"this Python has no ensurepip. On Debian or Ubuntu: apt-get install python{version}-venv")
    for entry in venv.iterdir():
        if entry.name in (LOCK, LOG):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    stage("environment", [base_python(), "-m", "venv", str(venv)], venv)
    pip = [venv_python(venv), "-m", "pip"]
    stage("pip", [*pip, "install", "-U", "-c", "constraints.txt", "pip", "setuptools"], venv)


def venv_python(venv: Path) -> str:
    return str(venv / "bin" / "python")


def display_path(path: Path) -> str:
    """Return the path as messages show it: relative to the repository if it is inside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def stage(name: str, command: Sequence[str], venv: Path, may_fail: bool = False) -> None:
    """Run a command, with one line on the terminal and the output in the log. Exit with the reason if it fails.

    Args:
        name: What the terminal shows.
        command: The program and its arguments.
        venv: Folder of the environment, which has the log.
        may_fail: Whether a failure is ignored.
    """
    live = sys.stdout.isatty()
    start = time.monotonic()
    print(f"  {name:<12}", end="", flush=True)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        close_fds=False,  # the process inherits the lock
    )
    lines: list[str] = []
    assert process.stdout is not None
    with (venv / LOG).open("a", encoding="utf-8") as log:
        for line in process.stdout:
            log.write(line)
            lines.append(line.rstrip())
            if live:
                print(f"\r  {name:<12} {activity(line):<60}", end="", flush=True)
    code = process.wait()
    if live:
        print(f"\r  {name:<12} {'':<60}\r  {name:<12}", end="")
    if code and not may_fail:
        print(" failed", flush=True)
        sentence, details = explain(lines, name)
        fail(f"{sentence}. Full output: {display_path(venv / LOG)}", details)
    print(f" {time.monotonic() - start:5.0f} s", flush=True)


def activity(line: str) -> str:
    """Return what pip is doing according to a line of its output, shortened; "" if the line does not tell."""
    match = re.match(r"\s*(Collecting|Downloading|Building|Installing)\s+([^\s=<>;(]+)", line)
    return f"{match[1].lower()} {match[2].rpartition('/')[2]}"[:60] if match else ""


def explain(lines: Sequence[str], name: str) -> tuple[str, list[str]]:
    """Return why a command failed, in one sentence, and the lines of its output that help."""
    text = "\n".join(lines)
    # In both cases pip's last error does not say it: it is "no matching distribution", or a traceback.
    if re.search(r"NewConnectionError|ConnectTimeout|NameResolutionError|Connection refused|Network is unreach", text):
        return "pip cannot reach a package index. Check the network; behind a proxy, set PIP_PROXY", []
    if re.search(r"Read timed out|ReadTimeoutError|IncompleteRead|Connection reset|Connection broken", text):
        return "the connection broke while pip was downloading. Run the command again", []
    errors = [line for line in lines if line.lstrip().lower().startswith("error")]
    return f"{name} failed", list(errors[-5:] or lines[-5:])


# --- VENV=0 -------------------------------------------------------------------------------------------


def check_own(project: dict[str, Any], extras: set[str]) -> None:
    """Exit with one line if this Python lacks a requirement. An untested version of torch is only a warning."""
    requirements = list(project["project"]["dependencies"])
    for extra in sorted(extras):
        requirements += project["project"]["optional-dependencies"][extra]
    try:
        from packaging.requirements import Requirement
    except ImportError:  # several requirements depend on it
        missing = requirements
    else:
        missing = [text for text in requirements if not is_met(Requirement(text))]
    if missing:
        quoted = " ".join(f"'{requirement}'" for requirement in missing)
        fail(f"requirements are missing, and VENV=0 installs nothing. Run: {sys.executable} -m pip install {quoted}")


def is_met(requirement: Requirement) -> bool:
    """Return whether a package is installed in a version that satisfies the requirement."""
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    is_within = requirement.specifier.contains(installed, prereleases=True)
    if requirement.name == "torch" and not is_within:
        print(f"set-up: torch {installed} is outside the tested range {requirement.specifier}", file=sys.stderr)
        return True
    return is_within


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nset-up: interrupted. Run the command again to finish it", file=sys.stderr)
        sys.exit(130)
