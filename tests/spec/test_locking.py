"""One process trains a sweep: of this machine, and of all machines that share its folder."""

import json
import os
import subprocess
import sys
import threading

import pytest

from sweeper import owners
from sweeper.owners import Machine
from sweeper.spec import locking
from sweeper.spec.locking import is_running, lock, unlock
from sweeper.spec.question import Home
from sweeper.types import InputError

FAR = {"host": "far", "boot": "another", "pid": 17}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "sweeps" / "mine")


def hold(home):
    """Start a process that holds the lock until it is killed."""
    code = (
        "import sys; from pathlib import Path; from sweeper.spec.locking import lock\n"
        "from sweeper.spec.question import Home\n"
        "with lock(Home(Path(sys.argv[1]))): print('in', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "in\n"
    return process


def owner(home):
    return home.path / "owner.json"


def test_a_second_process_is_refused_while_the_first_runs_and_not_after_its_death(home):
    other = hold(home)
    try:
        with pytest.raises(InputError, match="another process is running"), lock(home):
            pass
        with pytest.raises(InputError, match="another process is running"):
            unlock(home)
        assert is_running(home)
        assert json.loads(owner(home).read_text())["pid"] == other.pid
    finally:
        other.kill()
        other.communicate()
    assert owner(home).exists()
    assert not is_running(home)
    with lock(home):
        assert json.loads(owner(home).read_text())["pid"] == os.getpid()
    assert [path.name for path in home.path.iterdir()] == ["lock"]


def test_another_machine_is_refused_until_it_is_unlocked(home, monkeypatch):
    """The first process's lock of the operating system is released, as if its file system did not pass it on."""
    with lock(home):
        stored = owner(home).read_text()
    owner(home).write_text(stored)
    here = owners.this_machine()
    monkeypatch.setattr(locking, "this_machine", lambda: Machine("there", "another"))
    assert is_running(home)
    told = rf"name=mine: the machine {here.host} is running this sweep \(process {os.getpid()}\)"
    with pytest.raises(InputError, match=rf"{told}.*`python -m sweeper unlock mine`"), lock(home):
        pass
    assert owner(home).read_text() == stored
    assert unlock(home).machine == here
    assert unlock(home) is None
    with lock(home):
        assert json.loads(owner(home).read_text())["host"] == "there"


@pytest.mark.parametrize(("host", "boot", "left"), [
    ("here", "before", "after a restart"), ("container", "now", "by another container"), ("here", "now", "by a kill"),
])  # fmt: skip
def test_what_this_machine_left_is_taken_over(home, monkeypatch, host, boot, left):
    home.path.mkdir(parents=True)
    owner(home).write_text(json.dumps({"host": host, "boot": boot, "pid": 1}))
    monkeypatch.setattr(locking, "this_machine", lambda: Machine("here", "now"))
    assert not is_running(home), left
    with lock(home):
        assert json.loads(owner(home).read_text()) == {"host": "here", "boot": "now", "pid": os.getpid()}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "far"}', '{"host": "far", "boot": "x", "pid": "y"}'])
def test_a_damaged_file_refuses_nobody(home, content):
    home.path.mkdir(parents=True)
    owner(home).write_text(content)
    with lock(home):
        assert json.loads(owner(home).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_two_machines_at_the_same_moment_one_gets_it(tmp_path, monkeypatch, links):
    """The lock of the operating system excludes nobody here, as on a file system that does not pass it on."""
    from contextlib import nullcontext

    def refuse(*_):
        raise PermissionError("no hard links")

    names = threading.local()
    monkeypatch.setattr(locking, "_hold", lambda home: nullcontext())
    monkeypatch.setattr(locking, "this_machine", lambda: Machine(names.host, names.host))
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for number in range(20):
        home, together, inside, outcomes = Home(tmp_path / str(number)), threading.Barrier(4), [], []
        home.path.mkdir()
        done = threading.Barrier(4)

        def train(host, home=home, together=together, done=done, inside=inside, outcomes=outcomes):
            names.host = host
            together.wait()
            try:
                with lock(home):
                    inside.append(host)
                    done.wait()
            except InputError as error:
                outcomes.append(str(error))
                done.wait()

        threads = [threading.Thread(target=train, args=(host,)) for host in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(inside) == 1
        assert len(outcomes) == 3


@pytest.mark.parametrize("words", [("sync",), ("retry",), ()], ids=["sync", "retry", "sweep"])
def test_commands_that_write_are_refused_and_unlock_is_the_way_out(sweeper, tmp_path, words):
    sweep = [
        "data=digits", "model=mlp", "model.width=4", "train.steps=8", "search.reports=4", "search.n_trials=1",
        "schedule=constant", "tracking=none", "trainer=sequential", "trainer.workers=1", "name=mine",
    ]  # fmt: skip
    assert sweeper(*sweep, "search.timeout=1e-9")[0] == 0
    home = Home(tmp_path / "sweeps" / "mine")
    owner(home).write_text(json.dumps(FAR))
    before = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file() and path != home.log}
    code, out, err = sweeper(*(words or sweep))
    if words != ("retry",):  # which has nothing to do
        assert code == 2
        assert "the machine far is running this sweep (process 17)" in err
    assert {path: path.read_bytes() for path in before} == before
    assert sweeper("status", "mine")[0] == 0
    code, out, _ = sweeper("unlock")
    assert (code, out) == (0, "mine is unlocked. It was locked by far (process 17).\n")
    assert sweeper("unlock")[1] == "mine is not locked.\n"
    assert sweeper(*sweep)[0] == 0
