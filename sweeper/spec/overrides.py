"""What the user types, made into what Hydra understands; and Hydra's errors made into ours. Imports no Hydra.

Hydra merges: `k={choice: [1]}` onto `k={low: 0, high: 1}` gives both, and a list onto a mapping is refused. Here an
override replaces: `k=null` goes before it. A `_target_` replaces the default's options, which another class does not
take: `~pruner` goes before `pruner._target_=my.Pruner`; without a `_target_`, a mapping changes options. And Hydra
refuses keys that the files do not name: hyperparameters of a family or arguments of an optimizer that are left at their
defaults are let through, to be checked by those who know them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.spec.moved import no_such_choice
from sweeper.types import InputError, did_you_mean

CONSTRUCTED = ("data", "model", "task", "optimizer", "pruner", "trainer", "tracking", "search.sampler")  # by _target_
CHECKED_LATER = re.compile(
    r"(schedule\.\w+|optimizer\.groups(\.\w+)?|" + "|".join(map(re.escape, CONSTRUCTED)) + r")\.\w+"
)


def to_hydra(words: Sequence[str], groups: Collection[str]) -> list[str]:
    """Return the words for Hydra: flags first (its parser wants the overrides together), then overrides in order."""
    typed = [word for word in words if ("=" in word and not word.startswith("-")) or word.startswith("~")]
    flags = [word for word in words if word not in typed]
    replaced = [node for node in CONSTRUCTED if any(_replaces(word, node) for word in typed)]
    kept = [word for word in typed if word.lstrip("+").partition("=")[0] not in replaced or _is_mapping(word)]
    return [
        *flags,
        *(f"~{node}" for node in replaced),
        *(given for word in kept for given in _override(word, groups)),
    ]


def _replaces(word: str, node: str) -> bool:
    """Whether an override names another class for a node, so that the options of the default's class mean nothing."""
    key, _, value = word.lstrip("+").partition("=")
    return key == f"{node}._target_" or (key == node and _is_mapping(word) and "_target_" in value)


def _is_mapping(word: str) -> bool:
    return word.partition("=")[2].startswith("{")


def _override(word: str, groups: Collection[str]) -> list[str]:
    """Return one override for Hydra, after `key=null` where its value replaces a mapping or a list.

    What is built by `_target_` is merged instead: its options are changed, or `to_hydra` has emptied it.
    """
    key, _, value = word.partition("=")
    bare = key.lstrip("+")
    if bare in groups and value in ("", "null"):
        raise InputError(bare, value, "not a choice", f"Name a file of conf/{bare}, or leave {bare}= out")
    if key.startswith("~") or bare.startswith("hydra") or (bare in groups and not _is_mapping(word)):
        return [word]
    if bare in CONSTRUCTED:
        return [f"++{bare}={value}"]
    forced = f"++{bare}" if CHECKED_LATER.fullmatch(bare) else key
    cleared = [f"{forced}=null"] if value.startswith(("{", "[")) else []
    return [*cleared, f"{forced}={value}"]


def config_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders that `--config-dir DIR`, `--config-dir=DIR` or `-cd DIR` name."""
    folders = []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            folders.append(Path(value if equals else following))
    return folders


def unknown_key(key: str, siblings: Sequence[str]) -> InputError:
    """Return the error for a key that is not in the configuration. `siblings` are the keys next to it."""
    whole, _, last = key.rpartition(".")
    if whole == "schedule":
        return not_chosen(last, siblings)
    shared = {"peak_lr": "optimizer.peak_lr", "warmup": "warmup"}.get(whole.rpartition(".")[2])
    if whole.startswith("schedule.") and shared:
        return InputError(
            key,
            None,
            f"{whole} is {shared}, which all families share",
            f"Change it for all, {shared}.{last}=..., or replace it, '{whole}={{low: 1e-3, high: 1, log: true}}'",
        )
    return InputError(key, None, "no such key", did_you_mean(last, [one for one in siblings if one != "hydra"]))


def not_chosen(family: str, chosen: Sequence[str]) -> InputError:
    """Return the error for a value of a family that is not chosen."""
    return InputError(
        f"schedule.{family}",
        None,
        "this family is not chosen",
        f"Choose it: 'schedule=[{','.join([*chosen, family])}]'",
    )


def unknown_choice(message: str) -> InputError | None:
    """Return the error for Hydra's "Could not find 'schedule/cosin'", with the choices; None for other messages."""
    missing = re.search(r"Could not find '([^'/]+)/([^']+)'", message)
    if missing is None:
        return None
    group, choice = missing.groups()
    options = re.findall(r"^\t(\w[\w.-]*)$", message, re.MULTILINE)
    return no_such_choice(group, choice, options)


def not_understood(words: Sequence[str], message: str) -> InputError:
    """Return the error for an override that Hydra cannot parse."""
    first = message.splitlines()[0] if message else ""
    word = next((word for word in words if word in message), " ".join(words))
    return InputError(
        "override",
        None,
        f"not understood: {word} ({first})",
        "Write key=value, in quotes if it has spaces, brackets or braces",
    )


def chosen_families(schedules: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """Return the nodes of the chosen families: those with a factor.

    Args:
        schedules: All nodes, by family.
        typed: The overrides that the user typed. One for a family that is not chosen is an error. What a config file
            sets for such a family is ignored, with a line on stderr.
    """
    chosen = {name: node for name, node in schedules.items() if isinstance(node, Mapping) and "factor" in node}
    for name in schedules.keys() - chosen.keys():
        if any(word.lstrip("+").startswith(f"schedule.{name}.") for word in typed):
            raise not_chosen(name, list(chosen))
        print(f"sweeper: schedule.{name} is set, but this family is not chosen: ignored", file=sys.stderr)
    return chosen
