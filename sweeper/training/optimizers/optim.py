"""Checking and building an optimizer, and setting its LR and momentum before every update."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sweeper.importing import import_object
from sweeper.options import check_options
from sweeper.training.optimizers.groups import Group, Grouping, WeightDecay, groups_of
from sweeper.training.optimizers.looking import Forward, has_model_argument
from sweeper.training.optimizers.spec import KEYS, OptimizerSpec, Options, number_of, parse_optimizer
from sweeper.training.optimizers.trial_run import has_one_lr, is_lr_ignored, tiny_model
from sweeper.types import InputError, Job, Task, Value, closest, did_you_mean

Optimizer = torch.optim.Optimizer
ANY_LR = 1e-3  # for the constructor: the LR is set before every update


def check_optimizer(spec: OptimizerSpec) -> None:
    """Check that a schedule can use an optimizer, before anything is trained.

    Raises:
        InputError: If the import path or an option is unknown, if there is no option `lr`, if the step needs a closure,
            if the optimizer refuses a value, or if it cannot have these groups.
    """
    target = _target(spec)
    _check_names(target, spec.arguments)
    names = _option_names(target)
    if names is not None and "lr" not in names:
        raise _unusable_error(spec, "has no option lr, so no schedule can set it")
    check_options("optimizer", target, spec.options)
    _check_grouping(target, spec)
    _try_run(target, json.dumps(spec.node(), sort_keys=True))


def check_names(spec: OptimizerSpec, hparams: Mapping[str, Value]) -> None:
    """Check that the optimizer has the options that a trial sets.

    Args:
        spec: The optimizer.
        hparams: Hyperparameters of the trial by config path; those of the optimizer are "optimizer.<option>".

    Raises:
        InputError: If it does not have one of them.
    """
    _check_names(_target(spec), _trial_options(hparams))


def has_momentum(spec: OptimizerSpec) -> bool:
    """Return whether a schedule can set the momentum: `momentum` as in SGD, or the first of `betas` as in Adam."""
    optimizer = _build(_target(spec), tiny_model(), spec.arguments)
    return all("momentum" in group or "betas" in group for group in optimizer.param_groups)


def has_look(spec: OptimizerSpec) -> bool:
    """Return whether the optimizer looks at every forward pass (see sweeper.training.optimizers.looking)."""
    return hasattr(_target(spec), "look")


def check_look(spec: OptimizerSpec, hparams: Mapping[str, Value], task: Task, batch_size: int) -> None:
    """Let an optimizer with a `look` take a first one, to check that it supports model and loss.

    Other errors are ignored here. The trial itself will report them.

    Args:
        spec: The optimizer. Without a `look`, nothing is checked.
        hparams: Hyperparameters of a trial by config path.
        task: What is trained.
        batch_size: Examples of an update.

    Raises:
        InputError: If the optimizer does not support the model or the loss.
    """
    if not has_look(spec):
        return
    with torch.random.fork_rng(devices=[]), contextlib.suppress(RuntimeError, TypeError, AttributeError):
        model = task.build(0, **options_of(hparams, "model"))
        inputs_B, target_B = task.fetch("train", 0, torch.arange(min(batch_size, task.size("train", 0))))
        output_B = task.forward(model, inputs_B)
        forward = Forward(task, model, inputs_B, target_B, output_B, task.loss(output_B, target_B), 0)
        make_optimizer(spec, hparams, model).look(forward)  # type: ignore[attr-defined] # optional


def make_optimizer(spec: OptimizerSpec, hparams: Mapping[str, Value], model: nn.Module) -> Optimizer:
    """Return the optimizer of a model on its device.

    The update is torch's fused one if there is one, because it was measured to be the fastest.

    Args:
        spec: The optimizer.
        hparams: Hyperparameters of the trial by config path.
        model: The model, on its device.
    """
    target = _target(spec)
    options = spec.with_options(options_of(hparams, "optimizer")).arguments
    groups, decay = _grouping(spec, hparams, model, 1.0)
    if decay.is_ours:
        options["weight_decay"] = 0.0
    params = model if has_model_argument(target) else _param_groups(model, groups, decay)
    if _can_fuse(target, options, model):
        try:
            return target(params, lr=ANY_LR, **options, fused=True)
        except RuntimeError:  # not supported on this kind of device
            pass
    return target(params, lr=ANY_LR, **options)


def grouping_of(spec: OptimizerSpec, job: Job, model: nn.Module) -> Grouping:
    """Return the parameter groups of a job's model, and its weight decay."""
    return _grouping(spec, job.hparams, model, float(job.lr_S.max()))


