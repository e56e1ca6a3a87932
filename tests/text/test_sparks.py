"""Curves one line high: what each cell stands for, at any number of cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.schedules import lr_trace
from sweeper.text.sparks import ASCII, BLOCKS, best_so_far, lr_curve, thin

BESTS = st.lists(st.floats(-1e6, 1e6), max_size=40).map(lambda values: list(np.minimum.accumulate(values)))


@given(st.integers(0, 5), BESTS, st.integers(1, 12), st.booleans())
def test_a_curve_fits_its_cells_and_never_gets_worse(blanks, bests, cells, unicode):
    values = [*[None] * blanks, *bests]
    drawn = best_so_far(values, cells, unicode)
    levels = BLOCKS if unicode else ASCII
    heights = [levels.index(cell) for cell in drawn.lstrip(" ")]
    assert len(drawn) == (min(cells, len(values)) if bests else 0)
    assert heights == sorted(heights, reverse=True)
    assert not bests or heights[-1] == 0


@given(st.integers(0, 3), BESTS, st.integers(1, 12))
def test_where_more_is_better_the_curve_rises_to_the_top(blanks, bests, cells):
    values = [*[None] * blanks, *(-value for value in bests)]
    heights = [BLOCKS.index(cell) for cell in best_so_far(values, cells).lstrip(" ")]
    assert heights == sorted(heights)
    assert len(set(heights)) < 2 or heights[-1] == len(BLOCKS) - 1


def test_small_steps_after_a_bad_start_are_seen():
    assert best_so_far([None, 100.0, 2.3, 2.3, 2.2, 2.0], 8) == " █▂▂▂▁"
    assert best_so_far([3.2, 2.5, 2.4, 2.3], 8) == "█▆▅▁"
    assert best_so_far([1.0, 1.0], 8) == "▁▁"
    assert best_so_far([None, None], 8) == ""
    assert best_so_far([], 8) == ""


def test_of_many_trials_a_cell_shows_the_last_of_its_part():
    values = [4.0] * 50 + [1.3] * 49 + [1.0]
    assert best_so_far(values, 4) == "██▅▁"


@pytest.mark.parametrize(
    ("family", "numbers", "curve"),
    [
        ("constant", {}, "████████"),
        ("linear", {"decay": 0}, "█▇▆▅▄▃▂▁"),
        ("linear", {"decay": 0, "warmup": 0.5}, "▂▄▆██▆▄▂"),
        ("cosine", {"decay": 0}, "██▇▅▄▂▁▁"),
        ("step", {"decay": 0.1, "cycle": 0.5}, "████▁▁▁▁"),
    ],
)
def test_schedules_look_as_they_are_drawn_in_papers(family, numbers, curve):
    assert lr_curve(lr_trace(family, {"peak_lr": 0.3, **numbers}, 1000), 8) == curve


@given(st.integers(1, 3000), st.integers(1, 12), st.booleans())
def test_an_lr_takes_its_cells_or_its_updates(steps, cells, unicode):
    assert len(lr_curve(np.linspace(1, 2, steps), cells, unicode)) == min(steps, cells)


def test_no_lr_no_curve_and_an_lr_of_zero_is_low():
    assert lr_curve(np.empty(0), 8) == ""
    assert lr_curve(np.zeros(4), 8) == "▁▁▁▁"


@pytest.mark.parametrize("cells", [8, 10, 12])
def test_a_thinned_lr_draws_the_same(cells):
    lr_S = lr_trace("sgdr", {"peak_lr": 1.0}, 240 * 50)
    assert len(thin(lr_S)) == 240
    assert lr_curve(thin(lr_S), cells) == lr_curve(lr_S, cells)
    assert thin(lr_S[:100]) is not None
    assert len(thin(lr_S[:100])) == 100
