"""Thinning shows the trace: the error bound at every update, the ends and knees, few points, and no dependence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweeper.tracking.mlflow.thinning import (
    FEW_POINTS,
    MOST_POINTS,
    TOLERANCE,
    indices_by_shape,
    indices_by_stride,
    knees,
)


def worst(values: np.ndarray, at: np.ndarray) -> float:
    """Furthest distance of the polyline through `at` from the trace."""
    return float(np.abs(np.interp(np.arange(len(values)), at, values[at]) - values).max())


def cosine(steps: int, warm: int, low: float = 0.0) -> np.ndarray:
    t = np.arange(steps)
    down = low + (1 - low) * 0.5 * (1 + np.cos(np.pi * (t - warm) / (steps - warm)))
    return np.where(t < warm, (t + 1) / max(warm, 1), down)


@pytest.mark.parametrize("steps", [1000, 100_000])
def test_a_cosine_takes_few_points_and_stays_within_the_bound(steps):
    values = 0.1 * cosine(steps, steps // 10)
    at = indices_by_shape(values)
    assert len(at) <= 30
    assert worst(values, at) <= TOLERANCE * 0.1 * (1 + 1e-9)


@pytest.mark.parametrize("steps", [200, 1000, 100_000])
@pytest.mark.parametrize("warm_share", [0.02, 0.1, 0.2])
def test_the_end_of_a_warmup_is_a_point(steps, warm_share):
    warm = int(steps * warm_share)
    at = indices_by_shape(cosine(steps, warm))
    assert {warm - 1, warm} & set(at.tolist())


def test_both_sides_of_every_drop_are_points():
    values = 0.3 ** (np.arange(1000) // 250)
    assert {0, 249, 250, 499, 500, 749, 750, 999} == set(indices_by_shape(values).tolist())


def test_a_trapezoid_needs_its_corners_alone():
    values = np.concatenate([np.linspace(0, 1, 101), np.ones(500), np.linspace(1, 0, 200)[1:]])
    at = indices_by_shape(values)
    assert {100, 600} <= set(at.tolist())
    assert len(at) <= 6


def test_a_smooth_curve_has_no_knee():
    assert len(knees(cosine(1000, 0))) == 0
    assert len(knees(np.exp(-5 * np.arange(1000) / 1000))) == 0


def test_a_constant_needs_two_points():
    assert indices_by_shape(np.full(5000, 0.03)).tolist() == [0, 4999]
    assert indices_by_shape(np.zeros(10)).tolist() == [0, 9]


@given(
    hnp.arrays(
        np.float64,
        st.integers(1, 300),
        elements=st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False),
    )
)
@settings(max_examples=150)
def test_any_short_trace_keeps_the_bound_and_its_ends(values):
    at = indices_by_shape(values)
    assert at[0] == 0
    assert at[-1] == len(values) - 1
    assert (np.diff(at) > 0).all()
    assert worst(values, at) <= TOLERANCE * np.abs(values).max() * (1 + 1e-6) + 1e-300
    assert set(knees(values).tolist()) <= set(at.tolist())


@given(
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=12),
    st.integers(30, 3000),
    st.floats(1e-8, 1e3),
)
@settings(max_examples=100)
def test_any_schedule_of_ramps_keeps_the_bound(corners, steps, peak):
    values = peak * np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(corners)), corners)
    at = indices_by_shape(values)
    assert len(at) <= MOST_POINTS
    assert worst(values, at) <= TOLERANCE * np.abs(values).max() * (1 + 1e-6) + 1e-300


@pytest.mark.parametrize("steps", [1000, 20_000])
def test_noise_is_cut_to_the_most_that_is_sent(steps):
    values = np.random.default_rng(0).random(steps)
    at = indices_by_shape(values)
    assert len(at) <= MOST_POINTS
    assert {0, steps - 1} <= set(at.tolist())


def test_values_that_are_not_finite_are_taken_evenly():
    at = indices_by_shape(np.array([1.0, np.nan, 3.0]))
    assert at.tolist() == [0, 1, 2]


@given(st.integers(1, 20_000), st.integers(1, 400))
@settings(max_examples=200)
def test_strides_are_few_and_hold_the_ends(steps, reports):
    reports = min(reports, steps)
    report_steps = tuple(sorted({round((k + 1) * steps / reports) for k in range(reports)}))
    at = indices_by_stride(steps, report_steps)
    most = FEW_POINTS if steps < 1000 else MOST_POINTS
    assert {0, steps - 1} <= set(at.tolist())
    assert len(at) <= most
    if reports <= most // 2:
        assert {step - 1 for step in report_steps} <= set(at.tolist())
    assert len(at) >= min(steps, most // 3)
