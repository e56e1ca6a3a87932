"""Properties of the shared nouns."""

from __future__ import annotations

from sweeper.types import Choice, Range, first_of, values_of


def test_the_values_that_stand_for_a_dimension() -> None:
    assert values_of(Range(1, 9, step=2)) == (1, 9)
    assert values_of(Choice((3, 1, 2))) == (3, 1, 2)
    assert values_of((0.9, 0.99)) == ((0.9, 0.99),)
    assert values_of(None) == (None,)
    assert (first_of(Range(1, 9)), first_of(Choice((3, 1))), first_of("linear")) == (1, 3, "linear")


def test_whole_numbers_and_grids() -> None:
    assert Range(1, 9).is_whole
    assert Range(1, 9, step=2).is_whole
    assert not Range(1, 9, step=0.5).is_whole
    assert not Range(1.0, 9).is_whole
    spacings = [Range(1, 9), Range(1, 9, step=2), Range(1, 9, log=True), Range(0.0, 1.0), Range(0.0, 1.0, step=0.25)]
    assert [one.spacing for one in spacings] == [1, 2, None, None, 0.25]


def test_the_middle_is_on_the_grid_and_of_the_same_kind() -> None:
    assert Range(0.0, 1.0).middle == 0.5
    assert Range(0.25, 4.0, log=True).middle == 1.0
    assert Range(0.0, 1.0, step=0.3).middle == 0.6
    for whole, middle in ((Range(1, 10), 5), (Range(1, 9, step=4), 5), (Range(2, 200, log=True), 20)):
        assert whole.middle == middle
        assert isinstance(whole.middle, int)
