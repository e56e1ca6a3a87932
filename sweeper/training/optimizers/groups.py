"""Parameter groups: parameters that share a factor of the trial's LR and a weight decay."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from sweeper.training.optimizers.spec import GroupSpec, OptimizerSpec, pattern_list
from sweeper.types import InputError, Report

REST: GroupSpec = {"match": ()}  # the parameters that are in no group
NORM, EMBEDDING = re.compile(r"Norm(\dd)?$"), re.compile(r"Embedding(Bag)?$")  # classes of modules
BIAS = re.compile(r"(^|_)bias(_|$)")  # names of parameters
KINDS = ("norm", "embedding", "bias")


class Group(NamedTuple):
    """Parameters of a model that share their LR and weight decay.

    Attributes:
        name: Their LR is logged as "lr/<name>". It is empty if their LR is that of the trial, "lr/group0".
        parameters: Names of the parameters.
        lr: Factor of the trial's LR.
        weight_decay: None if these parameters have no weight decay in any trial.
    """

    name: str
    parameters: tuple[str, ...]
    lr: float
    weight_decay: float | None


class WeightDecay(NamedTuple):
    """Weight decay of a trial. An update shrinks the weights by `amount` times a scale that depends on `mode`.

    The scale is one of:

    - "lr": the LR of the update, as in torch.optim.
    - "relative": the LR of the update / peak, so it depends on the shape of the schedule, but not on its peak.
    - "independent": 1, so it is the same for all schedules.

    In the modes "relative" and "independent", the trainer shrinks the weights before the update of the optimizer, which
    is built without weight decay. The LR factors of groups then have no effect on it.

    Source: "relative" is eta_t lambda (without alpha) of Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2,
    line 12.

    Attributes:
        amount: Weight decay of the optimizer; None if it has none or if it is off.
        mode: One of spec.MODES.
        peak: The largest LR of the trial.
    """

    amount: float | None = None
    mode: str = "lr"
    peak: float = 1.0

    @property
    def is_ours(self) -> bool:
        """Whether the trainer applies it, not the optimizer."""
        return self.mode != "lr"

    def scale(self, lr: Any) -> Any:
        """Return the scale of `amount` for LRs of the trial, a number or float64 [S]."""
        if self.mode == "lr":
            return lr
        if self.mode == "independent":
            return 0 * lr + 1.0
        return lr / self.peak if self.peak > 0 else 0 * lr


class Grouping(NamedTuple):
    """Parameter groups and weight decay of a trial's model."""

    groups: tuple[Group, ...] = ()
    decay: WeightDecay = WeightDecay()


def groups_of(model: nn.Module, spec: OptimizerSpec, weight_decay: float | None) -> tuple[Group, ...]:
    """Return the groups of a model's trained parameters. The group with the trial's own LR is first.

    A parameter belongs to the first of `spec.groups` that it matches. Frozen parameters are in no group. The LR of a
    parameter is multiplied by the factor of its group and, with `layer_decay` d, by d^(layers above it). A group may
    set the weight decay of its parameters. All others have that of the optimizer, or none if they match `no_decay`.
    Which parameters share a group does not depend on the hyperparameters of the trial.

    Source: layer decay, Clark et al. 2020, arXiv 2003.10555, section 3.1.

    Args:
        model: The model.
        spec: The optimizer with the hyperparameters of the trial.
        weight_decay: Weight decay of the optimizer; None if it is off.

    Raises:
        InputError: If a group matches no trained parameter, or the LR factor of a layer is 0 or infinite.
    """
    specs = {name: group for name, group in spec.groups.items() if group is not None}
    kinds, decay = kinds_of(model), spec.layer_decay
    above = dict.fromkeys(kinds, 0) if decay is None else _layers_above(model)
    layers = max(above.values(), default=0)
    no_decay = pattern_list(spec.no_decay)
    members: dict[tuple[str, int, bool], list[str]] = {("", 0, False): []}  # by group, layers above, no weight decay
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = next((key for key, one in specs.items() if matches(one["match"], name, kinds[name])), "")
        sets_decay = "weight_decay" in specs.get(group, REST)
        is_spared = weight_decay is not None and not sets_decay and matches(no_decay, name, kinds[name])
        members.setdefault((group, above[name], is_spared), []).append(name)
    _check_every_group_matches(specs, {group for group, _, _ in members}, model)
    return tuple(
        Group(
            ".".join(filter(None, [group, f"layer{layers - up}" if up else ""])),
            tuple(names),
            float(specs.get(group, REST).get("lr", 1.0)) * (1.0 if decay is None else _layer_factor(decay, up)),
            None if is_spared else _number_or_none(specs.get(group, REST).get("weight_decay", weight_decay)),
        )
        for (group, up, is_spared), names in members.items()
        if names
    )


