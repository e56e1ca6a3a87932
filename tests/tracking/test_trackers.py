"""What `tracking` may name: a class that takes its keys and has every call. All else is refused before the sweep."""

import sys

import pytest

from sweeper.tracking import trackers
from sweeper.types import InputError

MODULE = """
from sweeper.types import ConfiguredTracker


class Silent(ConfiguredTracker):
    def __init__(self, path, *, mode="w"):
        if mode == "x":
            raise OSError("no such mode")
        self.keys = path, mode


class Loose(ConfiguredTracker):
    def __init__(self, **keys):
        self.keys = keys


class Half:
    def start(self, sweep): ...
    def open(self, jobs): ...


NUMBER = 3
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    (tmp_path / "own_trackers.py").write_text(MODULE)
    (tmp_path / "broken_tracker.py").write_text("raise RuntimeError('no key\\nfor the service')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_trackers", None)


def target(name, **keys):
    return {"_target_": f"own_trackers.{name}", **keys}


def test_the_keys_of_the_node_are_the_arguments():
    assert trackers.build(target("Silent", path="a")).keys == ("a", "w")
    assert trackers.build(target("Loose", path="a", more=None)).keys == {"path": "a", "more": None}
    assert trackers.build({"_target_": None}) is None


def test_calls_that_a_class_inherits_do_nothing():
    tracker = trackers.build(target("Silent", path="a"))
    for name in trackers.CALLS:
        if name not in ("start", "finish"):
            assert getattr(tracker, name)(*[None] * (1 + (name in ("tag", "describe", "artifact")))) is None
    assert tracker.finish() == 0


WRONG = {
    "no mapping": (None, "tracking: not a mapping"),
    "near key": (target("Silent", path="a", mod="r"), "tracking.mod: no such key of own_trackers.Silent. Did you"),
    "far key": (
        target("Silent", path="a", uri=None),
        "tracking.uri: no such key of own_trackers.Silent. Choose one of",
    ),
    "missing key": (target("Silent"), "tracking.path: missing, and own_trackers.Silent needs it. Set"),
    "bad value": (target("Silent", path="a", mode="x"), "tracking._target_=own_trackers.Silent: cannot be built (OSE"),
    "no class": (target("NUMBER"), "tracking._target_=own_trackers.NUMBER: not a class"),
    "no such class": (
        target("Silnt"),
        "tracking._target_=own_trackers.Silnt: not found: own_trackers has no Silnt. Did you mean",
    ),
    "no module": (
        {"_target_": "Silent"},
        "tracking._target_=Silent: not an import path. Write",
    ),
    "broken": ({"_target_": "broken_tracker.X"}, "its module raised RuntimeError (no key). Fix broken_tracker"),
    "half": (target("Half"), "tracking._target_=own_trackers.Half: not a tracker: it has no append, artifact, close"),
    "keys without a class": ({"uri": "none"}, "tracking.uri: tracking._target_ is null"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_ones_are_named_with_the_way_out(wrong):
    node, told = WRONG[wrong]
    with pytest.raises(InputError) as error:
        trackers.build(node)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1