def set_lr_and_momentum(optimizer: Optimizer, lr: float, momentum: float | None) -> None:
    """Set LR and momentum of the next update in every group.

    Args:
        optimizer: What `make_optimizer` returns.
        lr: LR of the trial. It is multiplied by the factor of the group, if it has one.
        momentum: None to keep the optimizer's.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
        if momentum is None:
            continue
        if "momentum" in group:
            group["momentum"] = momentum
        else:
            group["betas"] = (momentum, *group["betas"][1:])


@torch.no_grad()
def shrink(optimizer: Optimizer, scale: float) -> None:
    """Apply the weight decay of an update for which the trainer is responsible (`WeightDecay.is_ours`).

    Only weights with a gradient shrink.

    Args:
        optimizer: What `make_optimizer` returns.
        scale: What the weight decay of each group is multiplied by (`WeightDecay.scale`).
    """
    for group in optimizer.param_groups:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if weights and group.get("decay"):
            torch._foreach_mul_(weights, 1 - scale * group["decay"])


def options_of(hparams: Mapping[str, Value], owner: str) -> dict[str, Value]:
    """Return the hyperparameters of one owner, without its prefix.

    Args:
        hparams: Hyperparameters of a trial by config path.
        owner: "optimizer" or "model".
    """
    prefix = f"{owner}."
    return {key.removeprefix(prefix): value for key, value in hparams.items() if key.startswith(prefix)}


def all_options(spec: OptimizerSpec, hparams: Mapping[str, Value]) -> dict[str, Value]:
    """Return every option except lr. The trial's value overrides the configured one, which overrides the default."""
    parameters = list(inspect.signature(_target(spec)).parameters.values())[1:]
    named = [parameter for parameter in parameters if parameter.default is not parameter.empty]
    defaults = {parameter.name: parameter.default for parameter in named if parameter.name != "lr"}
    return {**defaults, **spec.with_options(options_of(hparams, "optimizer")).arguments}


def _trial_options(hparams: Mapping[str, Value]) -> dict[str, Value]:
    """Return a trial's options of the optimizer, without those of parameter groups."""
    options = options_of(hparams, "optimizer")
    return {name: value for name, value in options.items() if name.partition(".")[0] not in KEYS}


def _grouping(spec: OptimizerSpec, hparams: Mapping[str, Value], model: nn.Module, peak: float) -> Grouping:
    """Return groups and weight decay of a model; `peak` is the largest LR of the trial.

    A weight decay that the trial sets is on even at 0, so that groups do not depend on the values of hyperparameters.
    """
    trial = spec.with_options(options_of(hparams, "optimizer"))
    options = all_options(spec, hparams)
    has_decay = options.get("weight_decay") is not None
    on = has_decay and (bool(options["weight_decay"]) or "optimizer.weight_decay" in hparams)
    decay = WeightDecay(number_of(options, "weight_decay") if on else None, trial.wd_mode, peak)
    return Grouping(groups_of(model, trial, decay.amount), decay)


def _param_groups(model: nn.Module, groups: Sequence[Group], decay: WeightDecay) -> list[Any]:
    """Return the first argument of the constructor: parameters if all have the optimizer's own options, else groups."""
    parameters = dict(model.named_parameters())
    if len(groups) == 1 and groups[0].lr == 1 and groups[0].weight_decay == decay.amount and not decay.is_ours:
        return [parameters[name] for name in groups[0].parameters]
    key = "weight_decay" if decay.mode == "lr" else "decay"
    return [
        {
            "params": [parameters[name] for name in group.parameters],
            "lr_factor": group.lr,
            **({key: group.weight_decay or 0.0} if {group.weight_decay, decay.amount} != {None} else {}),
        }
        for group in groups
    ]


def _target(spec: OptimizerSpec) -> Callable[..., Optimizer]:
    target = import_object("optimizer._target_", spec.target, "torch.optim.SGD")
    if not callable(target):
        raise InputError("optimizer._target_", spec.target, "cannot be called", "Use a class such as torch.optim.SGD")
    return target  # type: ignore[no-any-return] # the user's class, which _try_run calls