def _layer_factor(decay: float, up: int) -> float:
    """Return decay^up. InputError if that is 0 or infinite in float64."""
    try:
        factor = float(decay) ** up
    except OverflowError:
        factor = math.inf
    if factor in (0, math.inf):
        problem = f"the LR of {up} layers below the last would be multiplied by {factor:g}"
        raise InputError("optimizer.layer_decay", decay, problem, "Choose a value nearer to 1")
    return factor


def with_lrs(report: Report, grouping: Grouping) -> Report:
    """Return the report with the LR of each group that differs from the trial's, and the total weight decay.

    The total "lr_wd" is the sum of `decay.amount` times its scale (usually the LR) over the updates since the previous
    report. To get the total of a group, multiply it by the group's weight decay / amount, and in mode "lr" by its LR
    factor.
    """
    lr_S, decay = report.traces["lr/group0"], grouping.decay
    lrs = {f"lr/{group.name}": lr_S * group.lr for group in grouping.groups if group.name}
    total = {"lr_wd": float(decay.amount * decay.scale(lr_S).sum())} if decay.amount else {}
    return replace(report, traces={**report.traces, **lrs}, sums={**report.sums, **total})


def _check_every_group_matches(specs: Mapping[str, GroupSpec], matched: set[str], model: nn.Module) -> None:
    for name, group in specs.items():
        if name not in matched:
            raise unmatched_error(f"optimizer.groups.{name}.match", group["match"], model)


def _number_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)


# --- which parameters --------------------------------------------------------------------------------


def matches(patterns: Any, name: str, kinds: frozenset[str]) -> bool:
    """Return whether a parameter matches one of the patterns.

    Args:
        patterns: One or several: a kind of KINDS, a parameter, a module (for all parameters in it), or a glob
            (`blocks.*.weight`).
        name: Name of the parameter.
        kinds: Kinds of the parameter.
    """
    return any(
        pattern in kinds
        if pattern in KINDS
        else name == pattern or name.startswith(f"{pattern}.") or fnmatch.fnmatchcase(name, pattern)
        for pattern in pattern_list(patterns)
    )


def unmatched_error(key: str, patterns: Any, model: nn.Module) -> InputError:
    """Return the error for patterns that match no trained parameter."""
    modules = dict.fromkeys(name.rpartition(".")[0] or name for name, _ in model.named_parameters())
    names = ", ".join(list(modules)[:12]) + (", ..." if len(modules) > 12 else "")
    remedy = f"Choose from {names}, or the kinds norm, bias and embedding"
    return InputError(key, patterns, "matches no trained parameter of the model", remedy)


def kinds_of(model: nn.Module) -> dict[str, frozenset[str]]:
    """Return the kinds of each parameter. A shared parameter has the kinds from all its modules."""
    seen: dict[int, set[str]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            fits = (_is_kind(NORM, module), _is_kind(EMBEDDING, module), BIAS.search(name))
            kinds = {kind for kind, fit in zip(KINDS, fits, strict=True) if fit}
            seen.setdefault(id(parameter), set()).update(kinds)
    return {name: frozenset(seen[id(parameter)]) for name, parameter in model.named_parameters()}


def _is_kind(kind: re.Pattern[str], module: nn.Module) -> bool:
    return kind.search(type(module).__name__) is not None


# --- layers ------------------------------------------------------------------------------------------


def _layers_above(model: nn.Module) -> dict[str, int]:
    """Return for each parameter how many layers are above its own.

    A model may define it by `layer_of(name) -> int`, with 0 for the lowest layer. Otherwise the layers are the children
    of the model in the order of assignment. The children of a Sequential or a list count instead of it. Embeddings at
    the start are one layer, together with the model's own parameters. A normalization belongs to the layer before it.
    """
    names = [name for name, _ in model.named_parameters()]
    layer_of = getattr(model, "layer_of", None)
    if callable(layer_of):
        layer = {name: int(layer_of(name)) for name in names}
    else:
        parts = _numbered_parts(model)
        layer = {name: next((n for part, n in parts if name.startswith(f"{part}.")), 0) for name in names}
    top = max(layer.values(), default=0)
    return {name: top - number for name, number in layer.items()}


def _numbered_parts(model: nn.Module) -> list[tuple[str, int]]:
    """Return the name of each part and the number of its layer."""
    numbered: list[tuple[str, int]] = []
    layer, is_at_start = 0, True
    for name, part in _parts(model, ""):
        joins = _is_kind(NORM, part) or (is_at_start and _is_kind(EMBEDDING, part))
        layer += 1 if numbered and not joins else 0
        is_at_start = is_at_start and _is_kind(EMBEDDING, part)
        numbered.append((name, layer))
    return numbered


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a model that have parameters. Containers and single children are replaced by their parts."""
    children = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
    for name, child in children:
        is_container = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        is_wrapped = len(children) == 1 and not list(module.named_parameters(recurse=False))
        if is_container or (is_wrapped and any(True for _ in child.children())):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
