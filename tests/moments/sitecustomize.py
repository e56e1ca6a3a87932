"""Stops a process at a named moment, so that a test can kill it exactly there. Nothing else of the process changes.

Python imports this file in every process that has its folder in PYTHONPATH: a sweep, its workers and its sender.
`tests/test_kill.py` describes the moments, in the environment variable MOMENTS. The first process that reaches one
writes its id to the moment's file and waits to be killed. A moment counts from when the one before it was reached.
"""

import contextlib
import functools
import importlib.util
import json
import os
import re
import sys
import time
from pathlib import Path

MOMENTS = [{**moment, "passed": 0} for moment in json.loads(os.environ.get("MOMENTS", "[]"))]
SETTINGS = json.loads(os.environ.get("SETTINGS", "{}"))  # constants by module and name


def pending():
    """Return the next moment, or None if all were reached."""
    return next((moment for moment in MOMENTS if not Path(moment["file"]).exists()), None)


def is_reached(moment, **place):
    """Count a passage through this place. Returns whether it is the moment."""
    if moment is None or any(not re.fullmatch(moment.get(key, ""), value) for key, value in place.items()):
        return False
    moment["passed"] += 1
    return moment["passed"] == moment["count"]


def wait_to_be_killed(moment):
    try:
        with open(moment["file"], "x") as file:  # noqa: PTH123 - fails if another process has reached it
            file.write(f"{os.getpid()}\n")
    except FileExistsError:
        return
    while True:
        time.sleep(60)


# --- moments of files: before the fsync of one whose path matches -----------------------------------

fsync = os.fsync
synced = {str(path): path.stat().st_size for path in Path.cwd().glob("sweeps/**/*") if path.is_file()}


def watched_fsync(file):
    path = str(Path(f"/proc/self/fd/{file}").readlink())
    moment = pending()
    if is_reached(moment, path=path):
        if moment["torn"]:  # as a machine that stops may leave it: half of what was not synced is lost
            os.ftruncate(file, (synced.get(path, 0) + os.fstat(file).st_size) // 2)
        wait_to_be_killed(moment)
    fsync(file)
    synced[path] = os.fstat(file).st_size


# --- moments of code: before a call of a function ---------------------------------------------------


def watch_call(owner, name, call):
    function = getattr(owner, name)

    @functools.wraps(function)
    def watched(*args, **kwargs):
        moment = pending()
        if is_reached(moment, call=call):
            wait_to_be_killed(moment)
        return function(*args, **kwargs)

    setattr(owner, name, watched)


class AfterImport:
    """Changes a module right after its import."""

    def find_spec(self, name, path=None, target=None):
        calls = {moment["call"] for moment in MOMENTS if moment.get("call", "").split(":")[0] == name}
        if name not in SETTINGS and not calls:
            return None
        with contextlib.ExitStack() as stack:
            sys.meta_path.remove(self)
            stack.callback(sys.meta_path.insert, 0, self)
            spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            vars(module).update(SETTINGS.get(name, {}))
            for call in calls:
                *owners, function = call.split(":")[1].split(".")
                watch_call(functools.reduce(getattr, owners, module), function, call)

        spec.loader.exec_module = execute_and_change
        return spec


if MOMENTS or SETTINGS:
    os.fsync = watched_fsync
    sys.meta_path.insert(0, AfterImport())
