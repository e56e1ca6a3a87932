"""Hyperparameters and results as text, for tables and figures."""

from __future__ import annotations

import math

from sweeper.text.columns import clean
from sweeper.types import Value


def lr_text(lr: float | None) -> str:
    """Format a learning rate with 3 significant digits: 0.0341, 3.2e-05; "-" for none."""
    return "-" if lr is None or not math.isfinite(lr) else f"{lr:.3g}"


def share_text(share: float | None) -> str:
    """Format a fraction in percent: 5%, 12.5%, 0%; "-" for none."""
    return "-" if share is None or not math.isfinite(share) else f"{100 * share:.3g}%"


def param_text(name: str, value: Value) -> str:
    """Format the value of a hyperparameter: warmup and cycle in percent, other numbers with 3 significant digits."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return share_text(value) if name in ("warmup", "cycle") else lr_text(value)
    return clean(str(value))


def gain_text(gain: float | None) -> str:
    """Format a difference of two losses or scores with its sign; "-" for none."""
    if gain is None or not math.isfinite(gain):
        return "-"
    if gain == 0:
        return "0.0000"
    return f"{gain:+.4f}" if abs(gain) >= 5e-5 else f"{gain:+.1e}"
