"""An optimizer's node: what is parsed of it, what is refused, and that digests of stored checkpoints stay theirs."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.training.optimizers.spec import (
    OptimizerSpec,
    parse_optimizer,
    searched_options,
    without_idle_keys,
)
from sweeper.training.recipe import Recipe
from sweeper.types import InputError

SPAN = {"low": 0.1, "high": 1}
ADAMW = {
    "_target_": "torch.optim.AdamW",
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "no_decay": ["norm", "bias"],
}

PLAIN = "('_target_', 'torch.optim.AdamW'), ('betas', [0.9, 0.999]), ('eps', 1e-08)"
STORED: dict[str, tuple[dict[str, Any], str]] = {  # and what the digests of checkpoints have had of it
    "plain": (ADAMW, f"[{PLAIN}, ('no_decay', ['norm', 'bias']), ('weight_decay', 0.01)]"),
    "idle keys": (
        {**ADAMW, "groups": {}, "layer_decay": None, "no_decay": [], "wd_mode": "lr"},
        f"[{PLAIN}, ('weight_decay', 0.01)]",
    ),
    "a group that is off": (
        {**ADAMW, "groups": {"head": None}},
        f"[{PLAIN}, ('groups', {{}}), ('no_decay', ['norm', 'bias']), ('weight_decay', 0.01)]",
    ),
    "in another order": (
        {
            "wd_mode": "relative",
            "groups": {"b": {"lr": 10, "match": "x"}, "a": {"match": ["norm", "*.bias"], "weight_decay": SPAN}},
            "eps": 1e-8,
            "_target_": "torch.optim.AdamW",
            "weight_decay": SPAN,
            "betas": (0.9, 0.99),
        },
        "[('_target_', 'torch.optim.AdamW'), ('betas', (0.9, 0.99)), ('eps', 1e-08), "
        "('groups', {'b': {'lr': 10, 'match': 'x'}, 'a': {'match': ['norm', '*.bias']}}), ('wd_mode', 'relative')]",
    ),
    "everything searched": (
        {
            **ADAMW,
            "groups": {"a": {"match": "x", "lr": SPAN}, "c": None},
            "layer_decay": {"choice": [0.5, 0.9]},
            "no_decay": {"choice": ["norm", "bias"]},
            "wd_mode": {"choice": ["lr", "relative"]},
        },
        f"[{PLAIN}, ('groups', {{'a': {{'match': 'x'}}}}), ('weight_decay', 0.01)]",
    ),
    "every kind of value": (
        {**ADAMW, "no_decay": "norm", "layer_decay": 0.75, "amsgrad": True, "foreach": None},
        "[('_target_', 'torch.optim.AdamW'), ('amsgrad', True), ('betas', [0.9, 0.999]), ('eps', 1e-08), "
        "('foreach', None), ('layer_decay', 0.75), ('no_decay', 'norm'), ('weight_decay', 0.01)]",
    ),
}


@pytest.mark.parametrize("name", list(STORED))
def test_digests_of_stored_checkpoints_have_the_node_as_it_was(name: str) -> None:
    node, stored = STORED[name]
    spec = parse_optimizer(without_idle_keys(node))
    assert repr(Recipe(spec, 16).settings[-1]) == stored


def test_a_constructor_takes_tuples_where_the_configuration_has_lists() -> None:
    spec = parse_optimizer(ADAMW)
    assert spec.arguments == {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    assert spec.options["betas"] == [0.9, 0.999]


def test_searched_options_have_paths_and_are_put_back() -> None:
    node = {
        "_target_": "torch.optim.SGD",
        "weight_decay": SPAN,
        "groups": {"last": {"match": "head", "lr": SPAN}, "a": {"match": "b"}},
    }
    assert searched_options(node) == {"weight_decay": SPAN, "groups.last.lr": SPAN}
    spec = parse_optimizer(node)
    assert spec == OptimizerSpec("torch.optim.SGD", groups={"last": {"match": "head"}, "a": {"match": "b"}})
    assert spec.with_options({"groups.last.lr": 0.5, "weight_decay": 1, "layer_decay": 0.5}) == OptimizerSpec(
        "torch.optim.SGD",
        {"weight_decay": 1},
        {"last": {"match": "head", "lr": 0.5}, "a": {"match": "b"}},
        layer_decay=0.5,
    )
    assert spec.groups["last"] == {"match": "head"}  # nothing was changed


REFUSED: dict[str, dict[str, Any]] = {
    "optimizer.wd_mode=own: no such mode. Choose one of lr, relative, independent": {"wd_mode": "own"},
    "optimizer.layer_decay=0: must be a positive number. Use for example 0.75, or null": {"layer_decay": 0},
    "optimizer.groups.last.lrs=2: no such option of a group. Did you mean lr?": {
        "groups": {"last": {"match": "head", "lrs": 2}}
    },
    "optimizer.groups.last={lr: 2}: has no `match`. Use for example {match: last, lr: 10}": {
        "groups": {"last": {"lr": 2}}
    },
    "optimizer.groups.last=2: has no `match`. Use for example {match: last, lr: 10}": {"groups": {"last": 2}},
    "optimizer.groups.group1: not a valid name of a group. Use letters, digits and _, such as head": {
        "groups": {"group1": {"match": "head"}}
    },
    "optimizer.groups=head: must be groups by name. Use for example {head: {match: last, lr: 10}}": {"groups": "head"},
    "optimizer.eps={1}: a set is not a plain value. Use a number, a word, true, false, null or a list": {"eps": {1}},
}


@pytest.mark.parametrize("sentence", list(REFUSED))
def test_the_sentence_names_the_key_and_the_way_out(sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_optimizer({"_target_": "torch.optim.SGD", **REFUSED[sentence]})
    assert str(caught.value) == sentence
