"""The closed form of every factor and momentum as text. Each function has the name of what it writes.

They are those of sweeper/schedules/, where a formula is explained. tests/export compares them.
"""

# ruff: noqa: D103  # what a formula is, its factor says
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from sweeper.export.writer import Writer, half_cosine
from sweeper.schedules.families import FACTORS, MOMENTA
from sweeper.types import Factor

# --- factors that fall once ---------------------------------------------------------------------------


def constant(w: Writer) -> str:
    return "1.0"


def linear(w: Writer) -> str:
    return w.affine(f"1 - {w.progress()}")


def cosine(w: Writer) -> str:
    return w.affine(half_cosine(w.progress()))


def polynomial(w: Writer) -> str:
    return w.affine(f"(1 - {w.progress()}) ** {w.number('power')}")


def cosine_exponent(w: Writer) -> str:
    return w.affine(f"({half_cosine(w.progress())}) ** {w.number('exponent')}")


def cosine_power(w: Writer) -> str:
    c = w.line("c", half_cosine(w.progress()))
    if w.has("base", 1):
        return w.affine(c)
    base = w.number("base")
    return w.affine(f"expm1({c} * log({base})) / expm1(log({base}))")


def k_decay(w: Writer) -> str:
    bent = w.line("bent", f"({w.progress()}) ** {w.number('k')}")
    return w.affine(half_cosine(bent) if w.has("shape", "cosine") else f"(1 - {bent}) ** {w.number('power')}")


def rex(w: Writer) -> str:
    u = w.progress()
    return w.affine(f"(1 - {u}) / (1 - {w.number('d')} * {u})")


def tanh(w: Writer) -> str:
    u = w.progress()
    return w.affine(f"(1 - tanh({w.number('lower')} * (1 - {u}) + {w.number('upper')} * {u})) / 2")


def hyperbolic(w: Writer) -> str:
    u, f, upper = w.progress(), w.number("decay"), w.number("upper")
    h = w.line("h", f"sqrt((1 - {u}) / {upper} * (2 - (1 + {u}) / {upper}))")
    start = w.constant("H_0", f"math.sqrt(1 / {upper} * (2 - 1 / {upper}))")
    return f"1 + (1 - {f}) * ({h} - {start})"


def inverse_time(w: Writer) -> str:
    f = w.number("decay")
    return _above_floor(w, f"{f} / ({f} + (1 - {f}) * {w.progress()})")


def power(w: Writer) -> str:
    """Write (1 - u + u f^(-1/a))^-a without its powers that overflow."""
    u, f, a = w.progress(), w.number("decay"), w.number("exponent")
    root = w.constant("ROOT", f"{f} ** (1 / {a})")
    return f"where({u} > 0, {f} * ({u} + (1 - {u}) * {root}) ** -{a}, 1.0)"


def exponential(w: Writer) -> str:
    return _above_floor(w, f"{w.number('decay')} ** ({w.progress()})")


def step(w: Writer) -> str:
    return f"{w.number('decay')} ** floor({w.tau} / {w.updates('cycle', w.rest)})"


def multistep(w: Writer) -> str:
    milestones = w.constant("DROPS", f"sorted(_updates(point, {w.rest}) for point in {w.number('milestones')})")
    return f"{w.number('decay')} ** count({milestones}, {w.tau})"


def knots(w: Writer) -> str:
    logs = w.number("log_factors")
    if len(w.params["log_factors"]) == 1:  # type: ignore[arg-type]  # a list
        return f"exp(at({logs}, 0))"
    x = w.line("x", f"{w.progress()} * (len({logs}) - 1)")
    i = w.line("i", f"minimum(floor({x}), len({logs}) - 2)")
    return f"exp(at({logs}, {i}) + ({x} - {i}) * (at({logs}, {i} + 1) - at({logs}, {i})))"


def wsd(w: Writer) -> str:
    return w.affine(_cooldown(w))


def power_wsd(w: Writer) -> str:
    timescale = w.run_updates("timescale", w.rest)
    stable = w.line("stable", f"(1 + {w.tau} / {timescale}) ** -{w.number('exponent')}")
    f = w.number("decay")
    return f"{f} + (maximum({stable}, {f}) - {f}) * ({_cooldown(w)})"


def swa_tail(w: Writer) -> str:
    x = w.line("x", f"minimum({w.tau} / {w.run_updates('cooldown', w.rest)}, 1.0)")
    return w.affine(_left(w, x))


