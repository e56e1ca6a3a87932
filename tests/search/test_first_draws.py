"""The first points of all families: shared by name, spread over each range."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper.search.first_draws import COUNT, coordinates, count, random_sampler, sequence_sampler, unit_point, value_at

LR = FloatDistribution(1e-3, 3, log=True)
SHARE = FloatDistribution(0, 0.2)


def point(sampler, distributions):
    """What a sampler proposes, independent of any study."""
    return {name: sampler.sample_independent(None, None, name, one) for name, one in distributions.items()}


def draw(seed, number, distributions):
    return point(sequence_sampler(unit_point(seed, number), distributions), distributions)


def points(**distributions):
    return [draw(0, number, distributions) for number in range(COUNT)]


@pytest.mark.parametrize(("n_trials", "shared"), [(1, 1), (2, 1), (3, 1), (7, 3), (15, 7), (16, 8), (20, 8), (999, 8)])
def test_half_of_a_small_search_is_shared(n_trials, shared):
    assert count(n_trials) == shared


def test_families_try_the_same_peak_lrs_and_warmups():
    few, many = points(peak_lr=LR, warmup=SHARE), points(peak_lr=LR, warmup=SHARE, decay=LR, own=SHARE)
    assert [(p["peak_lr"], p["warmup"]) for p in few] == [(p["peak_lr"], p["warmup"]) for p in many]


def test_a_number_of_the_optimizer_is_the_same_in_every_family_and_a_familys_own_moves_nobody():
    shared = {"peak_lr": LR, "optimizer.weight_decay": LR}
    of_one, of_other = points(**shared, alpha=SHARE), points(**shared, cycle=SHARE, zeta=SHARE)
    assert [p["optimizer.weight_decay"] for p in of_one] == [p["optimizer.weight_decay"] for p in of_other]
    assert [p["alpha"] for p in of_one] == [p["zeta"] for p in of_other]  # the first of their own


def test_no_family_has_two_numbers_on_one_coordinate():
    names = ["peak_lr", "warmup", "decay", "cycle", "cooldown", "model.width", "optimizer.beta1", "own", "also"]
    places = coordinates(names)
    assert sorted(places.values()) == list(range(9))
    assert places["model.width"] < places["optimizer.beta1"] < places["also"] < places["own"]


def test_each_coordinate_has_one_point_in_each_eighth():
    points = np.array([unit_point(3, number) for number in range(COUNT)])
    assert (np.sort((points * COUNT).astype(int), axis=0) == np.arange(COUNT)[:, None]).all()


def test_random_coordinates_are_uniform_and_go_by_name_alone():
    few, many = {"peak_lr": SHARE}, {"alpha": SHARE, "peak_lr": SHARE, "optimizer.weight_decay": SHARE}
    drawn = [(point(random_sampler(0, k), few), point(random_sampler(0, k), many)) for k in range(500)]
    assert all(one["peak_lr"] == other["peak_lr"] for one, other in drawn)
    values = np.array([[other[name] / SHARE.high for name in many] for _, other in drawn])
    assert np.abs(values.mean(axis=0) - 0.5).max() < 0.05  # four standard errors
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.18


def test_more_hyperparameters_than_coordinates_have_values():
    distributions = {f"model.layer{number}": SHARE for number in range(300)}
    assert draw(0, 0, distributions).keys() == distributions.keys()


def test_another_seed_has_other_points():
    assert draw(0, 0, {"peak_lr": LR}) != draw(1, 0, {"peak_lr": LR})


@pytest.mark.parametrize(
    ("distribution", "share", "value"),
    [
        (FloatDistribution(2, 4), 0.25, 2.5),
        (FloatDistribution(1e-4, 1, log=True), 0.5, 1e-2),
        (FloatDistribution(0, 1, step=0.25), 0.999, 1.0),
        (FloatDistribution(0, 1, step=0.25), 0.2, 0.25),
        (IntDistribution(1, 4), 0.26, 2),
        (IntDistribution(0, 10, step=5), 0.99, 10),
        (IntDistribution(1, 8, log=True), 0.999, 8),
        (IntDistribution(1, 8, log=True), 0.001, 1),
        (CategoricalDistribution(["a", "b", "c"]), 0.34, "b"),
    ],
)
def test_a_share_of_a_range(distribution, share, value):
    assert value_at(distribution, share) == pytest.approx(value)


@pytest.mark.parametrize(
    "distribution", [IntDistribution(1, 4), IntDistribution(1, 9, log=True), IntDistribution(3, 9, step=3)]
)
def test_whole_numbers_are_drawn_evenly(distribution):
    shares = (np.arange(9000) + 0.5) / 9000
    values, counts = np.unique([value_at(distribution, share) for share in shares], return_counts=True)
    assert values[0] == distribution.low
    assert values[-1] == distribution.high
    if not distribution.log:
        assert counts.max() - counts.min() <= 1
