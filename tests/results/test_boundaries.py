"""Levels of repeated looks, against the recursive integration of gsdesign."""

import math

import pytest
from gsdesign import h1, hupdate
from scipy.stats import norm

from sweeper.results.boundaries import nominal_levels
from sweeper.results.judging import LOOKS


@pytest.mark.parametrize("looks", [LOOKS, (8, 12, 16, 24, 32), (5, 6, 7), (10, 1000)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7, 0.2])
def test_the_error_that_is_spent_is_linear_in_the_share(looks, alpha):
    levels = nominal_levels(alpha, looks)
    density, share_before = None, 0.0
    for look, level in zip(looks, levels, strict=True):
        share, z = look / looks[-1], norm.isf(level / 2)
        if density is None:
            density = h1(r=80, info=share, a=-z, b=z)
        else:
            density = hupdate(80, 0.0, share, -z, z, 0.0, share_before, density)
        assert 1 - density[2].sum() == pytest.approx(alpha * share, abs=1e-8)
        share_before = share


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.05, (0.00625, 0.00496, 0.00560, 0.00928, 0.0114, 0.0193, 0.0242)),
        (0.05 / 7, (0.000893, 0.000633, 0.000695, 0.00117, 0.00139, 0.00240, 0.00290)),
    ],
)
def test_levels_of_the_default_looks(alpha, expected):
    assert nominal_levels(alpha, LOOKS) == pytest.approx(expected, rel=5e-3)


def test_a_single_look_has_the_whole_level():
    assert nominal_levels(0.05, (8,)) == (pytest.approx(0.05),)
    assert math.isclose(nominal_levels(0.05, (1,))[0], 0.05)