def _above_floor(w: Writer, value: str) -> str:
    return value if w.has("floor", 0) else f"maximum({value}, {w.number('floor')})"


def _cooldown(w: Writer) -> str:
    """Return the text of k(v), from 1 to 0 over the last updates."""
    last = w.last()
    length = w.run_updates("cooldown", last)
    v = w.line("v", f"maximum(({w.tau} - ({last} - {length})) / {length}, 0.0)")
    match w.params["cooldown_shape"]:
        case "cosine":
            return half_cosine(v)
        case "exponential":
            r = w.number("cooldown_ratio")
            return f"({r} ** {v} - {r}) / (1 - {r})"
        case "1-sqrt":
            return f"1 - sqrt({v})"
        case "power":
            return f"1 - {v} ** {w.number('cooldown_power')}"
    return f"1 - {v}"


def _left(w: Writer, x: str) -> str:
    """Return what is left of an annealing after a share x of it."""
    return half_cosine(x) if w.has("anneal", "cos") else f"1 - {x}"


# --- factors that rise again, or rise first -----------------------------------------------------------


def sgdr(w: Writer) -> str:
    index, x = _cycle(w)
    return _restart(w, index, half_cosine(x))


def sawtooth(w: Writer) -> str:
    index, x = _cycle(w)
    return _restart(w, index, f"1 - {x}")


def cycle_warmup_cosine(w: Writer) -> str:
    index, x = _cycle(w)
    if w.has("cycle_warmup", 0):
        return _restart(w, index, half_cosine(x))
    updates = f"maximum(floor({w.number('cycle_warmup')} * length + 0.5), 1.0)"
    rise = w.line("rise", f"minimum({updates}, length - 1) / length")
    down = half_cosine(f"({x} - {rise}) / (1 - {rise})")
    shape = w.line("shape", f"where({x} < {rise}, {x} / {rise}, {down})")
    return _restart(w, index, shape)


def clr(w: Writer) -> str:
    return w.affine(_triangle(w), "base_factor")


def cosine_waves(w: Writer) -> str:
    waves = f"1 / {w.number('cycle')}"
    count = w.constant("WAVES", waves if w.has("cycle_fit", "free") else f"math.floor({waves}) + 0.5")
    return w.affine(half_cosine(f"2 * {count} * {w.progress()}"), "end_factor")


def noam(w: Writer) -> str:
    n, peak = w.line("n", f"{w.tau} + 1"), w.updates("warmup", w.rest)
    return f"minimum({n} / {peak}, sqrt({peak} / {n}))"


def stlr(w: Writer) -> str:
    share = w.number("warmup")
    cut = w.constant("WARMUP_STEPS", f"min(_updates({share}, {w.rest}), max({w.rest} - 1, 1))")
    fall = w.constant("DECAY_STEPS", f"max({w.rest} - {cut}, 1)")
    return w.affine(f"where({w.tau} < {cut}, {w.tau} / {cut}, 1 - ({w.tau} - {cut}) / {fall})")


def range_test(w: Writer) -> str:
    return f"{w.number('start_factor')} ** (1 - {w.progress()})"


def onecycle(w: Writer) -> str:
    start = w.constant("START", f"1 / {w.number('div_factor')}")
    f = w.number("decay")
    return _anneal(w, [start, "1", start, f] if w.has("three_phase", True) else [start, "1", f])


def _cycle(w: Writer) -> tuple[str, str]:
    """Add the bounds of all cycles in updates, and where in them an update is. Returns index and progress."""
    cycle = w.number("cycle")
    if w.params.get("cycle_mult", 1) == 1:
        _equal_cycles(w, cycle)
    else:
        _growing_cycles(w, cycle, w.number("cycle_mult"))
    w.constant("BOUNDS", "[0, *(math.floor(bound + 0.5) for bound in itertools.accumulate(LENGTHS))]")
    index = w.line("cycle", f"count(BOUNDS, {w.tau}) - 1")
    w.line("start", f"at(BOUNDS, {index})")
    w.line("length", f"at(BOUNDS, {index} + 1) - start")
    return index, w.line("x", f"({w.tau} - start) / length")


