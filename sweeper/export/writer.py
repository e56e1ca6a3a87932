"""What a closed form is written with: constants, lines of a function, and the clock of a factor, all as text.

The text is Python with the functions of NumPy's names (`cos`, `where`, `minimum`, ...) and two of ours, `count(E, x)`,
the number of E's increasing elements that are at most x, and `at(E, i)`, element i. `dialects` translates them.
Constants at the top of the file are plain Python: a user who changes STEPS gets the schedule for that horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from sweeper.schedules.clock import EPOCH_DENOMINATOR
from sweeper.types import Value

UPDATES = '''\
def _updates(fraction, of):
    """Return a fraction of a number of updates, rounded, at least one; 0 of nothing."""
    return max(1, math.floor(fraction * of + 0.5)) if fraction > 0 else 0'''


@dataclass
class Writer:
    """A trial's closed form while it is written.

    Attributes:
        params: All hyperparameters of the trial.
        step: Name of what the schedule counts: "step", or "epoch" if each LR is held through an epoch.
        steps: Name of their number in the run.
        tau: What a factor counts: those since the ramp.
        rest: The number of those after the ramp.
        constants: Text of each constant by its name, in order.
        lines: Names and texts of the function's variables, in order.
    """

    params: Mapping[str, Value]
    step: str = "step"
    steps: str = "STEPS"
    tau: str = "step"
    rest: str = "STEPS"
    constants: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)

    def has(self, name: str, value: Value) -> bool:
        """Return whether a hyperparameter has this value."""
        return self.params[name] == value

    def number(self, name: str) -> str:
        """Return the constant that holds a hyperparameter."""
        value = self.params[name]
        text = repr([*map(float, value)] if isinstance(value, tuple) else float(value))  # type: ignore[arg-type]  # checked
        return self.constant(name.upper(), text)

    def constant(self, name: str, text: str) -> str:
        """Add a constant. Returns its name."""
        self.constants[name] = text
        return name

    def line(self, name: str, text: str) -> str:
        """Add a variable. Returns its name."""
        self.lines[name] = text
        return name

    def updates(self, name: str, of: str) -> str:
        """Add the constant that holds a fraction as a number of updates: WARMUP_STEPS of `warmup`. Returns its name."""
        return self.constant(f"{name.upper()}_STEPS", f"_updates({self.number(name)}, {of})")

    def run_updates(self, name: str, at_most: str) -> str:
        """Add the constant of a fraction of the whole run, with that many updates at most. Returns its name."""
        text = f"min(_updates({self.number(name)}, {self.steps}), {at_most})"
        return self.constant(f"{name.upper()}_STEPS", text)

    def last(self) -> str:
        """Return the update at which the final value is reached: one after the run, or its last."""
        if self.params.get("end", "open") == "open":
            return self.rest
        return self.constant("LAST", f"max({self.rest} - 1, 1)")

    def progress(self) -> str:
        """Add u, from 0 to 1 after the ramp. Returns its name."""
        return self.line("u", f"{self.tau} / {self.last()}")

    def affine(self, shape: str, floor: str = "decay") -> str:
        """Return a shape from 1 to 0 as one from 1 to the final value."""
        if self.has(floor, 0):
            return shape
        f = self.number(floor)
        return f"{f} + (1 - {f}) * ({shape})"


def hold_epochs(w: Writer, epoch: float | None) -> None:
    """Let the schedule count epochs instead of updates, if it does.

    The place in an epoch is a whole number of parts of an update, since a batch may span two epochs.
    """
    if epoch is None:
        return
    length = Fraction(epoch).limit_denominator(EPOCH_DENOMINATOR)
    w.step, w.steps = "epoch", "EPOCHS"
    if length.denominator == 1:
        w.constant("UPDATES_OF_EPOCH", str(length.numerator))
        w.constant("EPOCHS", "(STEPS - 1) // UPDATES_OF_EPOCH + 1")
        w.line("epoch", "floor(step / UPDATES_OF_EPOCH)")
    else:
        n, m = length.numerator, length.denominator  # n updates are m epochs
        w.constant("EPOCHS", f"(STEPS - 1) * {m} // {n} + 1")
        w.line("whole", f"floor(step / {n})")
        w.line("epoch", f"{m} * whole + floor({m} * (step - {n} * whole) / {n})")
    w.tau, w.rest = w.step, w.steps


def half_cosine(x: str) -> str:
    """Return (1 + cos(pi x)) / 2, from 1 at x = 0 to 0 at x = 1."""
    return f"(1 + cos(pi * ({x}))) / 2"


RAMPS = {
    "linear": "{x}",
    "cosine": "1 - " + half_cosine("{x}"),
    "1-sqrt": "1 - sqrt(maximum(1 - {x}, 0.0))",
    "exponential": "(1 / ({w} + 1)) ** (1 - {t} / {w})",
}


def begin_ramp(w: Writer) -> str | None:
    """Add a ramp's length, and what a factor counts after it.

    Returns:
        The ramp's text; None if there is none.
    """
    if not w.params.get("warmup_shape") or w.has("warmup", 0):
        return None
    fraction = w.number("warmup")
    length = w.constant("WARMUP_STEPS", f"min(_updates({fraction}, {w.steps}), {w.steps} - 1)")
    x = f"(({w.step} + 1) / ({length} + 1))"
    ramp = RAMPS[str(w.params["warmup_shape"])].format(x=x, t=w.step, w=length)
    if w.has("warmup_join", "prefix"):
        w.rest = w.constant("DECAY_STEPS", f"{w.steps} - {length}")
        w.tau = w.line("tau", f"maximum({w.step} - {length}, 0.0)")
    return ramp


def end_ramp(w: Writer, ramp: str | None, value: str) -> str:
    """Return the values of factor and ramp together."""
    if ramp is None:
        return value
    g = value if value == "1.0" else w.line("g", value)
    under = f"({ramp}) * {g}" if w.has("warmup_join", "product") else ramp
    return f"where({w.step} < WARMUP_STEPS, {under}, {g})"
