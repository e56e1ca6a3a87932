"""What is read from the losses of an LR range test, on curves whose truth is known."""

import math

import numpy as np
import pytest

from sweeper.results.lr_range import (
    DIVERGENCE,
    MINIMUM,
    STEEPEST,
    VALLEY,
    Curve,
    Ramp,
    RangeTest,
    divergence,
    has_diverged,
    median_curve,
    smooth,
    steepest,
    suggestions,
    valley,
)

LR_S = np.geomspace(1e-7, 100.0, 100)


def quadratic(s_K, lr_S=LR_S):
    """Return the loss before each update of gradient descent on sum_k s_k x_k^2 / 2, from x_k = 1 on."""
    s_K, x_K, loss_S = np.asarray(s_K, dtype=np.float64), np.ones(len(s_K)), []
    for lr in lr_S:
        loss_S.append(float(s_K @ x_K**2 / 2))
        if loss_S[-1] > 1e9:
            break
        x_K = x_K * (1 - lr * s_K)
    return np.array(loss_S)


def ramp(loss_S, seed=0, warmup=0, lr_S=LR_S):
    return Ramp(seed, warmup, lr_S, np.asarray(loss_S, dtype=np.float64))


def points(*ramps):
    return {(one["warmup"], one["point"]): one for one in RangeTest("task", ramps).points}


# --- smoothing --------------------------------------------------------------------------------------


def test_the_average_is_the_weighted_mean_of_all_losses_so_far():
    loss_S, b = np.random.default_rng(0).normal(3, 1, 40), 1 - 1 / 5
    weights = [b ** np.arange(t, -1, -1) for t in range(40)]
    wanted = [float(w_S @ loss_S[: len(w_S)] / w_S.sum()) for w_S in weights]
    np.testing.assert_allclose(smooth(loss_S, 5.0), wanted, rtol=1e-12)


def test_a_constant_loss_stays_and_nan_is_infinite_from_there_on():
    np.testing.assert_allclose(smooth(np.full(30, 2.5), 7.0), 2.5, rtol=1e-12)
    np.testing.assert_array_equal(np.isinf(smooth(np.array([1.0, math.nan, 1.0]), 3.0)), [False, True, True])
    np.testing.assert_array_equal(smooth(np.array([1.0, 3.0, 2.0]), 1.0), [1.0, 3.0, 2.0])


# --- divergence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_gradient_descent_on_a_quadratic_diverges_beyond_two_over_its_largest_curvature(scale):
    """Below that LR every update lowers the loss, so a ramp can diverge only beyond it."""
    s_K = scale * np.array([0.03, 0.2, 1.0])
    found = points(ramp(quadratic(s_K)))["off", DIVERGENCE]["lr"]
    assert 2 / s_K.max() < found < 100 / s_K.max()


def test_a_task_with_tenfold_curvature_has_a_tenth_of_each_lr():
    s_K = np.array([0.03, 0.2, 1.0])
    low, high = points(ramp(quadratic(s_K))), points(ramp(quadratic(10 * s_K, LR_S / 10) / 10, lr_S=LR_S / 10))
    for name in (STEEPEST, MINIMUM, VALLEY, DIVERGENCE):
        assert high["off", name]["lr"] == pytest.approx(low["off", name]["lr"] / 10, rel=1e-9), name


def test_a_loss_that_never_returns_has_no_divergence_point():
    curve = Curve(LR_S, np.linspace(2.0, 1.0, 100), 2.0)
    assert divergence(curve) is None
    back = Curve(LR_S, np.where(np.arange(100) == 60, 5.0, curve.loss_S), 2.0)
    assert divergence(back) is None, "a spike is no divergence"
    assert suggestions(curve)[MINIMUM] == pytest.approx(10.0)


def test_a_ramp_is_stopped_when_its_loss_is_far_above_the_lowest_and_above_the_untrained_one():
    start, low = [2.3] * 40, [0.5] * 30
    assert not has_diverged(ramp([*start, *low]))
    assert not has_diverged(ramp([*start, *low, *[2.2] * 30])), "four times the lowest, but below the beginning"
    assert has_diverged(ramp([*start, *low, *[2.5] * 30]))
    assert not has_diverged(ramp([*start, *[2.0] * 30, *[7.0] * 20])), "not yet four times the lowest"
    assert has_diverged(ramp([*start, math.inf]))
    assert has_diverged(ramp([*start, math.nan]))


# --- suggestions ------------------------------------------------------------------------------------


def fastai_valley(lrs, losses):
    """`valley` of fastai's `callback/schedule.py`, word for word."""
    n = len(losses)
    max_start, max_end = 0, 0
    lds = [1] * n
    for i in range(1, n):
        for j in range(i):
            if (losses[i] < losses[j]) and (lds[i] < lds[j] + 1):
                lds[i] = lds[j] + 1
            if lds[max_end] < lds[i]:
                max_end = i
                max_start = max_end - lds[max_end]
    sections = (max_end - max_start) / 3
    return float(lrs[max_start + int(sections) + int(sections / 2)])


