"""MLflow's tracker: what its keys may be, when it sends nothing, and what it says while it waits."""

import json
import threading

import pytest

from sweeper.tracking import trackers
from sweeper.tracking.mlflow import tracker, view
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.types import InputError, TrackedSweep

BAD = {
    "scheme": ({"uri": "mlruns"}, "tracking.uri=mlruns: "),
    "experiment": ({"experiment": "a/b"}, "tracking.experiment=a/b: "),
    "seconds": ({"flush_seconds": "soon"}, "tracking.flush_seconds=soon: not a number of seconds"),
    "past": ({"flush_seconds": -1}, "tracking.flush_seconds=-1: not a number of seconds"),
    "never": ({"flush_seconds": float("inf")}, "tracking.flush_seconds=inf: not a number of seconds"),
    "no number": ({"flush_seconds": float("nan")}, "tracking.flush_seconds=nan: not a number of seconds"),
    "a switch": ({"flush_seconds": True}, "tracking.flush_seconds=true: not a number of seconds"),
    "no name": ({"experiment": ""}, "tracking.experiment=: not a name"),
    "a number as a name": ({"experiment": 5}, "tracking.experiment=5: not a text"),
    "a number as an address": ({"uri": 5}, "tracking.uri=5: not an address"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_key_that_cannot_be_used_is_refused_before_the_sweep(bad):
    keys, told = BAD[bad]
    with pytest.raises(InputError) as error:
        MLflow(**keys)
    assert str(error.value).startswith(told)


def test_uri_none_starts_no_sender_and_leaves_nothing_unsent(tmp_path, played):
    sweep = TrackedSweep(tmp_path, "x", "0" * 32, 0)
    both = trackers.start(sweep, MLflow("none"))
    list(played(both, trials=1))
    assert both.finish() == 0
    assert not (sweep.spool / "sender.log").exists()
    assert json.loads((sweep.spool / "destination.json").read_text()) is None
    assert not view.is_sent(sweep.spool)


def test_a_long_wait_is_explained_and_a_short_one_is_not(monkeypatch, capsys):
    with tracker._explain_if_long("Sending"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(tracker, "LONG_SECONDS", 0)
    with tracker._explain_if_long("Sending"):
        for timer in threading.enumerate():
            if isinstance(timer, threading.Timer):
                timer.join()
    assert capsys.readouterr().err == "Sending\n"
