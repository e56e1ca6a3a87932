"""Make the environment that everything runs in, once: `.venv`, with the versions of constraints.txt. No dependencies.

The environment is done when its stamp says so. The stamp is written last and names what it was made from, so
an interrupted set-up never counts; without one the environment is made anew, with another one it is brought up
to date. A finished set-up prints nothing. Called by the Makefile.
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
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
OLDEST, TOO_NEW = (3, 11), (3, 14)
STAMP, LOCK, LOG = "setup.json", "setup.lock", "setup.log"
OLD_NAME = "sweeper"  # the distribution was called so: two editable installs of one package would hide each other


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where the environment is")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, separated by commas")
    parser.add_argument("--this-python", action="store_true", help="made of this Python, even if another would do")
    parser.add_argument("--own", action="store_true", help="install nothing: check this Python")
    options = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        fail(f"Python {sys.version.split()[0]} is out of range: it takes 3.11, 3.12 or 3.13")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {extra for extra in re.split(r"[,\s]+", options.extras) if extra}
    if unknown := extras - set(project["project"]["optional-dependencies"]):
        fail(f"no such extra: {', '.join(sorted(unknown))}")
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
    """End with one line that says what is wrong and what to do, and, where it helps, pip's own words below it."""
    print(f"set-up: {sentence}", *(f"    {line}" for line in details), sep="\n", file=sys.stderr)
    sys.exit(1)


# --- whether there is anything to do -------------------------------------------------------------------


def base_python() -> str:
    """The real file of this interpreter, outside any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def inputs(project: dict[str, Any]) -> str:
    """Hash of all that decides what is installed; settings of linters are none of it."""
    parts = [project["build-system"], project["project"], project["tool"]["setuptools"]]
    text = json.dumps(parts, sort_keys=True) + (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()


def read_stamp(venv: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) and stamp.keys() >= {"inputs", "extras", "python", "root"} else None


def has_same_python(stamp: dict[str, Any], venv: Path, python: str | None) -> bool:
    """Whether the environment's Python is still there, and is the one asked for (if one is)."""
    now = os.path.realpath(venv / "bin" / "python")
    return stamp["python"] == now and os.access(now, os.X_OK) and python in (None, now)


def is_done(
    stamp: dict[str, Any] | None, venv: Path, project: dict[str, Any], extras: set[str], python: str | None
) -> bool:
    if stamp is None or not has_same_python(stamp, venv, python):
        return False
    return bool(stamp["inputs"] == inputs(project) and stamp["root"] == str(ROOT) and extras <= set(stamp["extras"]))


# --- one at a time ------------------------------------------------------------------------------------


def claim(venv: Path) -> None:
    """Make the folder; refuse one that somebody else made."""
    if venv.is_dir() and any(venv.iterdir()) and not (venv / LOCK).exists():
        fail(
            f"{venv} was not made by this set-up. Remove it, choose another folder (VENV=.venv-sweeper), "
            f"or use it as it is (VENV=0 PYTHON={venv}/bin/python)"
        )
    try:
        venv.mkdir(parents=True, exist_ok=True)
        (venv / LOCK).touch()
    except OSError as error:
        fail(f"{venv} cannot be written: {error.strerror}")


