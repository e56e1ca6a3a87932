"""Numbers as users read them: three digits, percent, signs."""

import math

import pytest

from sweeper.text.numbers import gain_text, lr_text, param_text, share_text


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lr_text(0.03412), "0.0341"), (lr_text(3.2e-5), "3.2e-05"), (lr_text(1), "1"),
        (lr_text(None), "-"), (lr_text(math.nan), "-"),
        (share_text(0.05), "5%"), (share_text(0.125), "12.5%"), (share_text(0), "0%"),
        (gain_text(0.1203), "+0.1203"), (gain_text(-0.0016), "-0.0016"), (gain_text(0), "0.0000"),
        (gain_text(2e-6), "+2.0e-06"), (gain_text(None), "-"),
        (param_text("cycle", 0.5), "50%"), (param_text("gamma", 0.123456), "0.123"),
        (param_text("anneal", "cos"), "cos"), (param_text("x", True), "True"),
    ],
)  # fmt: skip
def test_formats(made, expected):
    assert made == expected