def _option_names(target: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names of the arguments after the parameters; None if there may be any (**kwargs)."""
    parameters = list(inspect.signature(target).parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters[1:] if parameter.kind is not parameter.VAR_POSITIONAL)


def _check_names(target: Callable[..., Any], options: Options) -> None:
    """Check the names of options. Raises InputError.

    An optimizer with **kwargs may ignore an option silently, so a name that is similar to a known one is refused.
    """
    names = _option_names(target)
    known = set(inspect.signature(target).parameters) if names is None else set(names)
    for name, value in options.items():
        if name == "lr":
            raise InputError("optimizer.lr", value, "the schedule sets the learning rate", "Use peak_lr instead")
        is_misspelled = names is None and closest(name, known, 0.8) is not None
        if name not in known and (names is not None or is_misspelled):
            problem = f"no such option of {_name(target)}"
            raise InputError(f"optimizer.{name}", value, problem, did_you_mean(name, sorted(known - {"lr"})))


@functools.lru_cache
def _try_run(target: Callable[..., Any], node: str) -> None:
    """Build the optimizer for a tiny model and train that. Raises InputError if a schedule cannot use it.

    Args:
        target: Class of the optimizer.
        node: Its configuration as JSON, so that it can be cached: every trainer checks the same optimizer.
    """
    spec = parse_optimizer(json.loads(node))
    options = spec.arguments
    try:
        optimizer = _build(target, tiny_model(), options)
    except Exception as error:
        text = ", ".join(f"{key}={value}" for key, value in options.items()) or "no options"
        message = str(error).rstrip(".")
        raise InputError("optimizer", _name(target), f"refuses {text}: {message}", "Change these options") from error
    if not isinstance(optimizer, Optimizer):
        raise _unusable_error(spec, "is not a torch.optim.Optimizer")
    if any("lr" not in group for group in optimizer.param_groups):
        raise _unusable_error(spec, "has no lr in its groups, so no schedule can set it")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise _unusable_error(
            spec, "evaluates the loss several times in an update by a closure, which is not supported"
        )
    if is_lr_ignored(lambda model: _build(target, model, options)):
        raise _unusable_error(spec, "does not use the LR of its groups in the same update, so no schedule can set it")
    several = [key for key in ("layer_decay", "groups") if spec.node().get(key)]
    if several and has_one_lr(lambda model: target(_single_groups(model), lr=ANY_LR, **options)):
        problem = f"{_name(target)} has one LR for all groups"
        raise InputError(f"optimizer.{several[0]}", spec.node()[several[0]], problem, "Leave it out")


def _single_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return one group for each parameter."""
    return [{"params": [parameter]} for parameter in model.parameters()]


def _check_grouping(target: Callable[..., Any], spec: OptimizerSpec) -> None:
    """Check that the optimizer can have the configured groups and weight decays. Raises InputError."""
    node = spec.node()
    keys = [key for key in KEYS if node.get(key)]
    if keys and has_model_argument(target):
        problem = f"{_name(target)} takes the whole model and groups its parameters itself"
        raise InputError(f"optimizer.{keys[0]}", node[keys[0]], problem, "Leave it out")
    names = _option_names(target)
    can_decay = names is None or "weight_decay" in names
    groups = [name for name, group in spec.groups.items() if group is not None and "weight_decay" in group]
    is_ours = WeightDecay(mode=spec.wd_mode).is_ours
    decay_keys = [f"groups.{name}.weight_decay" for name in groups] + (["wd_mode"] if is_ours else [])
    if decay_keys and not can_decay:
        raise InputError(f"optimizer.{decay_keys[0]}", None, f"{_name(target)} has no weight decay", "Leave it out")
    if is_ours and hasattr(target, "eval"):
        problem = f"{_name(target)} stores the weights to evaluate separately, and those would not shrink"
        raise InputError("optimizer.wd_mode", spec.wd_mode, problem, "Use wd_mode=lr")


def _unusable_error(spec: OptimizerSpec, problem: str) -> InputError:
    return InputError("optimizer._target_", spec.target, problem, "Choose another, such as torch.optim.AdamW")


def _build(target: Callable[..., Optimizer], model: nn.Module, options: Options) -> Optimizer:
    return target(model if has_model_argument(target) else list(model.parameters()), lr=ANY_LR, **options)


def _can_fuse(target: Callable[..., Any], options: Options, model: nn.Module) -> bool:
    """Return whether to try the fused update: torch's must support the model, and the user must not have chosen."""
    names = _option_names(target)
    is_sparse = any(getattr(module, "sparse", False) for module in model.modules())
    is_floating = all(parameter.is_floating_point() for parameter in model.parameters())
    is_chosen = any(options.get(name) is not None for name in ("fused", "foreach"))
    is_special = any(options.get(name) for name in ("capturable", "differentiable"))
    return names is not None and "fused" in names and is_floating and not (is_sparse or is_chosen or is_special)


def _name(target: Callable[..., Any]) -> str:
    return getattr(target, "__name__", str(target))
