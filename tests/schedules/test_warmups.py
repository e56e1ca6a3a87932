"""The ramps: where they start, that they rise, and their formulas."""

from typing import Any

import numpy as np
import pytest

from sweeper.schedules import lr_trace
from sweeper.schedules.warmups import SHAPES

X = (np.arange(4) + 1) / 5
FORMULAS = {
    "linear": X,
    "cosine": np.sin(np.pi * X / 2) ** 2,
    "1-sqrt": 1 - np.sqrt(1 - X),
    "exponential": 0.2 ** (1 - np.arange(4) / 4),
}


def test_every_shape_has_a_formula() -> None:
    assert set(FORMULAS) == set(SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_ramp_follows_its_formula_and_meets_the_peak(shape: str) -> None:
    lr_S: Any = lr_trace("constant", {"peak_lr": 3.0, "warmup": 0.4, "warmup_shape": shape}, 10)
    np.testing.assert_allclose(lr_S[:4], 3.0 * FORMULAS[shape], rtol=1e-14)
    np.testing.assert_array_equal(lr_S[4:], 3.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("warmup_steps", [1, 2, 999])
def test_a_ramp_rises_from_above_zero(shape: str, warmup_steps: int) -> None:
    lr_S = lr_trace("constant", {"peak_lr": 1.0, "warmup": warmup_steps / 1000, "warmup_shape": shape}, 1000)
    assert lr_S[0] > 0
    assert (np.diff(lr_S[: warmup_steps + 1]) > 0).all()
