"""What the user types, made into what Hydra understands; and Hydra's errors made into ours. Imports no Hydra.

Hydra merges: `k={choice: [1]}` onto `k={low: 0, high: 1}` gives both, and a list onto a mapping is refused. Here an
override replaces: `k=null` goes before it. A `_target_` replaces the default's options, which another class does not
take: `~pruner` goes before `pruner._target_=my.Pruner`; without a `_target_`, a mapping changes options. And Hydra
refuses keys that the files do not name: hyperparameters of a family or arguments of an optimizer that are left at their
defaults are let through, to be checked by those who know them.

Hydra reads values: 2026 is a number and a,b are two values. Where a text is wanted, the typed text is quoted. What
Hydra would take for something else in silence (a list for a single choice, a family twice) is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.spec import config_files
from sweeper.spec.aliases import similar_key
from sweeper.spec.keys import text_keys
from sweeper.spec.moved import no_such_choice
from sweeper.spec.question import check_name
from sweeper.types import InputError

CONSTRUCTED = ("data", "model", "task", "optimizer", "pruner", "trainer", "tracking", "search.sampler")  # by _target_
MERGED = ("train", "objective", "keep", "search")  # sections: a mapping changes keys
CHECKED_LATER = re.compile(
    r"(schedule\.\w+|optimizer\.groups(\.\w+)?|" + "|".join(map(re.escape, CONSTRUCTED)) + r")\.\w+"
)
CHOICE = re.compile(r"[\w.+-]+")  # the name of a config file
FILES = {".csv": "tabular", ".gz": "tabular", ".parquet": "tabular", ".pq": "tabular", ".txt": "text"}  # of data
HORIZON = ("train.steps", "train.epochs")


def to_hydra(words: Sequence[str], groups: Collection[str]) -> list[str]:
    """Return the words for Hydra: flags first (its parser wants the overrides together), then overrides in order.

    Raises:
        InputError: for the choice of a group that is none.
    """
    typed = [word for word in words if ("=" in word and not word.startswith("-")) or word.startswith("~")]
    flags = [word for word in words if word not in typed]
    multirun = bool({"-m", "--multirun"} & set(flags))
    for word in typed:
        _check_choice(word, groups, multirun=multirun)
    replaced = [node for node in CONSTRUCTED if any(_replaces(word, node) for word in typed)]
    kept = [word for word in typed if _key(word) not in replaced or _is_mapping(word)]
    return [
        *flags,
        *(f"~{node}" for node in replaced),
        *_other_horizon(kept),
        *(given for word in kept for given in _override(_quote_text(word, groups, multirun=multirun), groups)),
    ]


def quoted(text: str) -> str:
    """Return a text in quotes, as Hydra reads it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def _replaces(word: str, node: str) -> bool:
    """Whether an override names another class for a node, so that the options of the default's class mean nothing."""
    value = word.partition("=")[2]
    return _key(word) == f"{node}._target_" or (_key(word) == node and _is_mapping(word) and "_target_" in value)


def _is_mapping(word: str) -> bool:
    return word.partition("=")[2].startswith("{")


def _other_horizon(typed: Sequence[str]) -> Iterator[str]:
    """Yield `train.steps=null` if the user typed the epochs alone, and the reverse: one of them replaces the other."""
    given = {_key(word) for word in typed if word.partition("=")[2] not in ("", "null")} & set(HORIZON)
    mentioned = {_key(word) for word in typed} & set(HORIZON)
    if len(given) == len(mentioned) == 1:
        yield from (f"{key}=null" for key in HORIZON if key not in given)


def _quote_text(word: str, groups: Collection[str], *, multirun: bool) -> str:
    """Return an override with its value in quotes if it is a text, or a choice that Hydra would take for a number."""
    key, _, value = word.partition("=")
    if _key(word) == "schedule" and value.startswith("["):
        return f"{key}=[{','.join(map(_quote_number, value.strip('[]').split(',')))}]"
    is_list = multirun and re.search(r"[,(]", value)
    if not value or value == "null" or value[0] in "'\"[{" or "${" in value or is_list:
        return word
    if _key(word) in groups:
        return f"{key}={_quote_number(value)}"
    return f"{key}={quoted(value)}" if _key(word) in text_keys() else word


def _quote_number(choice: str) -> str:
    """Return a choice in quotes if Hydra would not read it as a text."""
    return quoted(choice.strip()) if re.fullmatch(r"\s*([\d.+e_-]+|true|false|inf|nan)\s*", choice, re.I) else choice


def _override(word: str, groups: Collection[str]) -> list[str]:
    """Return one override for Hydra, after `key=null` where its value replaces a mapping or a list.

    What is built by `_target_` and a section are merged instead: keys are changed, or `to_hydra` has emptied the node.
    """
    key, _, value = word.partition("=")
    bare = key.lstrip("+")
    if key.startswith("~") or bare.startswith("hydra") or (bare in groups and not _is_mapping(word)):
        return [word]
    is_family = re.fullmatch(r"schedule\.[^.]+", bare) is not None and "factor" not in value
    if (bare in CONSTRUCTED and not value.startswith("[")) or (_is_mapping(word) and (bare in MERGED or is_family)):
        return [f"++{bare}={value}"]
    forced = f"++{bare}" if bare in CONSTRUCTED or CHECKED_LATER.fullmatch(bare) else key
    cleared = [f"{forced}=null"] if value.startswith(("{", "[")) else []
    return [*cleared, f"{forced}={value}"]


