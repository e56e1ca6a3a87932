"""Elementwise optimizers on stacked rows: one update of many lanes, each with numbers of its own.

A lane's weights are one row of [L, P]; so is everything that its optimizer keeps. All scalars of an update (LR, bias
corrections, 1 - LR * weight decay, the first update's missing dampening, ...) are computed on the host in float64,
for a block of updates at once; the device only multiplies by them. That is what makes a row equal to torch.optim.

No operation of an update mixes rows, and none that a compiler may contract is applied across a row's end, so a
row is bitwise independent of its slot and its neighbours, whatever these hold (NaN, Inf).

What is static, that is one program for all lanes of a stack: which terms there are at all (momentum, Nesterov,
weight decay, amsgrad, ...). Every number may differ from lane to lane.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from sweeper.training.optimizers.optim import all_options
from sweeper.training.optimizers.spec import OptimizerSpec, Options, number_of
from sweeper.types import Floats, Value

# What a rule computes its scalars from: the options of one lane, or segments.LaneOptions.
RuleOptions = TypeVar("RuleOptions")


class Rule(NamedTuple, Generic[RuleOptions]):
    """One elementwise optimizer: what it keeps for each number, its scalars, its update.

    states: what is kept, by torch.optim's names ("momentum_buffer", "exp_avg", ...), each [L, P].
    initial_values(options) -> the value each state starts at, from the options of one lane (`all_options`).
    coefficients(options, lr_S, momentum_S | None, first, earlier_S=None) -> float64 [S, C]: the scalars of updates
    first .. first + S - 1 of one lane. lr_S, momentum_S: of those updates. earlier_S: the momentum of updates
    0 .. first - 1, needed by NAdam alone, whose product runs over them (ValueError without it).
    update(weight_LP, gradient_LP, states, coefficients): in place on weights and states; each of the C coefficients
    is a tensor [L, 1] of the weights' type and device. Overwrites the gradient. Call it under torch.no_grad.
    """

    states: tuple[str, ...]
    initial_values: Callable[[RuleOptions], tuple[float, ...]]
    coefficients: Callable[..., Floats]
    update: Callable[[Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]], None]


class Static(NamedTuple):
    """What lanes of one stack must share: the optimizer's kind and the terms of its update, in order of the fields.

    decay: weight decay is "none", "coupled" (added to the gradient) or "decoupled" (shrinks the weights).
    variant: of the kind: "nesterov" or "dampened" (SGD), "amsgrad" (Adam), "centered" (RMSprop), or "".
    """

    kind: str
    decay: str = "none"
    momentum: bool = False
    variant: str = ""


def rule_of(
    spec: OptimizerSpec, hparams: Mapping[str, Value] | None = None, momentum_S: Floats | None = None
) -> Rule[Options] | None:
    """Return the rule of a trial; None if it cannot be stacked (`stacking_obstacle` says why).

    The same object for all trials of equal `static_options`.
    """
    if stacking_obstacle(spec, hparams, momentum_S) is not None:
        return None
    return rule_with(static_options(spec, hparams, momentum_S))


def static_options(
    spec: OptimizerSpec,
    hparams: Mapping[str, Value] | None = None,
    momentum_S: Floats | None = None,
    *,
    has_decay: bool | None = None,
) -> Static:
    """What changes the program. A weight decay that the trial sets is a term of it even at 0, momentum is not.

    has_decay: whether there is a weight decay, where the options do not say it.
    """
    kind = KINDS[_name(spec)]
    options = all_options(spec, hparams or {})
    on = bool(options.get("weight_decay")) or "optimizer.weight_decay" in (hparams or {})
    decays = on if has_decay is None else has_decay
    decay = "none" if not decays else "decoupled" if _is_decoupled(kind, _name(spec), options) else "coupled"
    momentum = bool(options.get("momentum")) if momentum_S is None else bool(np.any(momentum_S))
    return Static(kind, decay, kind in ("SGD", "RMSprop") and momentum, _variant(kind, options, momentum))


def stacking_obstacle(
    spec: OptimizerSpec, hparams: Mapping[str, Value] | None = None, momentum_S: Floats | None = None
) -> str | None:
    """Why such a trial cannot be stacked, in one sentence; None where it can."""
    name, target = _name(spec), spec.target
    if name not in KINDS:
        known = ", ".join(sorted(set(KINDS.values())))
        return f"{target} has no rule for stacked rows; there is one for {known}."
    kind, options = KINDS[name], all_options(spec, hparams or {})
    for option, value in options.items():
        if option not in VARYING[kind] and option not in PROGRAM_TERMS[kind] and not _is_idle(option, value):
            return f"optimizer.{option}={value} changes the update in a way that stacked rows do not follow."
    if kind in ("SGD", "RMSprop") and momentum_S is not None and np.any(momentum_S) and not np.all(momentum_S):
        return "The schedule's momentum is 0 in some updates, in which torch leaves the momentum buffer alone."
    return None


# --- which optimizers, and which of their options ----------------------------------------------------

_TORCH = ("SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax")
KINDS = {("torch", name): name.replace("AdamW", "Adam") for name in _TORCH} | {
    (library, "Lion"): "Lion" for library in ("pytorch_optimizer", "lion_pytorch")
}
VARYING = {  # may differ from lane to lane
    "SGD": ("momentum", "dampening", "weight_decay"),
    "Adagrad": ("lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    "Adadelta": ("rho", "eps", "weight_decay"),
    "RMSprop": ("alpha", "eps", "weight_decay", "momentum"),
    "Adam": ("betas", "eps", "weight_decay"),
    "NAdam": ("betas", "eps", "weight_decay", "momentum_decay"),
    "RAdam": ("betas", "eps", "weight_decay"),
    "Adamax": ("betas", "eps", "weight_decay"),
    "Lion": ("betas", "weight_decay", "fixed_decay"),
}
PROGRAM_TERMS = {  # choose the program
    "SGD": ("nesterov",),
    "Adagrad": (),
    "Adadelta": (),
    "RMSprop": ("centered",),
    "Adam": ("amsgrad", "decoupled_weight_decay"),
    "NAdam": ("decoupled_weight_decay",),
    "RAdam": ("decoupled_weight_decay",),
    "Adamax": (),
    "Lion": ("weight_decouple",),
}
IMPLEMENTATION = ("foreach", "fused", "use_triton")  # how it is computed, not what


def _name(spec: OptimizerSpec) -> tuple[str, str]:
    """Library and class: torch.optim.SGD and torch.optim.sgd.SGD are one."""
    return spec.target.partition(".")[0], spec.target.rpartition(".")[2]


def _is_idle(option: str, value: Value) -> bool:
    """Whether it changes nothing: how, not what, is computed, or a part that is off."""
    return option in IMPLEMENTATION or not value


def _is_decoupled(kind: str, name: tuple[str, str], options: Options) -> bool:
    if kind == "Lion":
        return bool(options.get("weight_decouple", True))
    return name[1] == "AdamW" or bool(options.get("decoupled_weight_decay"))


def _variant(kind: str, options: Options, momentum: bool) -> str:
    if kind == "SGD" and momentum:
        return "nesterov" if options.get("nesterov") else "dampened" if options.get("dampening") else ""
    chosen = {"Adam": "amsgrad", "RMSprop": "centered"}.get(kind, "")
    return chosen if options.get(chosen) else ""


@functools.cache
def rule_with(static: Static) -> Rule[Options]:
    """The rule of these terms."""
    return _RULES[static.kind](static)


# --- coefficients that several have ------------------------------------------------------------------


def _decay_column(options: Options, lr_S: Floats, decay: str) -> list[Floats]:
    """What the weights are multiplied by (decoupled), or what share of them joins the gradient (coupled)."""
    if decay == "none":
        return []
    weight_decay = number_of(options, "weight_decay")
    return [1 - lr_S * weight_decay if decay == "decoupled" else np.full_like(lr_S, weight_decay)]


def _apply_decay(decay: str, weight: Tensor, gradient: Tensor, coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
    """Weight decay; the coefficients that are left."""
    if decay == "none":
        return coefficients
    if decay == "decoupled":
        weight.mul_(coefficients[0])
    else:
        gradient.addcmul_(weight, coefficients[0])
    return coefficients[1:]


def _table(lr_S: Floats, *columns: Floats | float) -> Floats:
    """[S, C]."""
    return np.stack([np.broadcast_to(np.asarray(column, dtype=np.float64), lr_S.shape) for column in columns], axis=1)


def _momentum(options: Options, momentum_S: Floats | None) -> Floats | float:
    return number_of(options, "momentum") if momentum_S is None else momentum_S


def _betas(options: Options, momentum_S: Floats | None) -> tuple[Floats | float, float]:
    beta1, beta2 = cast(tuple[float, float], options["betas"])
    return float(beta1) if momentum_S is None else momentum_S, float(beta2)


def _steps(first: int, lr_S: Floats) -> Floats:
    """The number of each update, counted from 1."""
    return np.arange(first + 1, first + 1 + len(lr_S), dtype=np.float64)


def _zero_values(count: int) -> Callable[[Options], tuple[float, ...]]:
    return lambda options: (0.0,) * count


# --- the rules: formulas as torch.optim documents them, in as few passes over memory as PyTorch has -----


def _sgd(static: Static) -> Rule[Options]:
    """torch.optim.SGD: b = m b + (1 - dampening) g, without dampening at first; w -= LR b, or LR (g + m b)."""
    decay, momentum, variant = static.decay, static.momentum, static.variant

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        columns: list[Floats | float] = [*_decay_column(options, lr_S, decay), -lr_S]
        if momentum:
            columns.append(_momentum(options, momentum_S))
        if variant == "dampened":
            columns.append(np.where(_steps(first, lr_S) == 1, 1.0, 1 - number_of(options, "dampening")))
        return _table(lr_S, *columns)

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        minus_lr, *rest = _apply_decay(decay, weight, gradient, coefficients)
        if not momentum:
            weight.addcmul_(gradient, minus_lr)
            return
        (buffer,) = states
        if variant == "dampened":
            buffer.mul_(rest[0]).addcmul_(gradient, rest[1])
        else:
            torch.addcmul(gradient, buffer, rest[0], out=buffer)
        if variant == "nesterov":
            weight.addcmul_(gradient.addcmul_(buffer, rest[0]), minus_lr)
        else:
            weight.addcmul_(buffer, minus_lr)

    states = ("momentum_buffer",) if momentum else ()
    return Rule(states, _zero_values(len(states)), coefficients, update)


def _adagrad(static: Static) -> Rule[Options]:
    """torch.optim.Adagrad: s += g^2; w -= LR / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)."""
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        lowered_S = lr_S / (1 + (_steps(first, lr_S) - 1) * number_of(options, "lr_decay"))
        return _table(lr_S, *_decay_column(options, lr_S, decay), -lowered_S, number_of(options, "eps"))

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        minus_lr, eps = _apply_decay(decay, weight, gradient, coefficients)
        (total,) = states
        scratch = gradient * gradient
        total.add_(scratch)
        torch.sqrt(total, out=scratch)
        weight.addcmul_(gradient.div_(scratch.add_(eps)), minus_lr)

    return Rule(("sum",), lambda options: (number_of(options, "initial_accumulator_value"),), coefficients, update)


def _adadelta(static: Static) -> Rule[Options]:
    """torch.optim.Adadelta: v averages g^2; d = g sqrt(u + eps) / sqrt(v + eps); u averages d^2; w -= LR d."""
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        return _table(
            lr_S, *_decay_column(options, lr_S, decay), -lr_S, 1 - number_of(options, "rho"), number_of(options, "eps")
        )

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        minus_lr, fresh, eps = _apply_decay(decay, weight, gradient, coefficients)
        square, moved = states
        scratch = gradient * gradient
        square.lerp_(scratch, fresh)
        gradient.div_(torch.add(square, eps, out=scratch).sqrt_())
        gradient.mul_(torch.add(moved, eps, out=scratch).sqrt_())
        moved.lerp_(torch.mul(gradient, gradient, out=scratch), fresh)
        weight.addcmul_(gradient, minus_lr)

    return Rule(("square_avg", "acc_delta"), _zero_values(2), coefficients, update)


def _rmsprop(static: Static) -> Rule[Options]:
    """torch.optim.RMSprop: v = alpha v + (1 - alpha) g^2; d = g / (sqrt(v) + eps); w -= LR d, or LR b, b = m b + d.

    Centered: v less the square of g's own average. The difference cancels, so v is summed as torch sums it.
    """
    decay, momentum, centered = static.decay, static.momentum, static.variant == "centered"

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        alpha = number_of(options, "alpha")
        columns: list[Floats | float] = [
            *_decay_column(options, lr_S, decay),
            -lr_S,
            number_of(options, "eps"),
            1 - alpha,
        ]
        columns += [_momentum(options, momentum_S)] if momentum else []
        columns += [alpha] if centered else []
        return _table(lr_S, *columns)

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        minus_lr, eps, fresh, *rest = _apply_decay(decay, weight, gradient, coefficients)
        square = states[0]
        if centered:
            average = states[1]
            scratch = gradient * fresh
            square.mul_(rest[-1]).addcmul_(scratch, gradient)
            average.lerp_(gradient, fresh)
            torch.sub(square, torch.mul(average, average, out=scratch), out=scratch).sqrt_()
        else:
            scratch = gradient * gradient
            square.lerp_(scratch, fresh)
            torch.sqrt(square, out=scratch)
        gradient.div_(scratch.add_(eps))
        if momentum:
            buffer = states[-1]
            gradient = torch.addcmul(gradient, buffer, rest[0], out=buffer)
        weight.addcmul_(gradient, minus_lr)

    states = ("square_avg", *(["grad_avg"] if centered else []), *(["momentum_buffer"] if momentum else []))
    return Rule(states, _zero_values(len(states)), coefficients, update)


def _adam(static: Static) -> Rule[Options]:
    """torch.optim.Adam and AdamW: m and v averages of g and g^2; w -= LR / c1 * m / (sqrt(v) / s + eps), s = sqrt(c2).

    c1 = 1 - beta1^t, c2 = 1 - beta2^t. Numerator and denominator are taken times s. amsgrad: the largest v so far.
    """
    decay, amsgrad = static.decay, static.variant == "amsgrad"

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        beta1, beta2 = _betas(options, momentum_S)
        step_S = _steps(first, lr_S)
        s_S = np.sqrt(1 - beta2**step_S)
        return _table(
            lr_S,
            *_decay_column(options, lr_S, decay),
            -lr_S / (1 - beta1**step_S) * s_S,
            number_of(options, "eps") * s_S,
            1 - beta1,
            1 - beta2,
        )

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        minus_lr, eps, fresh, fresh_square = _apply_decay(decay, weight, gradient, coefficients)
        average, square = states[0], states[1]
        average.lerp_(gradient, fresh)
        square.lerp_(gradient.mul_(gradient), fresh_square)
        if amsgrad:
            square = torch.maximum(states[2], square, out=states[2])
        torch.sqrt(square, out=gradient).add_(eps)
        weight.addcmul_(torch.div(average, gradient, out=gradient), minus_lr)

    states = ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if amsgrad else []))
    return Rule(states, _zero_values(len(states)), coefficients, update)


def _nadam(static: Static) -> Rule[Options]:
    """torch.optim.NAdam: w -= LR ((1 - mu_t) / (1 - M_t) g + mu_{t+1} / (1 - M_{t+1}) m) / (sqrt(v / c2) + eps).

    mu_t = beta1 (1 - 0.96^(t psi) / 2), psi = momentum_decay; M_t, their product up to t, which torch keeps in
    float32, so it is rounded in every update here too. Numerator and denominator are taken times sqrt(c2).
    """
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        if momentum_S is not None and first > 0 and (earlier_S is None or len(earlier_S) != first):
            raise ValueError("NAdam's product needs the momentum of all earlier updates: give earlier_S")
        beta1, beta2 = _betas(options, momentum_S)
        earlier = beta1 if momentum_S is None or earlier_S is None else earlier_S
        step_S, psi = _steps(first, lr_S), number_of(options, "momentum_decay")
        mu_S, mu_next_S = _mu(beta1, psi, step_S), _mu(beta1, psi, step_S + 1)
        product_S = _float32_product(_mu(earlier, psi, np.arange(1.0, first + 1)), mu_S)
        s_S = np.sqrt(1 - beta2**step_S)
        return _table(
            lr_S,
            *_decay_column(options, lr_S, decay),
            -lr_S * (1 - mu_S) / (1 - product_S) * s_S,
            -lr_S * mu_next_S / (1 - product_S * mu_next_S) * s_S,
            number_of(options, "eps") * s_S,
            1 - beta1,
            1 - beta2,
        )

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        of_gradient, of_average, eps, fresh, fresh_square = _apply_decay(decay, weight, gradient, coefficients)
        average, square = states
        average.lerp_(gradient, fresh)
        scratch = gradient * gradient
        square.lerp_(scratch, fresh_square)
        torch.sqrt(square, out=scratch).add_(eps)
        gradient.mul_(of_gradient).addcmul_(average, of_average)
        weight.addcdiv_(gradient, scratch)

    return Rule(("exp_avg", "exp_avg_sq"), _zero_values(2), coefficients, update)


def _mu(beta1: Floats | float, psi: float, step_S: Floats) -> Floats:
    mu_S: Floats = np.asarray(beta1, dtype=np.float64) * (1 - 0.5 * 0.96 ** (step_S * psi))
    return mu_S


def _float32_product(before: Floats, mu_S: Floats) -> Floats:
    """The running product of all mu, rounded to float32 in every update; of those in mu_S."""
    every = np.concatenate([before, mu_S]).astype(np.float32)
    product: Floats = np.multiply.accumulate(every)[len(before) :].astype(np.float64)
    return product


def _radam(static: Static) -> Rule[Options]:
    """torch.optim.RAdam: w -= LR m / c1 r sqrt(c2) / (sqrt(v) + eps), or, while rho <= 5, w -= LR m / c1.

    c1 = 1 - beta1^t, c2 = 1 - beta2^t; rho and r, the rectification, are functions of t and beta2.
    """
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        beta1, beta2 = _betas(options, momentum_S)
        step_S = _steps(first, lr_S)
        step_size_S, c2_S = lr_S / (1 - beta1**step_S), 1 - beta2**step_S
        most = 2 / (1 - beta2) - 1
        rho_S = most - 2 * step_S * beta2**step_S / c2_S
        adapts_S = rho_S > 5
        r_S = np.sqrt(np.where(adapts_S, (rho_S - 4) * (rho_S - 2) * most / ((most - 4) * (most - 2) * rho_S), 0.0))
        return _table(
            lr_S,
            *_decay_column(options, lr_S, decay),
            -step_size_S * r_S * np.sqrt(c2_S),
            np.where(adapts_S, 0.0, -step_size_S),
            number_of(options, "eps"),
            1 - beta1,
            1 - beta2,
        )

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        rectified, plain, eps, fresh, fresh_square = _apply_decay(decay, weight, gradient, coefficients)
        average, square = states
        average.lerp_(gradient, fresh)
        square.lerp_(gradient.mul_(gradient), fresh_square)
        torch.sqrt(square, out=gradient).add_(eps)
        weight.addcmul_(torch.div(average, gradient, out=gradient), rectified).addcmul_(average, plain)

    return Rule(("exp_avg", "exp_avg_sq"), _zero_values(2), coefficients, update)


def _adamax(static: Static) -> Rule[Options]:
    """torch.optim.Adamax: u = max(beta2 u, |g| + eps); w -= LR / (1 - beta1^t) m / u."""
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        beta1, beta2 = _betas(options, momentum_S)
        step_size_S = lr_S / (1 - beta1 ** _steps(first, lr_S))
        return _table(
            lr_S, *_decay_column(options, lr_S, decay), -step_size_S, number_of(options, "eps"), 1 - beta1, beta2
        )

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        minus_lr, eps, fresh, kept = _apply_decay(decay, weight, gradient, coefficients)
        average, largest = states
        average.lerp_(gradient, fresh)
        torch.maximum(largest.mul_(kept), gradient.abs_().add_(eps), out=largest)
        weight.addcmul_(torch.div(average, largest, out=gradient), minus_lr)

    return Rule(("exp_avg", "exp_inf"), _zero_values(2), coefficients, update)


def _lion(static: Static) -> Rule[Options]:
    """Lion (arXiv 2302.06675, algorithm 2): w -= LR (sign(beta1 m + (1 - beta1) g) + lambda w); m averages g by beta2.

    As two libraries have it; pytorch_optimizer's fixed_decay shrinks the weights by lambda, not LR lambda, and
    without weight_decouple lambda w joins the gradient.
    """
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        beta1, beta2 = _betas(options, momentum_S)
        by_S = np.ones_like(lr_S) if options.get("fixed_decay") else lr_S
        return _table(lr_S, *_decay_column(options, by_S, decay), -lr_S, 1 - beta1, 1 - beta2)

    def update(weight: Tensor, gradient: Tensor, states: Sequence[Tensor], coefficients: Sequence[Tensor]) -> None:
        minus_lr, fresh, fresh_average = _apply_decay(decay, weight, gradient, coefficients)
        (average,) = states
        direction = torch.lerp(average, gradient, fresh).sign_()
        average.lerp_(gradient, fresh_average)
        weight.addcmul_(direction, minus_lr)

    return Rule(("exp_avg",), _zero_values(1), coefficients, update)


_RULES: dict[str, Callable[[Static], Rule[Options]]] = {
    "SGD": _sgd,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
    "RMSprop": _rmsprop,
    "Adam": _adam,
    "NAdam": _nadam,
    "RAdam": _radam,
    "Adamax": _adamax,
    "Lion": _lion,
}
