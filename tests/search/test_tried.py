"""Which points of a space were tried, how many are left, and drawing one of those."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper.search.tried import LISTED, TriedPoints

FEW = {"a": CategoricalDistribution([0, 0.1, "[1, 2]"]), "b": FloatDistribution(0, 0.3, step=0.1)}


@pytest.mark.parametrize(
    ("distribution", "count"),
    [
        (CategoricalDistribution([0, "a", None]), 3),
        (IntDistribution(2, 5), 4),
        (IntDistribution(1, 9, step=2), 5),
        (IntDistribution(2, 5, log=True), 4),
        (FloatDistribution(0, 0.3, step=0.1), 4),
        (FloatDistribution(0, 0.3), None),
        (FloatDistribution(0.1, 0.3, log=True), None),
    ],
)
def test_the_points_of_a_space_are_counted(distribution, count):
    assert TriedPoints({"x": distribution}).count == count
    assert TriedPoints({"x": distribution, "y": IntDistribution(0, 1)}).count == (count and 2 * count)


def test_a_space_without_dimensions_has_one_point():
    points = TriedPoints({})
    assert (points.count, points.left, {} in points) == (1, 1, False)
    points.add({})
    assert (points.left, {} in points) == (0, True)


@pytest.mark.parametrize("seed", range(5))
def test_every_point_is_drawn_once(seed):
    points = TriedPoints(FEW, [{"a": 0, "b": 0.1}])
    drawn = []
    while points.left:
        drawn.append(points.draw_other(seed))
        assert drawn[-1] not in points
        assert drawn[-1] == points.draw_other(seed), "it depends on the seed and the points alone"
        points.add(drawn[-1])
    assert len(drawn) == 11
    assert {point["b"] for point in drawn} == {0.0, 0.1, 0.2, 0.3}, "as they are written"


def test_a_step_is_the_same_however_it_was_rounded():
    assert {"a": 0, "b": 0.1 + 0.2} in TriedPoints(FEW, [{"a": 0, "b": 0.3}])


@pytest.mark.parametrize(
    "distribution", [IntDistribution(1, 10 * LISTED), FloatDistribution(0, 1)], ids=["large", "real"]
)
def test_of_too_many_points_one_is_found_by_chance(distribution):
    first = TriedPoints({"x": distribution}).draw_other(0)
    other = TriedPoints({"x": distribution}, [first]).draw_other(0)
    assert other != first
    assert TriedPoints({"x": distribution}, [first, other]).draw_other(1) not in (first, other)