def _check_choice(word: str, groups: Collection[str], *, multirun: bool) -> None:
    """Raise InputError for a choice of a group that is none, or that Hydra would take for something else."""
    group, value = _key(word), word.partition("=")[2]
    if group not in groups or (multirun and re.search(r"[,(]", value)) or "${" in value:
        return
    unquoted = value.strip("'\"")
    if unquoted in ("", "null"):
        raise InputError(group, value, "not a choice", f"Name a file of conf/{group}, or leave {group}= out")
    if group == "schedule":
        _check_families(value)
    elif value.startswith("["):
        names = value.strip("[]")
        remedy = f"Compare them with a multirun: -m {group}={names}" if "," in names else f"Write {group}={names}"
        raise InputError(group, value, "a list, but it is one choice", remedy)
    elif group == "experiment" and _is_mapping(word):
        raise InputError(group, value, "a mapping, not a choice", "Name a file of conf/experiment")
    elif "," in value and not _is_mapping(word):
        raise InputError(group, value, "several choices", f"Compare them with a multirun: -m {group}={value}")
    elif group == "data" and Path(value).suffix in FILES:
        remedy = f"Write data={FILES[Path(value).suffix]} data.path={value}"
        raise InputError(group, value, "a file, not a choice", remedy)
    elif not _is_mapping(word) and not CHOICE.fullmatch(unquoted):
        raise InputError(group, value, "not the name of a config file", f"Name a file of conf/{group}")


def _check_families(value: str) -> None:
    """Raise InputError for a value of `schedule` that is neither a name nor a list of different names."""
    names = [name.strip().strip("'\"") for name in value.strip("[]").split(",")]
    if value.startswith("{"):
        remedy = "Write schedule=cosine schedule.cosine.decay=0.1"
        raise InputError("schedule", value, "a mapping, but it is the name of a family or a list of names", remedy)
    if value.startswith("[") != value.endswith("]") or value.startswith("[["):
        raise InputError("schedule", value, "not a list of names", "Write 'schedule=[cosine,wsd]'")
    if names == [""]:
        return  # `schedule=[]`: no family is chosen, which is reported later
    wrong = next((name for name in names if not CHOICE.fullmatch(name)), None)
    if wrong is not None:
        raise InputError(
            "schedule", value, "not the name of a family", "Write schedule=cosine or 'schedule=[cosine,wsd]'"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        remedy = f"Name it once: 'schedule=[{','.join(dict.fromkeys(names))}]'"
        raise InputError("schedule", value, f"{twice} is named twice", remedy)
    if len(names) > 1 and not value.startswith("["):
        remedy = f"Write 'schedule=[{','.join(names)}]' to compare them in one sweep"
        raise InputError("schedule", value, "several families, but not in brackets", remedy)


def config_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders that `--config-dir DIR`, `--config-dir=DIR` or `-cd DIR` name."""
    folders = []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            folders.append(Path(value if equals else following))
    return folders


def unknown_key(key: str, siblings: Sequence[str], paths: Collection[str] = ()) -> InputError:
    """Return the error for a key that is not in the configuration.

    Args:
        key: Its path.
        siblings: The keys next to it.
        paths: The paths of all keys.
    """
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
    beside = [one for one in siblings if one != "hydra"]
    is_family = f"schedule.{key.partition('.')[0]}" in paths
    remedy = f"Did you mean schedule.{key}?" if is_family else similar_key(last, beside, paths)
    return InputError(key, None, "no such key", remedy)


def not_chosen(family: str, chosen: Sequence[str]) -> InputError:
    """Return the error for a value of a family that is not chosen."""
    return InputError(
        f"schedule.{family}",
        None,
        "this family is not chosen",
        f"Choose it: 'schedule=[{','.join([*chosen, family])}]'",
    )


def unknown_choice(message: str, folders: Sequence[Path] = ()) -> InputError | None:
    """Return the error for Hydra's "Could not find 'schedule/cosin'", with the choices; None for other messages.

    Args:
        message: Hydra's. It lists no choices for a name in a list.
        folders: The user's own config folders.
    """
    missing = re.search(r"Could not (?:find|load) '([^'/]+)/([^']+)'", message)
    if missing is None:
        return None
    group, choice = missing.groups()
    options = re.findall(r"^\t(\w[\w.-]*)$", message, re.MULTILINE) or config_files.choices(group, folders)
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
    for name, node in schedules.items():
        check_name("schedule", str(name))
        if not isinstance(node, Mapping):
            problem = "not a mapping of hyperparameters"
            remedy = f"Write schedule.{name}.decay=0.1, or 'schedule.{name}={{decay: 0.1}}'"
            raise InputError(f"schedule.{name}", "null" if node is None else node, problem, remedy)
    chosen = {name: node for name, node in schedules.items() if "factor" in node}
    for name in schedules.keys() - chosen.keys():
        if any(re.match(rf"schedule\.{re.escape(name)}[.=]", word.lstrip("+")) for word in typed):
            raise not_chosen(name, list(chosen))
        print(f"sweeper: schedule.{name} is set, but this family is not chosen: ignored", file=sys.stderr)
    return chosen
