"""Who owns a file or folder: a living process, a dead one, another machine's."""

import subprocess
import sys

import pytest

from sweeper import owners
from sweeper.owners import Machine


def label_of(code=""):
    """Return the label of a process that has ended."""
    done = subprocess.run(
        [sys.executable, "-c", f"from sweeper import owners; print(owners.label()); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_process_that_ended_is_dead_and_a_living_one_is_not():
    assert owners.is_dead(label_of())
    assert not owners.is_dead(owners.label())
    machine, pid, started = owners.label().split("-")
    assert owners.is_dead(f"{machine}-{pid}-{started}0"), "an earlier process with this id, started at another time"


def test_a_living_process_whose_start_is_hidden_is_not_dead(monkeypatch):
    dead = label_of()
    label = owners.label()
    monkeypatch.setattr(owners, "_start_time", lambda pid: "")  # as with /proc mounted with hidepid
    assert not owners.is_dead(label)
    assert owners.is_dead(dead)


@pytest.mark.parametrize("label", ["", "12345678-1", "sweeper-abc", "zzzzzzzz-999999999-1", "00000000-999999999-1"])
def test_what_is_not_of_this_machine_is_not_dead(label):
    assert not owners.is_dead(label)


@pytest.mark.parametrize(("other", "same"), [
    (Machine("one", "a"), True),
    (Machine("one", "b"), True),  # restarted
    (Machine("two", "a"), True),  # two containers
    (Machine("two", "b"), False),
    (Machine("two", ""), False),
])  # fmt: skip
def test_machines_are_known_by_name_or_start(other, same):
    assert Machine("one", "a").is_same(other) is same
    assert not Machine("one", "").is_same(Machine("two", ""))
