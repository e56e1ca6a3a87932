"""The LR range test, also called LR finder: what the losses of its ramps say about the LR.

While the LR grows from far too small to far too large, the loss first stays, then falls, then explodes. Where it falls
and where it explodes is seen after some dozens of updates.

Source:
    L. N. Smith, Cyclical learning rates for training neural networks, arXiv 1506.01186, section 3.3 (the test);
    fastai, `callback/schedule.py` (exponential ramp, end of a ramp that diverged, suggestions) and `learner.py`
    (smoothing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from sweeper.types import Floats

if TYPE_CHECKING:
    import pandas as pd

STEEPEST, MINIMUM, VALLEY, DIVERGENCE = "steepest", "minimum / 10", "valley", "divergence"
SUGGESTIONS = (STEEPEST, MINIMUM, VALLEY)
AVERAGED = 10**0.5  # the ratio of the LRs that a smoothed loss averages over, about
EXPLODED = 4.0  # times the lowest loss, beyond which a ramp is stopped: fastai's
CLEAR, ROUNDING = 5.0, 1e-6  # a clear difference: so many standard deviations of the noise, and this share of the loss
BELOW, ABOVE = 5.0, 3.0  # the interval: the smallest suggestion divided by, the LR of the lowest loss times this
UNKNOWN = 1e3  # the same without a clear fall: the divergence point divided by this


class Point(TypedDict):
    """What a range test says, with the smallest and largest LR that single seeds say. None: nothing.

    Attributes:
        warmup: "off" or "on".
        point: A suggestion, or the divergence point.
        lr: Of the median over the seeds.
        lowest: Over the seeds.
        highest: Over the seeds.
    """

    warmup: str
    point: str
    lr: float | None
    lowest: float | None
    highest: float | None


class Ramp(NamedTuple):
    """One training of a range test.

    Attributes:
        seed: Of weights and batches.
        warmup: Updates of the linear warmup at its beginning; 0 without one.
        lr_S: LR of each planned update.
        loss_S: Training loss of each update; there are fewer if it diverged.
    """

    seed: int
    warmup: int
    lr_S: Floats
    loss_S: Floats


class Curve(NamedTuple):
    """A smoothed loss.

    Attributes:
        lr_S: LR of each update.
        loss_S: The loss.
        untrained: The loss of the untrained model.
        noise: Standard deviation of the loss that is due to the draw of batches.
    """

    lr_S: Floats
    loss_S: Floats
    untrained: float
    noise: float = 0.0

    @property
    def lowest(self) -> int:
        """The update of the lowest loss, counted from 0."""
        return int(self.loss_S.argmin())

    @property
    def clear(self) -> float:
        """The smallest difference of losses that is not due to noise or rounding."""
        return max(CLEAR * self.noise, ROUNDING * abs(self.untrained))

    @property
    def falls(self) -> bool:
        """Whether the lowest loss is clearly below that of the untrained model."""
        return self.untrained - float(self.loss_S[self.lowest]) > self.clear

    @property
    def explodes(self) -> bool:
        """Whether the last loss is clearly above that of the untrained model, and EXPLODED times the lowest one."""
        return not self.loss_S[-1] <= max(self.untrained + self.clear, EXPLODED * float(self.loss_S[self.lowest]))


# --- curves -----------------------------------------------------------------------------------------


def smooth(loss_S: Floats, window: float) -> Floats:
    """Return the exponential moving average of a loss, corrected for its beginning.

    After t updates it is sum_i b^(t-i) (1 - b) loss_i / (1 - b^t), where b = 1 - 1 / window. NaN counts as infinite.

    Source: fastai `AvgSmoothLoss`, with b = 0.98; the correction is that of Adam, arXiv 1412.6980, section 3.
    """
    from scipy.signal import lfilter

    beta = 1.0 - 1.0 / max(window, 1.0)
    average_S = lfilter([1.0 - beta], [1.0, -beta], np.where(np.isnan(loss_S), np.inf, loss_S))
    smooth_S: Floats = average_S / (1.0 - beta ** np.arange(1, len(loss_S) + 1))
    return np.where(np.isnan(smooth_S), np.inf, smooth_S)


def curve_of(ramp: Ramp) -> Curve:
    """Return the smoothed losses of one ramp."""
    window = math.log(AVERAGED) / math.log(ramp.lr_S[-1] / ramp.lr_S[-2])
    untrained = float(ramp.loss_S[: max(1, round(window))].mean())
    smooth_S = smooth(ramp.loss_S, window)
    noise = _noise(ramp.loss_S) / math.sqrt(max(2 * window - 1, 1))  # an average has less than single losses
    return Curve(ramp.lr_S[: len(ramp.loss_S)], smooth_S, untrained, noise)


def _noise(loss_S: Floats) -> float:
    """Return the standard deviation of losses around their trend, from the median difference of neighbors."""
    difference_S = np.abs(np.diff(loss_S[np.isfinite(loss_S)]))
    return 1.4826 * float(np.median(difference_S)) / math.sqrt(2) if len(difference_S) else 0.0


def median_curve(ramps: Sequence[Ramp]) -> Curve:
    """Return the median over ramps with the same LRs. One that has ended counts as infinite from there on."""
    curves = [curve_of(ramp) for ramp in ramps]
    loss_LS = np.full((len(curves), max(len(curve.loss_S) for curve in curves)), np.inf)
    for row_S, curve in zip(loss_LS, curves, strict=True):
        row_S[: len(curve.loss_S)] = curve.loss_S
    untrained = median(curve.untrained for curve in curves)
    noise = median(curve.noise for curve in curves)
    return Curve(ramps[0].lr_S[: loss_LS.shape[1]], np.median(loss_LS, axis=0), untrained, noise)


def has_diverged(ramp: Ramp) -> bool:
    """Return whether the loss has exploded."""
    return curve_of(ramp).explodes


# --- points of a curve ------------------------------------------------------------------------------


def divergence(curve: Curve) -> float | None:
    """Return the LR from which on the loss stays clearly above that of the untrained model; None if it ends below."""
    below_S = np.flatnonzero(curve.loss_S <= curve.untrained + curve.clear)
    first = 0 if not len(below_S) else int(below_S[-1]) + 1
    return None if first == len(curve.loss_S) else float(curve.lr_S[first])


def suggestions(curve: Curve) -> dict[str, float]:
    """Return the suggested LRs by name; {} if the loss never falls.

    They are read from the descent: without the first tenth, as in fastai, and nothing behind the lowest loss.
    """
    first = min(len(curve.loss_S) // 10, curve.lowest)
    lr_S, loss_S = curve.lr_S[first : curve.lowest + 1], curve.loss_S[first : curve.lowest + 1]
    if len(lr_S) < 2 or not curve.falls:
        return {}
    return {STEEPEST: steepest(lr_S, loss_S), MINIMUM: float(lr_S[-1]) / 10, VALLEY: valley(lr_S, loss_S)}


def steepest(lr_S: Floats, loss_S: Floats) -> float:
    """Return the LR at which the loss falls fastest along log(LR). Source: fastai `steep`."""
    return float(lr_S[np.argmin(np.diff(loss_S) / np.diff(np.log(lr_S)))])


def valley(lr_S: Floats, loss_S: Floats) -> float:
    """Return the LR in the middle of the longest valley: the longest row of ever lower losses, others in between.

    The middle is half of a third behind the first third. Source: fastai `valley`.
    """
    length_S = np.ones(len(loss_S), dtype=np.int64)
    for i in range(1, len(loss_S)):
        length_S[i] = 1 + length_S[:i][loss_S[:i] > loss_S[i]].max(initial=0)
    end = int(length_S.argmax())
    start = max(0, end - int(length_S[end]))
    third = (end - start) / 3
    return float(lr_S[start + int(third) + int(third / 2)])


# --- the whole test ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What ramps with the same LRs say.

    Attributes:
        curve: The median over seeds.
        of_seeds: The curve of each seed.
    """

    curve: Curve
    of_seeds: tuple[Curve, ...]

    @classmethod
    def of(cls, ramps: Sequence[Ramp]) -> Reading:
        """Return the reading of some ramps, at least one."""
        return cls(median_curve(ramps), tuple(map(curve_of, ramps)))

    @property
    def typical(self) -> float | None:
        """The middle one of the suggestions."""
        found = suggestions(self.curve)
        return median(found.values()) if found else None

    def points(self, warmup: str) -> Iterator[Point]:
        """Yield the suggestions and the divergence point."""
        middle, *of_seeds = (_points(curve) for curve in (self.curve, *self.of_seeds))
        for name, lr in middle.items():
            known = [found for points in of_seeds if (found := points[name]) is not None]
            yield Point(
                warmup=warmup, point=name, lr=lr, lowest=min(known, default=None), highest=max(known, default=None)
            )