def fastai_steep(lrs, losses):
    return float(lrs[np.argmin((losses[1:] - losses[:-1]) / (np.log(lrs[1:]) - np.log(lrs[:-1])))])


@pytest.mark.parametrize("seed", range(8))
def test_steepest_and_valley_are_those_of_fastai(seed):
    rng = np.random.default_rng(seed)
    loss_S = np.cumsum(rng.normal(-0.05, 0.3, 60)) + 3
    assert valley(LR_S[:60], loss_S) == fastai_valley(LR_S[:60], loss_S)
    assert steepest(LR_S[:60], loss_S) == fastai_steep(LR_S[:60], loss_S)


def test_suggestions_of_a_step_lie_on_its_descent():
    """The loss falls from 2 to 1 around 1e-3 and explodes at 1."""
    loss_S = 2 - 1 / (1 + (1e-3 / LR_S) ** 2)
    found = suggestions(Curve(LR_S, np.where(LR_S > 1, 10.0, loss_S), 2.0))
    assert found[STEEPEST] == pytest.approx(1e-3, rel=0.3)
    assert found[MINIMUM] == pytest.approx(0.1, rel=0.25)
    assert 1e-5 < found[VALLEY] < 1e-1


@pytest.mark.parametrize("loss_S", [np.full(100, 2.0), np.linspace(2.0, 3.0, 100)], ids=["flat", "rising"])
def test_a_loss_that_never_falls_suggests_nothing(loss_S):
    found = RangeTest("task", (ramp(loss_S),))
    assert found.interval is None
    assert found.table["lr"].isna()[:3].all()


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_descent_and_a_descent_is_seen_in_noise(seed):
    rng = np.random.default_rng(seed)
    noise_LS = rng.normal(0, 0.2, (3, 100))
    assert RangeTest("task", tuple(ramp(2 + row, k) for k, row in enumerate(noise_LS))).interval is None
    mean_S = 2 - 1 / (1 + (1e-2 / LR_S) ** 2) + LR_S**2  # falls by 1 around 1e-2, and rises by 1 until 1
    low, high = RangeTest("task", tuple(ramp(mean_S + row, k) for k, row in enumerate(noise_LS))).interval
    assert low < 1e-2 < high < 10


@pytest.mark.parametrize("seed", range(20))
def test_a_loss_that_only_explodes_leaves_three_decades_below_that(seed):
    rng = np.random.default_rng(seed)
    explodes = [ramp(2 + LR_S**2 + rng.normal(0, 0.2, 100), k) for k in range(3)]  # by 1 at 1
    test = RangeTest("task", tuple(explodes))
    assert test.table["lr"][:3].isna().all()
    low, high = test.interval
    assert 0.1 < high < 10
    assert high / low == pytest.approx(1e3, rel=0.2)


# --- seeds and interval -----------------------------------------------------------------------------


def test_the_curve_is_the_median_of_the_seeds_and_one_that_ended_counts_as_infinite():
    long, short = np.linspace(3.0, 1.0, 60), np.linspace(3.0, 2.0, 30)
    two_of_three = median_curve([ramp(long), ramp(long + 0.1), ramp(short)])
    assert np.isfinite(two_of_three.loss_S).all()
    one_of_three = median_curve([ramp(long), ramp(short), ramp(short + 0.1)])
    np.testing.assert_array_equal(np.isfinite(one_of_three.loss_S), np.arange(60) < 30)


def test_points_say_what_single_seeds_say_and_the_interval_holds_for_ramps_with_and_without_warmup():
    off = [ramp(quadratic([scale, 0.1]), seed) for seed, scale in enumerate((1.0, 1.1, 4.0))]
    on = [ramp(quadratic([0.3, 0.05]), seed, warmup=25) for seed in range(3)]
    test = RangeTest("task", (*off, *on))
    assert list(test.table.columns) == ["warmup", "point", "lr", "lowest", "highest"]
    assert len(test.table) == 8
    rows = points(*off, *on)
    assert rows["off", DIVERGENCE]["lowest"] < rows["off", DIVERGENCE]["lr"] == rows["off", DIVERGENCE]["highest"]
    assert test.seeds == 3
    assert test.updates == sum(len(one.loss_S) for one in (*off, *on))
    suggested = [one["lr"] for key, one in rows.items() if key[1] != DIVERGENCE]
    diverged = [one["lr"] for key, one in rows.items() if key[1] == DIVERGENCE]
    low, high = test.interval
    assert low <= min(suggested) / 5 < 1.1 * low
    assert max(suggested) < high < 1.1 * max(diverged)
    assert all(float(f"{end:.1e}") == end for end in (low, high)), "two digits"
