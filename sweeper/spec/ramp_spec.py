"""The options of an LR range test, and the configuration that its ramps train with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper.schedules.numbers import Bounds
from sweeper.spec.composing import Composed
from sweeper.spec.keys import POSITIVE, Kind, Number, Whole
from sweeper.types import InputError

LOWEST, HIGHEST = 1e-4, 1e5  # of a ramp's LRs, relative to the optimizer's default LR
DEFAULT_LR = 1e-3  # of an optimizer whose file names none: that of most classes in torch
SEEDS, UPDATES = 3, 100
REPORTS = 20  # of a ramp: at each it may be stopped
KINDS: Mapping[str, Kind] = {
    "seeds": Whole(Bounds(1, 1000), SEEDS),
    "updates": Whole(Bounds(REPORTS, 10**6), UPDATES),
    "low": Number(POSITIVE, "1e-7", or_null=True),
    "high": Number(POSITIVE, "10", or_null=True),
}


@dataclass(frozen=True)
class RampSpec:
    """An LR range test.

    Attributes:
        low: LR of the first update.
        high: LR of the last update.
        seeds: Ramps, side by side, each with its own weights and batches.
        updates: Of a ramp without warmup.
    """

    low: float
    high: float
    seeds: int = SEEDS
    updates: int = UPDATES

    @property
    def growth(self) -> float:
        """The factor from one update's LR to the next."""
        return float((self.high / self.low) ** (1 / (self.updates - 1)))


def parse_ramp(options: Mapping[str, object], composed: Composed, prefix: str = "") -> RampSpec:
    """Return the range test that is asked for.

    Args:
        options: `seeds`, `updates`, `low` and `high`; None for the default.
        composed: The configuration, for the optimizer's default LR.
        prefix: Of the options, as the user types them: "--".

    Raises:
        InputError: If an option cannot be used.
    """
    given: dict[str, Any] = {
        name: KINDS[name].parse(f"{prefix}{name}", value) for name, value in options.items() if value is not None
    }
    default_lr = composed.nodes["optimizer"].get("default_lr")
    scale = default_lr if isinstance(default_lr, int | float) and default_lr > 0 else DEFAULT_LR
    ramp = RampSpec(**{"low": LOWEST * scale, "high": HIGHEST * scale, **given})
    if not ramp.low < ramp.high:
        name, side, other = ("high", "above", "low") if "high" in given else ("low", "below", "high")
        remedy = f"Choose an LR {side} {getattr(ramp, other):g}"
        raise InputError(f"{prefix}{name}", given[name], "the LR of a ramp must grow", remedy)
    return ramp


def ramp_config(composed: Composed, ramp: RampSpec) -> Composed:
    """Return the configuration of a sweep whose only family is the ramp: same data, model, optimizer and batches."""
    nodes = composed.nodes
    of_ramps = {
        "optimizer": {**nodes["optimizer"], "peak_lr": ramp.high},
        "schedule": {"range_test": ramp_family(ramp.low, ramp.high)},
        "schedule_unit": "step",
        "train": {**nodes["train"], "steps": ramp.updates, "epochs": None, "norms": False},
        "search": {
            **nodes["search"],
            "reports": REPORTS,
            "start": {},
            "stop": None,
            "early_stopping": None,
            "allow_truncation": False,
        },
        "pruner": None,
        "tracking": {"_target_": None},
    }
    return replace(composed, nodes={**nodes, **of_ramps})


def ramp_family(low: float, high: float, *, warmup: float = 0.0) -> dict[str, Any]:
    """Return the node of the family range_test from one LR to another, both included.

    Args:
        low: LR of the first update.
        high: LR of the last update.
        warmup: Share of the updates whose LRs a linear warmup multiplies.
    """
    warmed = {"warmup": warmup, "warmup_join": "product"} if warmup else {}
    return {"factor": "range_test", "peak_lr": high, "start_factor": low / high, "end": "closed", **warmed}
