"""Kept weights: those of each study's best trials, within the quota, whole or not at all."""

import itertools

import pytest
import torch

from sweeper.training import weights
from sweeper.training.weights import BestWeights, Entry
from sweeper.types import Ending, Job, JobId, TrialId

NUMBERS = 1000
SIZE = 8 * NUMBERS + weights.OVERHEAD + weights.A_TENSOR  # of a trial of one member


class Weights:
    """A trainer as far as weights are asked for: of trial n they are n everywhere."""

    def __init__(self):
        self.fetched = []

    def weights(self, id):
        self.fetched.append(id)
        return {"w": torch.full((NUMBERS,), float(id.trial), dtype=torch.float64)}


def ended(keep, study, values, members=1):
    """Trials 0, 1, ... end with these values; the trainer they were fetched from."""
    trainer = Weights()
    for trial, value in enumerate(values):
        jobs = [Job(JobId(study, trial, member), study, {}, 0, [0.1], (1,)) for member in range(members)]
        keep(Ending(TrialId(study, trial), "complete", 1, value), jobs, trainer)
    return trainer


def trials(folder, study):
    return [entry.trial for entry in weights.entries(folder) if entry.study == study]


@pytest.mark.parametrize("order", list(itertools.permutations([0.1, 0.2, 0.3, 0.4])))
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_are_kept_in_whatever_order_they_end(tmp_path, order, direction):
    ended(BestWeights(tmp_path, best=2, quota_gb=1, direction=direction), "cosine", order)
    best = sorted(order, reverse=direction == "maximize")[:2]
    assert [order[trial] for trial in trials(tmp_path, "cosine")] == [value for value in order if value in best]
    assert len(list(tmp_path.glob("cosine/*.pt"))) == 2


def test_they_are_the_weights_of_every_member(tmp_path):
    ended(BestWeights(tmp_path, best=1, quota_gb=1, direction="minimize"), "cosine", [2.0, 1.0], members=2)
    for member in (0, 1):
        assert weights.read_weights(tmp_path, "cosine", 1, member)["w"].eq(1).all()
    with pytest.raises(FileNotFoundError):
        weights.read_weights(tmp_path, "cosine", 0)


def test_the_quota_takes_the_last_of_each_study_first(tmp_path):
    keep = BestWeights(tmp_path, best=2, quota_gb=3 * SIZE / weights.GIGABYTE, direction="minimize")
    ended(keep, "cosine", [1.0, 2.0])
    ended(keep, "wsd", [9.0, 8.0])
    assert weights.entries(tmp_path) == [
        Entry("cosine", 0, 1.0, SIZE),
        Entry("cosine", 1, 2.0, SIZE),
        Entry("wsd", 1, 8.0, SIZE),
    ]
    ended(keep, "linear", [5.0])
    assert [(entry.study, entry.trial) for entry in weights.entries(tmp_path)] == [
        ("cosine", 0),
        ("linear", 0),
        ("wsd", 1),
    ]
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.pt")) <= 3 * SIZE


def test_a_trial_that_has_no_room_is_logged_and_nothing_is_written(tmp_path, caplog):
    ended(BestWeights(tmp_path, best=1, quota_gb=0.5 * SIZE / weights.GIGABYTE, direction="minimize"), "cosine", [1.0])
    assert weights.entries(tmp_path) == []
    assert "weights of cosine trial 0 are not kept: no room in keep.quota_gb" in caplog.text


def test_weights_that_are_not_kept_are_not_fetched(tmp_path):
    assert ended(BestWeights(tmp_path, best=0, quota_gb=1, direction="minimize"), "cosine", [1.0]).fetched == []
    trainer = ended(BestWeights(tmp_path, best=1, quota_gb=1, direction="minimize"), "cosine", [1.0, 2.0, None])
    assert trainer.fetched == [JobId("cosine", 0, 0)]
    assert list(tmp_path.rglob("*.partial")) == []


def test_a_trial_that_ends_again_after_a_crash_is_written_again(tmp_path):
    keep = BestWeights(tmp_path, best=1, quota_gb=1, direction="minimize")
    ended(keep, "cosine", [1.0])
    (tmp_path / "cosine" / "0.json").unlink()  # killed before it was whole
    assert weights.entries(tmp_path) == []
    ended(keep, "cosine", [1.0])
    assert trials(tmp_path, "cosine") == [0]


def test_a_full_disk_does_not_stop_the_sweep(tmp_path, caplog):
    (tmp_path / "cosine").write_text("in the way")
    ended(BestWeights(tmp_path, best=1, quota_gb=1, direction="minimize"), "cosine", [1.0])
    assert "could not be written" in caplog.text
