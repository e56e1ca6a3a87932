"""Whole studies with pruned and diverged trials are the same one at a time, in lanes, in one process and in two."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from sweeper.api import Sweep
from sweeper.run import sweeping
from sweeper.spec.composing import compose
from sweeper.spec.parse import parse
from sweeper.spec.requests import request
from sweeper.spec.sweep import Subject
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised

TASK = Supervised(Digits(), partial(MLP, width=8, dropout=0.1))
SEARCH = {"n_trials": 12, "concurrent_trials": 4, "reports": 12}
SGD = {"sgd": {"peak_lr": {"low": 1e-3, "high": 30.0, "log": True}}}  # some trials diverge
ONE = {"sequential": {"workers": 1}}
LANES = {"lanes": {"width": 3, "workers": 1}}  # fewer than the open trials
SAME = ("study", "family", "number", "state", "params", "seeds", "steps_done", "diverged_step", "retry_of")


@pytest.fixture
def swept(tmp_path):
    """Return a function that runs a sweep with a trainer. It returns the trials and the traces of their members."""

    def sweep(trainer, precision="float64", **search):
        changes = {
            "train": {"steps": 60, "precision": precision},
            "search": {**SEARCH, **search},
            "optimizer": SGD,
            "pruner": {"n_startup_trials": 2},
            "trainer": trainer,
        }
        config = dict(compose(request("cosine", changes)).nodes)
        config["tracking"] = {"_target_": None}
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        outcome = sweeping.sweep(parse(config, Subject(TASK, "digits-mlp-sgd", {})), root=root)
        assert outcome.stopped is None
        stored = Sweep(outcome.home)
        traces = [
            stored.trace(one.study, one.number, member) for one in stored.records for member in range(len(one.seeds))
        ]
        return stored.records, traces

    return sweep


def assert_same(found, expected, rtol):
    """Assert that trials and hyperparameters are equal, and measured values up to `rtol`."""
    (ours, our_traces), (theirs, their_traces) = found, expected
    assert [[getattr(one, name) for name in SAME] for one in ours] == [
        [getattr(one, name) for name in SAME] for one in theirs
    ]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.value is None) == (other.value is None)
        measured = [np.array([value for _, value in record.intermediate]) for record in (one, other)]
        np.testing.assert_allclose(*measured, rtol=rtol)
    for one, other in zip(our_traces, their_traces, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=rtol, atol=0, check_exact=rtol == 0)


def states(found):
    return {record.state for record in found[0]}


def test_in_float64_lanes_are_one_at_a_time(swept):
    one = swept(ONE)
    assert states(one) >= {"complete", "pruned", "diverged"}
    assert_same(swept(LANES), one, rtol=1e-9)


def test_the_seeds_of_a_trial_ride_as_lanes_and_end_together(swept):
    one, lanes = swept(ONE, seeds=2), swept(LANES, seeds=2)
    assert states(one) >= {"complete", "pruned", "diverged"}
    assert_same(lanes, one, rtol=1e-9)
    records, traces = lanes
    for record, first, second in zip(records, traces[::2], traces[1::2], strict=True):
        assert len(set(record.seeds)) == 2
        assert not first["train/loss"].equals(second["train/loss"])
        if record.state != "diverged":  # one of its members may be a report ahead
            assert len(first) == len(second) == record.steps_done + 1  # the last row has the metrics of the end


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("trainer", [ONE, LANES], ids=["one", "lanes"])
def test_two_processes_are_one(swept, precision, trainer):
    ((name, options),) = trainer.items()
    two = swept({name: {**options, "workers": 2}}, precision, seeds=2)
    assert_same(two, swept(trainer, precision, seeds=2), rtol=0)


@pytest.mark.slow
def test_in_float64_neither_width_nor_processes_change_a_trial(swept):
    one = swept(ONE)
    for width, workers in ((1, 1), (8, 1), (2, 2)):
        assert_same(swept({"lanes": {"width": width, "workers": workers}}), one, rtol=1e-9)
