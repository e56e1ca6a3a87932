"""The optimizer: built from its configuration and a trial's numbers; LR and momentum set exactly, update by update."""

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
from sweeper.training.optimizers.groups import Group, Grouping, WeightDecay, groups_of
from sweeper.training.optimizers.looking import Forward, has_model_argument
from sweeper.training.optimizers.spec import KEYS, OptimizerSpec, Options, number_of, parse_optimizer
from sweeper.training.optimizers.trial_run import has_one_lr, is_lr_ignored, tiny_model
from sweeper.types import InputError, Job, Task, Value, closest, did_you_mean

Optimizer = torch.optim.Optimizer
ANY_LR = 1e-3  # for a constructor; every update sets its own before it


def check_optimizer(spec: OptimizerSpec) -> None:
    """Refuse, before anything is trained, an optimizer that no schedule could use.

    Raises InputError: unknown import path or option, no option `lr`, a step that needs a closure, values that
    the optimizer refuses, groups that it cannot have.
    """
    target = _target(spec)
    _check_names(target, spec.arguments)
    names = _option_names(target)
    if names is not None and "lr" not in names:
        raise _unusable_error(spec, "has no option lr, so no schedule can set it")
    _check_grouping(target, spec)
    _try_run(target, json.dumps(spec.node(), sort_keys=True))


def check_names(spec: OptimizerSpec, hparams: Mapping[str, Value]) -> None:
    """Refuse a trial's "optimizer.<option>" that the optimizer does not have."""
    _check_names(_target(spec), _trial_options(hparams))


def has_momentum(spec: OptimizerSpec) -> bool:
    """Whether a schedule can set its momentum: `momentum` of SGD and RMSprop, the first of `betas` of Adam."""
    optimizer = _build(_target(spec), tiny_model(), spec.arguments)
    return all("momentum" in group or "betas" in group for group in optimizer.param_groups)


def has_look(spec: OptimizerSpec) -> bool:
    """Whether it looks at the forward pass of every update; see sweeper.training.optimizers.looking."""
    return hasattr(_target(spec), "look")


def check_look(spec: OptimizerSpec, hparams: Mapping[str, Value], task: Task, batch_size: int) -> None:
    """Refuse a model or a loss that an optimizer which looks at the forward pass cannot work with: by a first look.

    Raises InputError; what else goes wrong the trial itself will say.
    """
    if not has_look(spec):
        return
    with torch.random.fork_rng(devices=[]), contextlib.suppress(RuntimeError, TypeError, AttributeError):
        model = task.build(0, **options_of(hparams, "model"))
        inputs_B, target_B = task.fetch("train", 0, torch.arange(min(batch_size, task.size("train", 0))))
        output_B = task.forward(model, inputs_B)
        seen = Forward(task, model, inputs_B, target_B, output_B, task.loss(output_B, target_B), 0)
        make_optimizer(spec, hparams, model).look(seen)  # type: ignore[attr-defined] # optional


def make_optimizer(spec: OptimizerSpec, hparams: Mapping[str, Value], model: nn.Module) -> Optimizer:
    """The optimizer of a model on its device, with torch's fused update where it has one (the fastest, measured)."""
    target = _target(spec)
    options = spec.with_options(options_of(hparams, "optimizer")).arguments
    groups, decay = _grouping(spec, hparams, model, 1.0)
    if decay.is_ours:
        options["weight_decay"] = 0.0
    given = model if has_model_argument(target) else _param_groups(model, groups, decay)
    if _can_fuse(target, options, model):
        try:
            return target(given, lr=ANY_LR, **options, fused=True)
        except RuntimeError:  # fused on another kind of device than this one
            pass
    return target(given, lr=ANY_LR, **options)


def grouping_of(spec: OptimizerSpec, job: Job, model: nn.Module) -> Grouping:
    """The groups of a job's model, and its weight decay."""
    return _grouping(spec, job.hparams, model, float(job.lr_S.max()))