@contextlib.contextmanager
def hold_lock(venv: Path) -> Iterator[None]:
    """Alone in this environment. pip inherits the lock: should this process be killed, pip still holds it."""
    with (venv / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Set-up: another one is at work here; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        os.set_inheritable(lock.fileno(), True)
        yield


# --- the work -----------------------------------------------------------------------------------------


def set_up(venv: Path, project: dict[str, Any], extras: set[str], python: str | None) -> None:
    stamp = read_stamp(venv)
    (venv / STAMP).unlink(missing_ok=True)
    is_new = stamp is None or not has_same_python(stamp, venv, python)
    all_extras = sorted(extras if stamp is None else extras | set(stamp["extras"]) & extras_of(project))
    version = sys.version.split()[0]
    print(f"Set-up: {display_path(venv)}" + (f", Python {version}, 2 GB or more; once" if is_new else ""))
    (venv / LOG).write_text("", encoding="utf-8")
    if is_new:
        make_venv(venv)
    if not is_new and list((venv / "lib").glob(f"python*/site-packages/{OLD_NAME}-*.dist-info")):
        stage("old name", [venv_python(venv), "-m", "pip", "uninstall", "-y", OLD_NAME], venv)
    names = f".[{','.join(all_extras)}]" if all_extras else "."
    pip = [venv_python(venv), "-m", "pip", "install", "--no-compile", "-c", "constraints.txt"]
    # Without isolation the build takes the pinned setuptools instead of fetching some other.
    stage("packages", [*pip, "--no-build-isolation", "-e", names], venv)
    # All cores at once, where pip would use one. Some packages ship templates that are no Python: not an error.
    compileall = [venv_python(venv), "-W", "ignore", "-m", "compileall", "-q", "-j", "0"]
    stage("bytecode", [*compileall, str(venv / "lib")], venv, may_fail=True)
    write_stamp(venv, project, all_extras)


def extras_of(project: dict[str, Any]) -> set[str]:
    return set(project["project"]["optional-dependencies"])


def write_stamp(venv: Path, project: dict[str, Any], extras: Sequence[str]) -> None:
    python = os.path.realpath(venv / "bin" / "python")
    stamp = {"inputs": inputs(project), "extras": list(extras), "python": python, "root": str(ROOT)}
    unfinished = venv / f"{STAMP}.new"
    unfinished.write_text(json.dumps(stamp), encoding="utf-8")
    unfinished.replace(venv / STAMP)


def make_venv(venv: Path) -> None:
    """An empty environment with the pinned pip and setuptools, also where Debian left out ensurepip."""
    for entry in venv.iterdir():
        if entry.name in (LOCK, LOG):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not has_ensurepip and importlib.util.find_spec("pip") is None:
        fail(
            "this Python has neither ensurepip nor pip. On Debian and Ubuntu: apt-get install "
            f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        )
    base = base_python()
    stage("environment", [base, "-m", "venv", *([] if has_ensurepip else ["--without-pip"]), str(venv)], venv)
    python = venv_python(venv)
    pip = [python, "-m", "pip"] if has_ensurepip else [base, "-m", "pip", "--python", python]
    stage("pip", [*pip, "install", "-U", "-c", "constraints.txt", "pip", "setuptools"], venv)


def venv_python(venv: Path) -> str:
    return str(venv / "bin" / "python")


def display_path(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def stage(name: str, command: Sequence[str], venv: Path, may_fail: bool = False) -> None:
    """Run one command: a line on the terminal, its output in the log, the reason if it fails."""
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
        close_fds=False,  # for the lock
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
        fail(f"{sentence}. All of it: {display_path(venv / LOG)}", details)
    print(f" {time.monotonic() - start:5.0f} s", flush=True)


def activity(line: str) -> str:
    """What a line of pip's says it is at, short."""
    match = re.match(r"\s*(Collecting|Downloading|Building|Installing)\s+([^\s=<>;(]+)", line)
    return f"{match[1].lower()} {match[2].rpartition('/')[2]}"[:60] if match else ""


def explain(lines: Sequence[str], name: str) -> tuple[str, list[str]]:
    """Why a command failed, in a sentence, with the lines of it that say more."""
    text = "\n".join(lines)
    errors = [line for line in lines if line.lstrip().lower().startswith("error")]
    if re.search(r"No space left on device|Errno 28", text):
        return "the disk is full: a CPU build of torch needs 2 GB in all, a CUDA build several more", []
    if re.search(r"NewConnectionError|ConnectTimeout|NameResolutionError|Connection refused|Network is unreach", text):
        return "pip reaches no package index: is this machine offline, or behind a proxy (PIP_PROXY)", []
    if re.search(r"Read timed out|ReadTimeoutError|IncompleteRead|Connection reset|Connection broken", text):
        return "the connection broke while pip was downloading: run it again", []
    if re.search(r"No matching distribution", text):
        return "pip finds no release for this Python and machine", errors[-2:]
    if name == "pip":
        return "pip does not find the pinned pip and setuptools: does it reach a package index", errors[-2:]
    return f"{name} failed", list(errors[-5:] or lines[-5:])


# --- VENV=0 -------------------------------------------------------------------------------------------


def check_own(project: dict[str, Any], extras: set[str]) -> None:
    """Say in one line what this Python lacks. A torch beyond the tested range is told, not refused."""
    requirements = list(project["project"]["dependencies"])
    for extra in sorted(extras):
        requirements += project["project"]["optional-dependencies"][extra]
    missing = []
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        specifier = re.sub(r"^[\w.-]+(\[[^]]*\])?", "", requirement)
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(requirement)
            continue
        if is_within(installed, specifier):
            continue
        if name == "torch":
            print(
                f"set-up: torch {installed} is not in the tested range {specifier}; going on with it", file=sys.stderr
            )
        else:
            missing.append(requirement)
    if missing:
        quoted = " ".join(f"'{requirement}'" for requirement in missing)
        fail(f"VENV=0 installs nothing, and this Python lacks something. Say: {sys.executable} -m pip install {quoted}")


def is_within(version: str, specifier: str) -> bool:
    """Whether a version satisfies a specifier; taken for granted where `packaging` is not there to tell."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return bool(SpecifierSet(specifier, prereleases=True).contains(version))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the next one starts afresh", file=sys.stderr)
        sys.exit(130)
