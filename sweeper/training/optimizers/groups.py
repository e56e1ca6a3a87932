"""Parameter groups: which parameters share an LR, that many times the trial's one trace, and a weight decay."""

from __future__ import annotations

import fnmatch
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
    """Parameters of a model, by name, that are trained alike.

    name: of their LR, "lr/<name>"; empty where it is the trace itself, "lr/group0". lr: by which the trace is
    multiplied. weight_decay: None where nothing decays, whatever the numbers of the trial.
    """

    name: str
    parameters: tuple[str, ...]
    lr: float
    weight_decay: float | None


class WeightDecay(NamedTuple):
    """amount, of the optimizer (None: it has none, or none that is on), and what it is multiplied by, as `mode` says.

    The product is the share that an update takes from the weights. "lr": the LR of the update, as torch.optim does.
    "relative": this LR / peak, peak being the largest one of the trial: eta_t lambda without alpha, as in Loshchilov
    and Hutter 2019 (arXiv 1711.05101), algorithm 2, line 12, so that the peak does not move it, but the shape of the
    schedule does. "independent": 1, so that all schedules take the same. With the last two the weights shrink before
    the update of the optimizer, which is built without a weight decay, and no group's LR factor moves it.
    """

    amount: float | None = None
    mode: str = "lr"
    peak: float = 1.0

    @property
    def is_ours(self) -> bool:
        """Whether the trainer does it."""
        return self.mode != "lr"

    def scale(self, lr: Any) -> Any:
        """lr: of the trace, a number or float64 [S]."""
        if self.mode == "lr":
            return lr
        if self.mode == "independent":
            return 0 * lr + 1.0
        return lr / self.peak if self.peak > 0 else 0 * lr


class Grouping(NamedTuple):
    """What a trial's numbers make of a model's parameters."""

    groups: tuple[Group, ...] = ()
    decay: WeightDecay = WeightDecay()


def groups_of(model: nn.Module, spec: OptimizerSpec, weight_decay: float | None) -> tuple[Group, ...]:
    """The groups of a model's trained parameters, those of the trace itself first; frozen ones are in none.

    spec: with the numbers of the trial. weight_decay: of the optimizer, None where nothing decays.
    Which parameters are together does not depend on the numbers. Raises InputError for a group that has no parameters.

    A parameter belongs to the first of `groups` that it matches. Its LR is the group's factor times, with `layer_decay`
    d, d^(layers above it) (Clark et al. 2020, arXiv 2003.10555, section 3.1). Its weight decay is the group's, where it
    says one, else none of the kinds `no_decay`, else the optimizer's.
    """
    asked = {name: group for name, group in spec.groups.items() if group is not None}
    kinds, decay = kinds_of(model), spec.layer_decay
    above = dict.fromkeys(kinds, 0) if decay is None else _layers_above(model)
    layers = max(above.values(), default=0)
    spared = pattern_list(spec.no_decay)
    found: dict[tuple[str, int, bool], list[str]] = {("", 0, False): []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = next((key for key, one in asked.items() if matches(one["match"], name, kinds[name])), "")
        own = "weight_decay" in asked.get(group, REST)
        spare = weight_decay is not None and not own and any(matches(kind, name, kinds[name]) for kind in spared)
        found.setdefault((group, above[name], spare), []).append(name)
    _check_every_group_matches(asked, {group for group, _, _ in found}, model)
    return tuple(
        Group(
            ".".join(filter(None, [group, f"layer{layers - up}" if up else ""])),
            tuple(names),
            float(asked.get(group, REST).get("lr", 1.0)) * (1.0 if decay is None else float(decay) ** up),
            None if spare else _number_or_none(asked.get(group, REST).get("weight_decay", weight_decay)),
        )
        for (group, up, spare), names in found.items()
        if names
    )


def with_lrs(report: Report, grouping: Grouping) -> Report:
    """The report with the LR of each group that has another than the trace, and what the weight decay came to.

    "lr_wd", of the updates since the last report: the sum of `decay.amount` times what it is multiplied by, the LR as
    a rule. A group's own is its LR factor (with "lr") and its weight decay / amount times that.
    """
    lr_S, decay = report.traces["lr/group0"], grouping.decay
    lrs = {f"lr/{group.name}": lr_S * group.lr for group in grouping.groups if group.name}
    taken = {"lr_wd": float(decay.amount * decay.scale(lr_S).sum())} if decay.amount else {}
    return replace(report, traces={**report.traces, **lrs}, sums={**report.sums, **taken})


def _check_every_group_matches(asked: Mapping[str, GroupSpec], found: set[str], model: nn.Module) -> None:
    for name, group in asked.items():
        if name not in found:
            raise unmatched_error(f"optimizer.groups.{name}.match", group["match"], model)


def _number_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)


# --- which parameters --------------------------------------------------------------------------------


def matches(patterns: Any, name: str, kinds: frozenset[str]) -> bool:
    """Whether one of them fits: a kind of KINDS, a parameter, a module (all below it), a glob (`blocks.*.weight`)."""
    return any(
        pattern in kinds
        if pattern in KINDS
        else name == pattern or name.startswith(f"{pattern}.") or fnmatch.fnmatchcase(name, pattern)
        for pattern in pattern_list(patterns)
    )


def unmatched_error(key: str, patterns: Any, model: nn.Module) -> InputError:
    """The error of patterns that no trained parameter fits."""
    tops = dict.fromkeys(name.rpartition(".")[0] or name for name, _ in model.named_parameters())
    shown = ", ".join(list(tops)[:12]) + (", ..." if len(tops) > 12 else "")
    return InputError(key, patterns, "no trained parameter of the model fits", f"There are: {shown}; norm, bias")


def kinds_of(model: nn.Module) -> dict[str, frozenset[str]]:
    """Of each parameter its kinds, of one that several modules share those by all of them."""
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
    """Of each parameter how many layers lie above its own.

    A model may say it itself: `layer_of(name) -> int`, 0 the lowest. Else the layers are its parts in the order they
    were assigned: each child of the model, and in place of a Sequential or a list its own children. Embeddings at the
    beginning are one layer, with the model's own parameters; a normalisation belongs to the part before it.
    """
    names = [name for name, _ in model.named_parameters()]
    own = getattr(model, "layer_of", None)
    if callable(own):
        layer = {name: int(own(name)) for name in names}
    else:
        parts = _numbered_parts(model)
        layer = {name: next((n for part, n in parts if name.startswith(f"{part}.")), 0) for name in names}
    top = max(layer.values(), default=0)
    return {name: top - number for name, number in layer.items()}


def _numbered_parts(model: nn.Module) -> list[tuple[str, int]]:
    """The name of each part, and the number of its layer."""
    numbered: list[tuple[str, int]] = []
    layer, at_the_beginning = 0, True
    for name, part in _parts(model, ""):
        joins = _is_kind(NORM, part) or (at_the_beginning and _is_kind(EMBEDDING, part))
        layer += 1 if numbered and not joins else 0
        at_the_beginning = at_the_beginning and _is_kind(EMBEDDING, part)
        numbered.append((name, layer))
    return numbered


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a model that have parameters, containers opened; a model that is one part, its parts."""
    children = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
    for name, child in children:
        opened = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        wraps = len(children) == 1 and not list(module.named_parameters(recurse=False))
        if opened or (wraps and any(True for _ in child.children())):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