def _equal_cycles(w: Writer, cycle: str) -> None:
    """Add the lengths of cycles that are fitted to the run, or that cover it."""
    if w.has("cycle_fit", "free"):
        first = w.updates("cycle", w.rest)
        w.constant("LENGTHS", f"[{first}] * ({w.rest} // {first} + 1)")
    else:
        w.constant("CYCLES", f"max(min(math.floor(1 / {cycle} + 0.5), {w.rest}), 1)")
        w.constant("LENGTHS", f"[{w.rest} / CYCLES] * CYCLES")


def _growing_cycles(w: Writer, cycle: str, m: str) -> None:
    """Add the lengths of cycles of which each is m times as long as the one before."""
    w.constant("GROWTH", f"math.log({m})")
    if w.has("cycle_fit", "free"):
        first = w.updates("cycle", w.rest)
        count = f"math.ceil(math.log1p(({m} - 1) * {w.rest} / {first}) / GROWTH) + 1"
    else:
        most = f"math.floor(math.log1p(({m} - 1) * {w.rest}) / GROWTH + 1e-9)"
        w.constant("CYCLES", f"max(min(math.floor(math.log1p(({m} - 1) / {cycle}) / GROWTH + 0.5), {most}), 1)")
        first = f"{w.rest} / sum([{m} ** i for i in range(CYCLES)])"
        count = "CYCLES"
    w.constant("LENGTHS", f"[{first} * {m} ** i for i in range({count})]")


def _restart(w: Writer, index: str, shape: str) -> str:
    """Return the text of cycles whose peaks fall by a factor."""
    if w.has("decay", 1):
        return w.affine(shape, "end_factor")
    peak = f"{w.number('decay')} ** {index}"
    if w.has("end_factor", 0):
        return f"{peak} * ({shape})"
    f = w.number("end_factor")
    return f"{f} + ({peak} - {f}) * ({shape})"


def _triangle(w: Writer) -> str:
    """Add a triangle in each cycle, lower from cycle to cycle. Returns its text."""
    index, x = _cycle(w)
    up = w.number("up_share")
    height = w.line("height", f"where({x} <= {up}, {x} / {up}, (1 - {x}) / (1 - {up}))")
    if w.has("decay", 1):
        return height
    worn = index if w.has("scale_mode", "cycle") else f"({w.tau} / {w.rest})"
    return f"{height} * {w.number('decay')} ** {worn}"


def _anneal(w: Writer, values: list[str]) -> str:
    """Add the phases of 1cycle. Returns the text of its value between these values."""
    late = 1 if w.has("end", "closed") else 0
    last = w.constant("LAST", f"{w.rest} - {late}" if late else w.rest)
    peak = w.constant("PEAK", f"min(max({w.number('warmup')} * {w.rest} - {late}, 0), {last})")
    points = ["0", peak, last]
    if len(values) == 4:
        points.insert(2, w.constant("BACK", f"min(2 * {peak}, {last})"))
    phases = []
    for i, (before, after) in enumerate(pairwise(values)):
        length, since = f"{points[i + 1]} - {points[i]}", f"({w.tau} - {points[i]})"
        if i == 0:
            length, since = peak, w.tau
        w.constant(f"LENGTH_{i}", f"{length} or 1")  # of an empty phase, which has no update, any number will do
        x = w.line(f"x_{i}", f"{since} / LENGTH_{i}")
        phases.append(w.line(f"phase_{i}", f"{after} + ({before} - {after}) * ({_left(w, x)})"))
    last_ones = phases[1] if len(phases) == 2 else f"where({w.tau} <= BACK, {phases[1]}, {phases[2]})"
    return f"where({w.tau} < {peak}, {phases[0]}, {last_ones})"


# --- momentum -----------------------------------------------------------------------------------------


def momentum_clr(w: Writer) -> str:
    low, high = w.number("base_momentum"), w.number("max_momentum")
    return f"{high} - ({high} - {low}) * ({_triangle(w)})"


def momentum_onecycle(w: Writer) -> str:
    low, high = w.number("base_momentum"), w.number("max_momentum")
    return _anneal(w, [high, low, high, high] if w.has("three_phase", True) else [high, low, high])


Formula = Callable[[Writer], str]
OF_FACTOR: dict[Factor, Formula] = {factor: globals()[name] for name, factor in FACTORS.items()}
OF_MOMENTUM: dict[Factor, Formula] = {factor: globals()[f"momentum_{name}"] for name, factor in MOMENTA.items()}
