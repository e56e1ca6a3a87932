"""Numbers of a configuration and of a result, as tables and pictures write them."""

from __future__ import annotations

import math

from sweeper.text.columns import clean
from sweeper.types import Value


def lr_text(lr: float | None) -> str:
    """A learning rate in 3 significant digits: 0.0341, 3.2e-05."""
    return "-" if lr is None or not math.isfinite(lr) else f"{lr:.3g}"


def share_text(share: float | None) -> str:
    """A fraction in percent: 5%, 12.5%, 0%."""
    return "-" if share is None or not math.isfinite(share) else f"{100 * share:.3g}%"


def param_text(name: str, value: Value) -> str:
    """A number of a configuration as the tables show it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return share_text(value) if name in ("warmup", "cycle") else lr_text(value)
    return clean(str(value))


def gain_text(gain: float | None) -> str:
    """A difference of two losses or scores, with its sign."""
    if gain is None or not math.isfinite(gain):
        return "-"
    if gain == 0:
        return "0.0000"
    return f"{gain:+.4f}" if abs(gain) >= 5e-5 else f"{gain:+.1e}"
