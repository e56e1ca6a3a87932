"""The scheduler of a library that is a trial's schedule, up to rounding, at every update of the run.

docs/guide/schedules.md names the libraries' classes of each family. Which of them fit a trial depends on its values: a
ramp begins at LR/(W+1), which torch and transformers do not have. tests/export runs each against the closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.schedules.clock import last_update, whole_updates
from sweeper.schedules.families import FACTORS
from sweeper.schedules.lengths import fitted_length, wave_count
from sweeper.schedules.trace import complete
from sweeper.types import Family, Value

Arguments = Mapping[str, object]


@dataclass(frozen=True)
class Native:
    """A scheduler of a library.

    Attributes:
        path: Import path of its class or function.
        arguments: Its arguments by name, without the optimizer.
    """

    path: str
    arguments: Arguments

    def call(self, first: str = "") -> str:
        """Return the call as it is written, after a first argument."""
        given = [*([first] if first else []), *(f"{name}={value!r}" for name, value in self.arguments.items())]
        return f"{self.path}({', '.join(given)})"


class _Trial:
    """A trial as libraries count: in updates and LRs.

    Attributes:
        peak: Its peak LR.
        ramp: Updates of its ramp, W.
        rest: Updates after it, D.
        last: The update after the ramp at which the final value is reached: D, or D-1 if the end is closed.
    """

    def __init__(self, family: Family, params: Mapping[str, Value], steps: int) -> None:
        self.steps = steps
        self._params = complete(family, params)
        self.peak = self["peak_lr"]
        ramp = self["warmup"] if family.warmup == "prefix" else 0.0
        self.ramp = min(int(whole_updates(ramp, steps)), steps - 1)
        self.rest = steps - self.ramp
        self.last = int(last_update(self.rest, self.word("end") or "open"))  # type: ignore[arg-type]  # one of its words
        self.momentum = family.momentum is not None

    def __getitem__(self, name: str) -> float:
        return float(self._params[name])  # type: ignore[arg-type]  # a number

    def word(self, name: str) -> Any:
        return self._params.get(name)

    def updates(self, name: str) -> int:
        """Return a fraction of the updates after the ramp as updates."""
        return int(whole_updates(self[name], self.rest))

    def run_updates(self, name: str) -> int:
        """Return a fraction of the run as updates."""
        return min(int(whole_updates(self[name], self.steps)), self.rest)

    @property
    def low(self) -> float:
        """The final LR."""
        return self["decay"] * self.peak

    @property
    def milestones(self) -> list[int]:
        return sorted(int(whole_updates(point, self.rest)) for point in self.word("milestones"))

    @property
    def cycle(self) -> tuple[int, int] | None:
        """The first cycle in updates and the factor from cycle to cycle, if all cycles are whole numbers of updates."""
        m = self["cycle_mult"] if "cycle_mult" in self._params else 1.0
        length = (
            self.updates("cycle") if self.word("cycle_fit") == "free" else fitted_length(self.rest, self["cycle"], m)
        )
        return (int(length), int(m)) if float(length).is_integer() and m.is_integer() else None


def native(library: str, family: Family, params: Mapping[str, Value], steps: int, epoch: float | None) -> Native | None:
    """Return the library's own scheduler of a trial.

    Args:
        library: A key of `LIBRARIES`.
        family: The trial's family, with a closed form.
        params: The hyperparameters of its schedule.
        steps: Updates of the run.
        epoch: Updates of an epoch if each LR is held through one, else None.

    Returns:
        None if it has none.
    """
    name = next((name for name, factor in FACTORS.items() if factor is family.factor), None)
    if epoch is not None or name is None:
        return None
    trial = _Trial(family, params, steps)
    if trial.ramp and (trial.word("warmup_shape"), trial.word("warmup_join")) != ("linear", "prefix"):
        return None
    if trial.momentum and library != "torch":
        return None
    return LIBRARIES[library](name, trial)


# --- torch ------------------------------------------------------------------------------------------


def _torch(name: str, t: _Trial) -> Native | None:
    def native(scheduler: str, **arguments: object) -> Native:
        return Native(f"torch.optim.lr_scheduler.{scheduler}", arguments)

    if t.ramp:
        ramp = {"start_factor": 1 / (t.ramp + 1), "total_iters": t.ramp}
        return native("LinearLR", **ramp) if name == "constant" else None
    match name:
        case "constant":
            return native("ConstantLR", factor=1.0)
        case "linear":
            return native("LinearLR", start_factor=1.0, end_factor=t["decay"], total_iters=t.last)
        case "cosine":
            return native("CosineAnnealingLR", T_max=t.last, eta_min=t.low)
        case "polynomial" if t["decay"] == 0:
            return native("PolynomialLR", total_iters=t.last, power=t["power"])
        case "exponential" if t["floor"] == 0:
            return native("ExponentialLR", gamma=t["decay"] ** (1 / t.last))
        case "step":
            return native("StepLR", step_size=t.updates("cycle"), gamma=t["decay"])
        case "multistep":
            return native("MultiStepLR", milestones=t.milestones, gamma=t["decay"])
        case "sgdr" if t["decay"] == 1 and (cycle := t.cycle):
            low = t["end_factor"] * t.peak
            return native("CosineAnnealingWarmRestarts", T_0=cycle[0], T_mult=cycle[1], eta_min=low)
        case "clr" if cycle := t.cycle:
            return _torch_clr(t, cycle[0])
        case "onecycle" if t.word("end") == "closed" and t["warmup"] * t.steps > 1 and t["decay"] > 0:
            return _torch_onecycle(t)
        case "swa_tail":
            fall = {"anneal_epochs": t.run_updates("cooldown"), "anneal_strategy": t.word("anneal")}
            return Native("torch.optim.swa_utils.SWALR", {"swa_lr": t.low, **fall})
    return None


def _torch_clr(t: _Trial, length: int) -> Native | None:
    by_updates, decay = t.word("scale_mode") == "iterations", t["decay"]
    if not by_updates and decay not in (1, 0.5):
        return None
    mode = "triangular" if decay == 1 else "exp_range" if by_updates else "triangular2"
    low, up = t["base_factor"] * t.peak, t["up_share"] * length
    arguments: dict[str, object] = {"base_lr": low, "max_lr": t.peak, "step_size_up": up, "step_size_down": length - up}
    arguments |= {"mode": mode} | ({"gamma": decay ** (1 / t.rest)} if mode == "exp_range" else {})
    return Native("torch.optim.lr_scheduler.CyclicLR", {**arguments, **_torch_momentum(t)})


def _torch_onecycle(t: _Trial) -> Native:
    arguments = {
        "max_lr": t.peak,
        "total_steps": t.steps,
        "pct_start": t["warmup"],
        "anneal_strategy": t.word("anneal"),
        "div_factor": t["div_factor"],
        "final_div_factor": 1 / (t["decay"] * t["div_factor"]),
        "three_phase": t.word("three_phase"),
    }
    return Native("torch.optim.lr_scheduler.OneCycleLR", {**arguments, **_torch_momentum(t)})


def _torch_momentum(t: _Trial) -> Arguments:
    if not t.momentum:
        return {"cycle_momentum": False}
    return {name: t[name] for name in ("base_momentum", "max_momentum")}


# --- transformers -----------------------------------------------------------------------------------


def _transformers(name: str, t: _Trial) -> Native | None:
    """Return the arguments of `TrainingArguments`. Its ramps begin at an LR of 0, so there is none with a ramp."""

    def native(type: str, **options: object) -> Native:
        options_too = {"lr_scheduler_kwargs": options} if options else {}
        return Native("transformers.TrainingArguments", {"lr_scheduler_type": type, **options_too})

    if t.ramp or (t.word("end") == "closed" and name != "wsd"):
        return None
    match name:
        case "constant":
            return native("constant")
        case "linear":
            return native("linear") if t["decay"] == 0 else _transformers_polynomial(native, t.low, 1.0, t)
        case "polynomial":
            return _transformers_polynomial(native, t.low, t["power"], t)
        case "cosine":
            return native("cosine") if t["decay"] == 0 else native("cosine_with_min_lr", min_lr_rate=t["decay"])
        case "cosine_waves" if t["end_factor"] == 0:
            return native("cosine", num_cycles=float(wave_count(t["cycle"], t.word("cycle_fit"))))
        case "sgdr" if t["decay"] == 1 and t["end_factor"] == 0 and (cycle := t.cycle) and cycle[1] == 1:
            return native("cosine_with_restarts", num_cycles=t.rest // cycle[0]) if t.rest % cycle[0] == 0 else None
        case "power" if t["exponent"] == 0.5 and t["decay"] < 1:
            return native("inverse_sqrt", timescale=t.rest / (t["decay"] ** -2 - 1))
        case "wsd" if t.word("cooldown_shape") in ("linear", "cosine", "1-sqrt"):
            cooldown = min(t.run_updates("cooldown"), t.last)
            lengths = {"num_stable_steps": t.last - cooldown, "num_decay_steps": cooldown}
            shape = {"decay_type": t.word("cooldown_shape"), "min_lr_ratio": t["decay"]}
            return native("warmup_stable_decay", **lengths, **shape)
    return None


def _transformers_polynomial(native: Callable[..., Native], low: float, power: float, t: _Trial) -> Native | None:
    return native("polynomial", lr_end=low, power=power) if low < t.peak else None


# --- timm -------------------------------------------------------------------------------------------


def _timm(name: str, t: _Trial) -> Native | None:
    """Return a scheduler whose ramp is ours."""
    ramp = {"warmup_t": t.ramp, "warmup_lr_init": t.peak / (t.ramp + 1)} if t.ramp else {}
    prefix = {"warmup_prefix": True} if t.ramp else {}

    def native(scheduler: str, **arguments: object) -> Native:
        has_prefix = scheduler != "WSDLRScheduler"
        given = {**arguments, **ramp, **(prefix if has_prefix else {}), "t_in_epochs": False}
        return Native(f"timm.scheduler.{scheduler}", given)

    match name:
        case "linear":
            return native("PolyLRScheduler", t_initial=t.last, power=1.0, lr_min=t.low) if _is_open(t) else None
        case "polynomial" if _is_open(t):
            return native("PolyLRScheduler", t_initial=t.rest, power=t["power"], lr_min=t.low)
        case "cosine" if _is_open(t):
            return native("CosineLRScheduler", t_initial=t.rest, lr_min=t.low)
        case "k_decay" if _is_open(t):
            options = {"t_initial": t.rest, "lr_min": t.low, "k_decay": t["k"]}
            if t.word("shape") == "cosine":
                return native("CosineLRScheduler", **options)
            return native("PolyLRScheduler", **options, power=t["power"])
        case "tanh" if _is_open(t):
            return native("TanhLRScheduler", t_initial=t.rest, lb=t["lower"], ub=t["upper"], lr_min=t.low)
        case "step":
            return native("StepLRScheduler", decay_t=t.updates("cycle"), decay_rate=t["decay"])
        case "sgdr" | "sawtooth" if (cycle := t.cycle) and cycle[1] <= 2:  # of others its logarithm misses restarts
            options = {"t_initial": cycle[0], "cycle_mul": float(cycle[1]), "cycle_decay": t["decay"]}
            options |= {"cycle_limit": t.rest, "lr_min": t["end_factor"] * t.peak}
            if name == "sgdr":
                return native("CosineLRScheduler", **options)
            return native("PolyLRScheduler", **options, power=1.0)
        case "wsd" | "power_wsd" if _is_open(t):
            return native("WSDLRScheduler", **_timm_wsd(name, t))
    return None


def _timm_wsd(name: str, t: _Trial) -> Arguments:
    shape = str(t.word("cooldown_shape"))
    arguments: dict[str, object] = {"t_initial": t.rest, "decay_t": t.run_updates("cooldown"), "lr_min": t.low}
    arguments["decay_fn"] = shape.replace("exponential", "exp")
    if shape == "power":
        arguments["decay_power"] = t["cooldown_power"]
    if shape == "exponential":
        arguments["decay_ratio"] = t["cooldown_ratio"]
    if name == "power_wsd":
        timescale = t.run_updates("timescale")
        arguments |= {"stable_fn": "power", "stable_timescale": timescale, "stable_power": t["exponent"]}
    return arguments


def _is_open(t: _Trial) -> bool:
    return t.last == t.rest


# --- optax ------------------------------------------------------------------------------------------


def _optax(name: str, t: _Trial) -> Native | None:
    def native(schedule: str, **arguments: object) -> Native:
        return Native(f"optax.{schedule}", arguments)

    warm = {"init_value": t.peak / (t.ramp + 1), "peak_value": t.peak, "warmup_steps": t.ramp}
    match name:
        case "constant":
            return native("warmup_constant_schedule", **warm) if t.ramp else native("constant_schedule", value=t.peak)
        case "cosine" | "cosine_exponent":
            exponent = {"exponent": t["exponent"]} if name == "cosine_exponent" else {}
            if t.ramp:
                end = {"decay_steps": t.ramp + t.last, "end_value": t.low}
                return native("warmup_cosine_decay_schedule", **warm, **end, **exponent)
            fall = {"decay_steps": t.last, "alpha": t["decay"]}
            return native("cosine_decay_schedule", init_value=t.peak, **fall, **exponent)
        case "exponential":
            fall = {"transition_steps": t.last, "decay_rate": t["decay"]}
            floor = {"end_value": t["floor"] * t.peak} if t["floor"] else {}
            if t.ramp:
                return native("warmup_exponential_decay_schedule", **warm, **fall, **floor)
            return native("exponential_decay", init_value=t.peak, **fall, **floor)
        case "step":
            fall = {"transition_steps": t.updates("cycle"), "decay_rate": t["decay"], "staircase": True}
            if t.ramp:
                return native("warmup_exponential_decay_schedule", **warm, **fall)
            return native("exponential_decay", init_value=t.peak, **fall)
    if t.ramp:
        return None
    match name:
        case "linear":
            return native("linear_schedule", init_value=t.peak, end_value=t.low, transition_steps=t.last)
        case "polynomial":
            end = {"end_value": t.low, "power": t["power"], "transition_steps": t.last}
            return native("polynomial_schedule", init_value=t.peak, **end)
        case "multistep":
            drops = {at: t["decay"] ** t.milestones.count(at) for at in t.milestones}
            return native("piecewise_constant_schedule", init_value=t.peak, boundaries_and_scales=drops)
    return None


# --- Keras ------------------------------------------------------------------------------------------


def _keras(name: str, t: _Trial) -> Native | None:
    def native(schedule: str, **arguments: object) -> Native:
        return Native(f"keras.optimizers.schedules.{schedule}", arguments)

    if name == "cosine":
        ramp = {"warmup_target": t.peak, "warmup_steps": t.ramp} if t.ramp else {}
        first = {"initial_learning_rate": t.peak / (t.ramp + 1), "decay_steps": t.last, "alpha": t["decay"]}
        return native("CosineDecay", **first, **ramp)
    if t.ramp:
        return None
    first = {"initial_learning_rate": t.peak}
    match name:
        case "linear" | "polynomial":
            power = 1.0 if name == "linear" else t["power"]
            end = {"decay_steps": t.last, "end_learning_rate": t.low, "power": power}
            return native("PolynomialDecay", **first, **end)
        case "exponential" if t["floor"] == 0:
            return native("ExponentialDecay", **first, decay_steps=t.last, decay_rate=t["decay"])
        case "inverse_time" if t["floor"] == 0:
            return native("InverseTimeDecay", **first, decay_steps=t.last, decay_rate=1 / t["decay"] - 1)
        case "step":
            fall = {"decay_steps": t.updates("cycle"), "decay_rate": t["decay"], "staircase": True}
            return native("ExponentialDecay", **first, **fall)
        case "multistep":
            values = [t.peak * t["decay"] ** drops for drops in range(len(t.milestones) + 1)]
            return native("PiecewiseConstantDecay", boundaries=[at - 1 for at in t.milestones], values=values)
    return None


LIBRARIES: Mapping[str, Callable[[str, _Trial], Native | None]] = {
    "torch": _torch,
    "transformers": _transformers,
    "timm": _timm,
    "optax": _optax,
    "keras": _keras,
}
