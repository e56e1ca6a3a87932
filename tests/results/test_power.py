"""The power of a comparison on fresh seeds, against SciPy's noncentral t and against simulated comparisons."""

import math

import numpy as np
import pytest
from scipy import stats

from sweeper.results.power import detection_probability, smallest_gap


@pytest.mark.parametrize(("noncentrality", "critical", "freedom"), [(3, 2.7, 4), (10, 8, 2), (1, 2, 30), (5, 12, 1)])
def test_the_chance_is_that_of_the_noncentral_t(noncentrality, critical, freedom):
    t = stats.nct(freedom, noncentrality)
    assert detection_probability(noncentrality, critical, freedom) == pytest.approx(
        t.sf(critical) + t.cdf(-critical), abs=1e-6
    )


@pytest.mark.parametrize(("seeds", "comparisons"), [(2, 1), (3, 1), (3, 8), (5, 8), (10, 40), (20, 2)])
def test_simulated_comparisons_find_the_smallest_gap_in_four_of_five_cases(seeds, comparisons):
    gap, runs = smallest_gap(seeds, comparisons), 40_000
    differences = gap + np.random.default_rng(seeds).standard_normal((runs, seeds))
    p = stats.ttest_1samp(differences, 0, axis=1).pvalue
    share = (p < 0.05 / comparisons).mean()
    assert share == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / runs))


def test_holms_first_step_is_the_one_that_is_reckoned_with():
    """One family differs and three do not: Holm finds it about as often as its first step alone does."""
    seeds, comparisons, runs = 6, 4, 20_000
    gap = smallest_gap(seeds, comparisons)
    differences = np.random.default_rng(1).standard_normal((runs, comparisons, seeds))
    differences[:, 0] += gap
    p = stats.ttest_1samp(differences, 0, axis=2).pvalue
    order = np.argsort(p, axis=1)
    passed = np.take_along_axis(p, order, 1) < 0.05 / (comparisons - np.arange(comparisons))
    rejected = np.take_along_axis(np.cumprod(passed, axis=1), np.argsort(order, axis=1), 1)
    assert 0.8 - 0.012 <= rejected[:, 0].mean() <= 0.83


def test_more_seeds_see_less_and_more_comparisons_see_more():
    assert smallest_gap(1) == math.inf
    gaps = [smallest_gap(seeds, 8) for seeds in (2, 3, 5, 10, 20, 50)]
    assert gaps == sorted(gaps, reverse=True)
    assert all(smallest_gap(5, more) > smallest_gap(5, more - 1) for more in range(2, 20))
    assert smallest_gap(1000) == pytest.approx((1.96 + 0.8416) / math.sqrt(1000), rel=0.01)  # the normal limit
