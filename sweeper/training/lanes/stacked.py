"""Elementwise optimizers on stacked rows: one update of many lanes, each with its own hyperparameters.

The weights of a lane are one row of [L, P], and so is each state of its optimizer. All scalars of an update (LR, bias
corrections, 1 - LR * weight decay, no dampening in the first update, ...) are computed on the host in float64, for a
block of updates at once. The device only multiplies by them. This makes a row equal to torch.optim.

No operation of an update mixes rows, and none that a compiler may contract crosses the end of a row. So a row does not
depend, bit for bit, on its slot or on its neighbors, even if these are NaN or infinite.

All lanes of a stack share one program, so they share the terms of the update (momentum, Nesterov, weight decay,
amsgrad, ...). The hyperparameters may differ from lane to lane.
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
    """One elementwise optimizer: its states, its scalars and its update.

    Attributes:
        states: Names of the states as in torch.optim ("momentum_buffer", "exp_avg", ...). Each state is [L, P].
        initial_values: `initial_values(options)` returns the value that each state starts at, from the options of one
            lane (`all_options`).
        coefficients: `coefficients(options, lr_S, momentum_S, first, earlier_S=None)` returns the C scalars of the
            updates first to first + S - 1 of one lane, float64 [S, C]. lr_S and momentum_S (or None) belong to these
            updates. earlier_S is the momentum of updates 0 to first - 1. Only NAdam needs it, for its product, and
            raises ValueError without it.
        update: `update(weight_LP, gradient_LP, states, coefficients)` changes weights and states in place, and
            overwrites the gradient. Each of the C coefficients is a tensor [L, 1] of the type and device of the
            weights. Call it under torch.no_grad.
    """

    states: tuple[str, ...]
    initial_values: Callable[[RuleOptions], tuple[float, ...]]
    coefficients: Callable[..., Floats]
    update: Callable[[Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]], None]


class Static(NamedTuple):
    """What the lanes of one stack must share: the kind of optimizer and the terms of its update.

    Attributes:
        kind: One of the values of KINDS.
        decay: Weight decay: "none", "coupled" (added to the gradient) or "decoupled" (shrinks the weights).
        momentum: Whether SGD or RMSprop has momentum.
        variant: "nesterov" or "dampened" (SGD), "amsgrad" (Adam), "centered" (RMSprop), or "".
    """

    kind: str
    decay: str = "none"
    momentum: bool = False
    variant: str = ""


def rule_of(
    spec: OptimizerSpec, hparams: Mapping[str, Value] | None = None, momentum_S: Floats | None = None
) -> Rule[Options] | None:
    """Return the rule of a trial, or None if it cannot be stacked (`stacking_obstacle` says why).

    Trials with equal `static_options` get the same object.

    Args:
        spec: The optimizer.
        hparams: Hyperparameters of the trial by config path; those of the optimizer are "optimizer.<option>".
        momentum_S: Momentum of each update; None for the optimizer's constant one.
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
    """Return the options that change the program.

    A weight decay that the trial sets is a term of the update even if it is 0. Momentum is a term only if it is not 0.

    Args:
        spec: The optimizer.
        hparams: Hyperparameters of the trial by config path.
        momentum_S: Momentum of each update; None for the optimizer's constant one.
        has_decay: Whether there is weight decay; None to read it from the options.
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
    """Return why a trial cannot be stacked, in one sentence, or None if it can. The arguments are as in `rule_of`."""
    name, target = _name(spec), spec.target
    if name not in KINDS:
        known = ", ".join(sorted(set(KINDS.values())))
        return f"{target} has no rule for stacked rows (these have one: {known})."
    kind, options = KINDS[name], all_options(spec, hparams or {})
    for option, value in options.items():
        if option not in VARYING[kind] and option not in PROGRAM_TERMS[kind] and not _is_idle(option, value):
            return f"optimizer.{option}={value} is not supported by the rule for stacked rows."
    if kind in ("SGD", "RMSprop") and momentum_S is not None and np.any(momentum_S) and not np.all(momentum_S):
        return "The schedule's momentum is 0 in some updates, and torch does not change the momentum buffer in those."
    return None


# --- which optimizers, and which of their options ----------------------------------------------------

_TORCH = ("SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax")
KINDS = {("torch", name): name.replace("AdamW", "Adam") for name in _TORCH} | {
    (library, "Lion"): "Lion" for library in ("pytorch_optimizer", "lion_pytorch")
}
VARYING = {  # options that may differ from lane to lane
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
PROGRAM_TERMS = {  # options that choose the program
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
IMPLEMENTATION = ("foreach", "fused", "use_triton")  # options that choose how the update is computed, not what it is


def _name(spec: OptimizerSpec) -> tuple[str, str]:
    """Return library and class. They are the same for torch.optim.SGD and torch.optim.sgd.SGD."""
    return spec.target.partition(".")[0], spec.target.rpartition(".")[2]


def _is_idle(option: str, value: Value) -> bool:
    """Return whether an option does not change the update: it is off, or chooses only the implementation."""
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
    """Return the rule with these terms."""
    return _RULES[static.kind](static)


# --- shared by several rules -------------------------------------------------------------------------


def _decay_column(options: Options, lr_S: Floats, decay: str) -> list[Floats]:
    """Return the factor of the weights (decoupled), or the share of them that is added to the gradient (coupled)."""
    if decay == "none":
        return []
    weight_decay = number_of(options, "weight_decay")
    return [1 - lr_S * weight_decay if decay == "decoupled" else np.full_like(lr_S, weight_decay)]


def _apply_decay(decay: str, weight: Tensor, gradient: Tensor, coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
    """Apply weight decay in place, and return the remaining coefficients."""
    if decay == "none":
        return coefficients
    if decay == "decoupled":
        weight.mul_(coefficients[0])
    else:
        gradient.addcmul_(weight, coefficients[0])
    return coefficients[1:]


def _table(lr_S: Floats, *columns: Floats | float) -> Floats:
    """Return the columns as a table, float64 [S, C]. A number is repeated for each update."""
    return np.stack([np.broadcast_to(np.asarray(column, dtype=np.float64), lr_S.shape) for column in columns], axis=1)


def _momentum(options: Options, momentum_S: Floats | None) -> Floats | float:
    return number_of(options, "momentum") if momentum_S is None else momentum_S


def _betas(options: Options, momentum_S: Floats | None) -> tuple[Floats | float, float]:
    beta1, beta2 = cast(tuple[float, float], options["betas"])
    return float(beta1) if momentum_S is None else momentum_S, float(beta2)


def _steps(first: int, lr_S: Floats) -> Floats:
    """Return the number of each update, counted from 1."""
    return np.arange(first + 1, first + 1 + len(lr_S), dtype=np.float64)


def _zero_values(count: int) -> Callable[[Options], tuple[float, ...]]:
    return lambda options: (0.0,) * count


# --- the rules: the formulas of torch.optim's docs, with as few passes over memory as PyTorch makes ------


def _sgd(static: Static) -> Rule[Options]:
    """torch.optim.SGD: b = m b + (1 - dampening) g; w -= LR b, or LR (g + m b). The first update is not dampened."""
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

    Centered: the square of the average of g is subtracted from v. The difference cancels digits, so v is summed in
    the same order as in torch.
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

    c1 = 1 - beta1^t, c2 = 1 - beta2^t. Numerator and denominator are both multiplied by s. With amsgrad, v is the
    largest one so far.
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

    mu_t = beta1 (1 - 0.96^(t psi) / 2) with psi = momentum_decay. M_t is the product of mu_1 to mu_t. Torch keeps it in
    float32, so it is rounded in every update here, too. Numerator and denominator are both multiplied by sqrt(c2).
    """
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        if momentum_S is not None and first > 0 and (earlier_S is None or len(earlier_S) != first):
            raise ValueError("NAdam needs the momentum of all earlier updates. Pass earlier_S")
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
    """Return the running product of `before` and mu_S at the updates of mu_S, rounded to float32 in every update."""
    mu_32 = np.concatenate([before, mu_S]).astype(np.float32)
    product_S: Floats = np.multiply.accumulate(mu_32)[len(before) :].astype(np.float64)
    return product_S