def _points(curve: Curve) -> dict[str, float | None]:
    return {**dict.fromkeys(SUGGESTIONS), **suggestions(curve), DIVERGENCE: divergence(curve)}


@dataclass(frozen=True)
class RangeTest:
    """An LR range test.

    Attributes:
        label: "<data>-<model>-<optimizer>".
        ramps: The trainings: of each seed one without warmup, and if the loss fell one with it.
    """

    label: str
    ramps: tuple[Ramp, ...]

    @cached_property
    def readings(self) -> Mapping[str, Reading]:
        """What the ramps say, with warmup "off" and "on"."""
        groups = {"off": [one for one in self.ramps if not one.warmup], "on": [one for one in self.ramps if one.warmup]}
        return {warmup: Reading.of(ramps) for warmup, ramps in groups.items() if ramps}

    @property
    def seeds(self) -> int:
        """Seeds of each ramp."""
        return len({ramp.seed for ramp in self.ramps})

    @property
    def updates(self) -> int:
        """Updates of all ramps together."""
        return sum(len(ramp.loss_S) for ramp in self.ramps)

    @property
    def points(self) -> list[Point]:
        """The suggestions and divergence points, without and with warmup."""
        return [point for warmup, reading in self.readings.items() for point in reading.points(warmup)]

    @property
    def table(self) -> pd.DataFrame:
        """The points as a table: warmup, point, lr (of the median over seeds), lowest and highest of single seeds."""
        import pandas as pd

        numbers = dict.fromkeys(["lr", "lowest", "highest"], "float64")
        return pd.DataFrame(self.points, columns=list(Point.__annotations__)).astype(numbers)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The peak LRs to search; None if the loss neither fell clearly nor diverged.

        It begins at the smallest suggestion / BELOW, because a sweep trains longer than a ramp. It ends at the LR of
        the lowest loss x ABOVE, but not beyond the divergence point. Both are of the ramps, without or with warmup,
        that say the most extreme, rounded outwards to two digits. If no loss falls clearly, it is what lies below the
        largest divergence point, down to that / UNKNOWN.
        """
        curves = [one.curve for one in self.readings.values()]
        falling = [curve for curve in curves if suggestions(curve)]
        diverged = [lr for curve in curves if curve.explodes and (lr := divergence(curve)) is not None]
        if falling:
            lowest = min(lr for curve in falling for lr in suggestions(curve).values()) / BELOW
            highest = max(map(_highest, falling))
        elif diverged:
            lowest, highest = max(diverged) / UNKNOWN, max(diverged)
        else:
            return None
        return _rounded(lowest, math.floor), _rounded(highest, math.ceil)


def _highest(curve: Curve) -> float:
    return min(ABOVE * float(curve.lr_S[curve.lowest]), divergence(curve) or math.inf)


def _rounded(number: float, to_whole: Callable[[float], int]) -> float:
    """Return a positive number with two significant digits."""
    digits = 1 - math.floor(math.log10(number))
    return float(f"{to_whole(round(number * 10.0**digits, 6))}e{-digits}")