def set_lr_and_momentum(optimizer: Optimizer, lr: float, momentum: float | None) -> None:
    """What the next update uses, in every group, as given; the LR times the group's factor, 1 where it has none."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
        if momentum is None:
            continue
        if "momentum" in group:
            group["momentum"] = momentum
        else:
            group["betas"] = (momentum, *group["betas"][1:])


@torch.no_grad()
def shrink(optimizer: Optimizer, by: float) -> None:
    """Before an update whose weight decay is the trainer's: by `by` times each group's, where there is a gradient."""
    for group in optimizer.param_groups:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if weights and group.get("decay"):
            torch._foreach_mul_(weights, 1 - by * group["decay"])


def options_of(hparams: Mapping[str, Value], owner: str) -> dict[str, Value]:
    """The numbers of "optimizer" or "model" out of a trial's, by the name that their owner knows."""
    prefix = f"{owner}."
    return {key.removeprefix(prefix): value for key, value in hparams.items() if key.startswith(prefix)}


def all_options(spec: OptimizerSpec, hparams: Mapping[str, Value]) -> dict[str, Value]:
    """Every option but lr: the optimizer's own default, or the configured value, or a trial's before both."""
    parameters = list(inspect.signature(_target(spec)).parameters.values())[1:]
    named = [parameter for parameter in parameters if parameter.default is not parameter.empty]
    defaults = {parameter.name: parameter.default for parameter in named if parameter.name != "lr"}
    return {**defaults, **spec.with_options(options_of(hparams, "optimizer")).arguments}


def _trial_options(hparams: Mapping[str, Value]) -> dict[str, Value]:
    """A trial's options of the optimizer, without the numbers of its groups."""
    options = options_of(hparams, "optimizer")
    return {name: value for name, value in options.items() if name.partition(".")[0] not in KEYS}


def _grouping(spec: OptimizerSpec, hparams: Mapping[str, Value], model: nn.Module, peak: float) -> Grouping:
    """peak: the largest LR. A weight decay that the trial sets is on even at 0, lest groups depend on numbers."""
    trial = spec.with_options(options_of(hparams, "optimizer"))
    options = all_options(spec, hparams)
    has_decay = options.get("weight_decay") is not None
    on = has_decay and (bool(options["weight_decay"]) or "optimizer.weight_decay" in hparams)
    decay = WeightDecay(number_of(options, "weight_decay") if on else None, trial.wd_mode, peak)
    return Grouping(groups_of(model, trial, decay.amount), decay)


def _param_groups(model: nn.Module, groups: Sequence[Group], decay: WeightDecay) -> list[Any]:
    """What the constructor is given: parameters, where they are one group with the optimizer's own numbers."""
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
    found = import_object("optimizer._target_", spec.target, "torch.optim.SGD")
    if not callable(found):
        raise InputError("optimizer._target_", spec.target, "cannot be called", "Name a class such as torch.optim.SGD.")
    return found  # type: ignore[no-any-return] # the user's class, which _try_run calls


def _option_names(target: Callable[..., Any]) -> tuple[str, ...] | None:
    """Names of its arguments after the parameters; None where it takes any (**kwargs)."""
    parameters = list(inspect.signature(target).parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters[1:] if parameter.kind is not parameter.VAR_POSITIONAL)


def _check_names(target: Callable[..., Any], options: Options) -> None:
    """Where an optimizer takes any option, and may leave it unused, one that is almost another is refused."""
    names = _option_names(target)
    known = set(inspect.signature(target).parameters) if names is None else set(names)
    for name, value in options.items():
        if name == "lr":
            raise InputError("optimizer.lr", value, "the schedule sets the learning rate", "Use peak_lr instead.")
        misspelt = names is None and closest(name, known, 0.8) is not None
        if name not in known and (names is not None or misspelt):
            problem = f"no such option of {_name(target)}"
            raise InputError(f"optimizer.{name}", value, problem, did_you_mean(name, sorted(known - {"lr"})))


