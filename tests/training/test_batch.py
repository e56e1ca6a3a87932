"""What updates train on: augmented batches are the same in lanes and alone, streamed ones the same as resident."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sweeper.tasks.convolutional import CNN
from sweeper.tasks.images import Images, LabeledImages
from sweeper.tasks.problems import Supervised
from sweeper.training.batch import training_batches
from sweeper.training.examples import Examples
from sweeper.training.lanes.probe import probe
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.randomness import AUGMENT, Draws, batches, key_of
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Report, Trainer

# torch's DataLoader forks its processes, of which Python from 3.12 on warns where there are threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

SGD = OptimizerSpec("torch.optim.SGD", {"momentum": 0.9, "nesterov": True})
BATCH, STEPS = 6, 12
CPU = torch.device("cpu")
ALL: dict[str, Any] = {
    "augment": {"crop": 2, "flip": True, "cutout": 3, "mixup": 0.4},
    "label_smoothing": 0.1,
}


def labeled(count: int, seed: int) -> LabeledImages:
    draw = np.random.default_rng(seed)
    return LabeledImages(
        draw.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8), draw.integers(0, 4, count, dtype=np.uint8)
    )


@functools.cache
def task(**options: Any) -> Supervised:
    options = {key: ALL[key] for key in options if key in ALL} | {k: v for k, v in options.items() if k not in ALL}
    return Supervised(
        Images(labeled(40, 0), labeled(10, 1), classes=4, **options), functools.partial(CNN, width=4, dropout=0.2)
    )


def augmented(**options: Any) -> Supervised:
    return task(augment=True, label_smoothing=True, **options)


def job(lane: int = 0, **changes: Any) -> Job:
    described = Job(JobId("s", lane, 0), "f", {}, 5 + lane, np.full(STEPS, 0.05 / (1 + lane)), (STEPS // 3, STEPS))
    return dataclasses.replace(described, **changes)


def trained(trainer: Trainer, jobs: list[Job]) -> list[tuple[np.ndarray, Report, dict[str, Tensor]]]:
    trainer.start(jobs)
    first = {report.id: report for report in trainer.advance([of.id for of in jobs])}
    last = {report.id: report for report in trainer.advance([of.id for of in jobs])}
    losses = [np.concatenate([first[of.id].traces["train/loss"], last[of.id].traces["train/loss"]]) for of in jobs]
    assert all(report.state == "complete" for report in last.values())
    return [(loss_S, last[of.id], trainer.weights(of.id)) for loss_S, of in zip(losses, jobs, strict=True)]


def alone(of: Supervised, jobs: list[Job], precision: Any = "float64") -> Any:
    return trained(SequentialTrainer(of, Recipe(SGD, BATCH, precision=precision), device="cpu"), jobs)


def stacked(of: Supervised, jobs: list[Job], precision: Any = "float64") -> Any:
    form = probe(of, Recipe(SGD, BATCH), jobs[0], device="cpu").form
    assert form is not None
    return trained(
        LaneTrainer(of, Recipe(SGD, BATCH, precision=precision), Stacking(form, width=4), device="cpu"), jobs
    )


# --- counted numbers --------------------------------------------------------------------------------


def draws(*seeds: int, batch: int = BATCH, step: int = 0) -> Draws:
    return Draws(torch.tensor([key_of(seed, AUGMENT, step) for seed in seeds]), batch)


def test_a_lane_draws_what_it_draws_alone_and_asked_twice_the_same() -> None:
    together = draws(1, 2, 3)(0, 5)
    assert together.shape == (3, BATCH, 5)
    assert together.dtype == torch.float32
    for lane, seed in enumerate((1, 2, 3)):
        assert torch.equal(draws(seed)(0, 5)[0], together[lane])


def test_draws_are_uniform_and_differ_by_seed_step_number_example_and_element() -> None:
    one = draws(1, batch=500)(0, 40).flatten()
    assert 0 <= one.min() <= one.max() < 1
    assert stats.kstest(one.numpy(), "uniform").pvalue > 0.01
    others = [draws(2, batch=500)(0, 40), draws(1, batch=500, step=1)(0, 40), draws(1, batch=500)(1, 40)]
    for other in others:
        assert abs(np.corrcoef(one.numpy(), other.flatten().numpy())[0, 1]) < 0.03
    table = one.view(500, 40)
    assert abs(np.corrcoef(table[1:].flatten().numpy(), table[:-1].flatten().numpy())[0, 1]) < 0.03
    assert abs(np.corrcoef(table[:, 1:].flatten().numpy(), table[:, :-1].flatten().numpy())[0, 1]) < 0.03


def test_the_numbers_are_held() -> None:
    assert (draws(7)(2, 3)[0, :2] * 2**24).long().tolist() == [[2932652, 9074952, 3814229], [14192889, 161589, 5883646]]


# --- batches ----------------------------------------------------------------------------------------


def test_batches_depend_on_the_update_not_on_where_a_turn_begins() -> None:
    of = augmented()
    index_SB = batches(3, 0, 6, BATCH, of.size("train", 0))
    whole = list(training_batches(Examples(of, "train", 0), index_SB, 3, 0, CPU))
    late = list(training_batches(Examples(of, "train", 0), index_SB[4:], 3, 4, CPU))
    for (x, y), (again, same) in zip(whole[4:], late, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, same)
    assert whole[0][0].shape == (BATCH, 3, 8, 8)
    assert whole[0][1].shape == (BATCH, 4)


def test_without_augmentation_batches_are_what_fetch_gives() -> None:
    of = task()
    index_SB = batches(3, 0, 2, BATCH, of.size("train", 0))
    for (x, y), index_B in zip(
        training_batches(Examples(of, "train", 0), index_SB, 3, 0, CPU), torch.from_numpy(index_SB), strict=True
    ):
        assert torch.equal(x, of.fetch("train", 0, index_B)[0])
        assert torch.equal(y, of.fetch("train", 0, index_B)[1])


def test_augmentation_moves_no_global_generator() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    index_SB = batches(3, 0, 2, BATCH, 36)
    list(training_batches(Examples(augmented(), "train", 0), index_SB, 3, 0, CPU))
    list(training_batches(Examples(augmented(stream=True), "train", 0), index_SB, 3, 0, CPU))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpys)


# --- trainers ---------------------------------------------------------------------------------------


def test_lanes_train_on_the_same_augmented_batches_as_one_at_a_time() -> None:
    jobs = [job(lane) for lane in range(3)]
    for (loss_S, report, weights), (other_S, other, others) in zip(
        alone(augmented(), jobs), stacked(augmented(), jobs), strict=True
    ):
        np.testing.assert_allclose(other_S, loss_S, rtol=1e-9)
        assert other.metrics == pytest.approx(report.metrics, rel=1e-9)
        for name, value in weights.items():
            torch.testing.assert_close(others[name], value, rtol=1e-9, atol=1e-9)


def test_neighbours_change_no_bit_of_an_augmented_lane() -> None:
    first = stacked(augmented(), [job(0)], "float32")[0]
    among = stacked(augmented(), [job(5), job(0), job(2)], "float32")[1]
    assert np.array_equal(first[0], among[0])
    for name, value in first[2].items():
        assert torch.equal(value, among[2][name])


def test_augmentation_changes_training_and_not_what_is_evaluated() -> None:
    plain, changed = task(), augmented()
    assert not np.array_equal(alone(plain, [job()])[0][0], alone(changed, [job()])[0][0])
    index_B = torch.arange(10)
    for part in ("valid", "test"):
        for one, other in zip(plain.fetch(part, 0, index_B[:4]), changed.fetch(part, 0, index_B[:4]), strict=True):
            assert torch.equal(one, other)


class Drawing(Supervised):
    """Its augmentation draws from torch's global generator."""

    @property
    def augment(self) -> Any:
        return lambda inputs_LB, target_LB, draw: (inputs_LB + torch.rand(inputs_LB.shape[1:]), target_LB)


def test_augmentation_that_draws_from_a_global_generator_is_not_stacked() -> None:
    of = Drawing(task().data, functools.partial(CNN, width=4))
    verdict = probe(of, Recipe(SGD, BATCH), job(), device="cpu")
    assert verdict.form is None
    assert "draws random numbers of its own" in verdict.why


# --- streaming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, pytest.param(2, marks=pytest.mark.slow)])
def test_streamed_data_train_to_the_same_bits(stream: bool | int) -> None:
    jobs = [job(0), job(1)]
    for (loss_S, report, weights), (other_S, other, others) in zip(
        alone(augmented(), jobs, "float32"), alone(augmented(stream=stream), jobs, "float32"), strict=True
    ):
        assert np.array_equal(loss_S, other_S)
        assert report.metrics == other.metrics
        for name, value in weights.items():
            assert torch.equal(value, others[name])


def test_streamed_data_are_not_stacked_and_the_verdict_says_why() -> None:
    verdict = probe(task(stream=True), Recipe(SGD, BATCH), job(), device="cpu")
    assert verdict.form is None
    assert verdict.why == (
        "one trial at a time: the data stay on the host and stream to one model, batch by batch (data.stream)"
    )