def _radam(static: Static) -> Rule[Options]:
    """torch.optim.RAdam: w -= LR m / c1 r sqrt(c2) / (sqrt(v) + eps), or w -= LR m / c1 as long as rho <= 5.

    c1 = 1 - beta1^t and c2 = 1 - beta2^t. rho and the rectification r are functions of t and beta2.
    """
    decay = static.decay

    def coefficients(
        options: Options, lr_S: Floats, momentum_S: Floats | None, first: int, earlier_S: Floats | None = None
    ) -> Floats:
        beta1, beta2 = _betas(options, momentum_S)
        step_S = _steps(first, lr_S)
        step_size_S, c2_S = lr_S / (1 - beta1**step_S), 1 - beta2**step_S
        rho_max = 2 / (1 - beta2) - 1
        rho_S = rho_max - 2 * step_S * beta2**step_S / c2_S
        adapts_S = rho_S > 5
        r_S = np.sqrt(
            np.where(adapts_S, (rho_S - 4) * (rho_S - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho_S), 0.0)
        )
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
        minus_lr, eps, fresh, beta2 = _apply_decay(decay, weight, gradient, coefficients)
        average, largest = states
        average.lerp_(gradient, fresh)
        torch.maximum(largest.mul_(beta2), gradient.abs_().add_(eps), out=largest)
        weight.addcmul_(torch.div(average, largest, out=gradient), minus_lr)

    return Rule(("exp_avg", "exp_inf"), _zero_values(2), coefficients, update)


def _lion(static: Static) -> Rule[Options]:
    """Lion: w -= LR (sign(beta1 m + (1 - beta1) g) + lambda w); m averages g by beta2.

    This is the Lion of pytorch_optimizer and lion_pytorch. pytorch_optimizer's fixed_decay shrinks the weights by
    lambda instead of LR lambda. Without weight_decouple, lambda w is added to the gradient.

    Source: arXiv 2302.06675, algorithm 2.
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