@functools.lru_cache
def _try_run(target: Callable[..., Any], written: str) -> None:
    """Build it for a tiny model: the optimizer's own checks of its values, and what it does with an LR.

    written: its configuration as JSON, so that each is tried once in a process; every trainer asks again.
    """
    spec = parse_optimizer(json.loads(written))
    options = spec.arguments
    try:
        optimizer = _build(target, tiny_model(), options)
    except Exception as error:
        shown = ", ".join(f"{key}={value}" for key, value in options.items()) or "no options"
        message = str(error).rstrip(".")
        raise InputError("optimizer", _name(target), f"refuses {shown}: {message}", "Change these options.") from error
    if not isinstance(optimizer, Optimizer):
        raise _unusable_error(spec, "is no torch.optim.Optimizer")
    if any("lr" not in group for group in optimizer.param_groups):
        raise _unusable_error(spec, "keeps no lr in its groups, so no schedule can set it")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise _unusable_error(
            spec, "evaluates the loss several times in an update, by a closure, which is not supported"
        )
    if is_lr_ignored(lambda model: _build(target, model, options)):
        raise _unusable_error(
            spec, "does not use the LR that its groups are given for an update, as a schedule needs it"
        )
    several = [key for key in ("layer_decay", "groups") if spec.node().get(key)]
    if several and has_one_lr(lambda model: target(_single_groups(model), lr=ANY_LR, **options)):
        problem = f"{_name(target)} has one LR for all groups"
        raise InputError(f"optimizer.{several[0]}", spec.node()[several[0]], problem, "Leave it out.")


def _single_groups(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [parameter]} for parameter in model.parameters()]


def _check_grouping(target: Callable[..., Any], spec: OptimizerSpec) -> None:
    node = spec.node()
    given = [key for key in KEYS if node.get(key)]
    if given and has_model_argument(target):
        problem = f"{_name(target)} is given the whole model, whose parameters it groups itself"
        raise InputError(f"optimizer.{given[0]}", node[given[0]], problem, "Leave it out.")
    names = _option_names(target)
    decays = names is None or "weight_decay" in names
    asked = [name for name, group in spec.groups.items() if group is not None and "weight_decay" in group]
    ours = WeightDecay(mode=spec.wd_mode).is_ours
    decaying = [f"groups.{name}.weight_decay" for name in asked] + (["wd_mode"] if ours else [])
    if decaying and not decays:
        raise InputError(f"optimizer.{decaying[0]}", None, f"{_name(target)} has no weight decay", "Leave it out.")
    if ours and hasattr(target, "eval"):
        problem = f"{_name(target)} keeps the weights that it evaluates apart, and they would not shrink"
        raise InputError("optimizer.wd_mode", spec.wd_mode, problem, "Use wd_mode=lr.")


def _unusable_error(spec: OptimizerSpec, problem: str) -> InputError:
    return InputError("optimizer._target_", spec.target, problem, "Choose another, such as torch.optim.AdamW.")


def _build(target: Callable[..., Optimizer], model: nn.Module, options: Options) -> Optimizer:
    return target(model if has_model_argument(target) else list(model.parameters()), lr=ANY_LR, **options)


def _can_fuse(target: Callable[..., Any], options: Options, model: nn.Module) -> bool:
    """Whether to ask for the fused update: not where the user chose, nor where torch's does not cover the model."""
    names = _option_names(target)
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    floating = all(parameter.is_floating_point() for parameter in model.parameters())
    chosen = any(options.get(name) is not None for name in ("fused", "foreach"))
    special = any(options.get(name) for name in ("capturable", "differentiable"))
    return names is not None and "fused" in names and floating and not (sparse or chosen or special)


def _name(target: Callable[..., Any]) -> str:
    return getattr(target, "__name__", str(target))
