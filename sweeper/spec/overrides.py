"""What a person types, made into what Hydra understands; and Hydra's errors made into ours. Imports no Hydra.

Hydra merges: `k={choice: [1]}` onto `k={low: 0, high: 1}` gives both, and a list onto a mapping is refused. Here an
override replaces: `k=null` goes before it. And Hydra refuses keys that the files do not name: numbers of a family
or arguments of an optimizer that are left at their defaults are let through, to be checked by those who know them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from sweeper.types import InputError, did_you_mean

CHECKED_LATER = re.compile(r"(schedule\.\w+|optimizer(\.groups(\.\w+)?)?|model|data|pruner|trainer|tracking)\.\w+")
NOT_IN_ALL = ("range_test", "knots", "wall_time")  # a measurement, a free form, and one that needs a person's budget


def rewritten(words: Sequence[str], groups: Collection[str]) -> list[str]:
    """What Hydra is given: flags first (its parser wants the overrides together), then the overrides in order."""
    typed = [word for word in words if ("=" in word and not word.startswith("-")) or word.startswith("~")]
    flags = [word for word in words if word not in typed]
    return [*flags, *(given for word in typed for given in _override(word, groups))]


def _override(word: str, groups: Collection[str]) -> list[str]:
    """One override, preceded by `k=null` where its value is a mapping or a list; config groups are left alone."""
    key, _, value = word.partition("=")
    bare = key.lstrip("+")
    if key.startswith("~") or bare in groups or bare.startswith("hydra"):
        return [word]
    forced = f"++{bare}" if CHECKED_LATER.fullmatch(bare) else key
    cleared = [f"{forced}=null"] if value.startswith(("{", "[")) else []
    return [*cleared, f"{forced}={value}"]


def families(folders: Iterable[Path]) -> list[str]:
    """Names of the families in those `schedule/` folders: files whose one key is their own name."""
    names = set()
    for folder in folders:
        for path in folder.glob("schedule/*.yaml"):
            if re.search(rf"^{re.escape(path.stem)}:", path.read_text(encoding="utf-8"), re.MULTILINE):
                names.add(path.stem)
    return sorted(names - set(NOT_IN_ALL))


def config_folders(words: Sequence[str]) -> list[Path]:
    """The folders that `--config-dir DIR`, `--config-dir=DIR` or `-cd DIR` name."""
    found = []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            found.append(Path(value if equals else following))
    return found


def unknown_key(key: str, siblings: Sequence[str]) -> InputError:
    """`key` is not in the configuration; siblings: the keys there are beside it."""
    whole, _, last = key.rpartition(".")
    if whole == "schedule":
        return not_chosen(last, siblings)
    shared = {"peak_lr": "optimizer.peak_lr", "warmup": "warmup"}.get(whole.rpartition(".")[2])
    if whole.startswith("schedule.") and shared:
        return InputError(
            key,
            None,
            f"{whole} stands for {shared}, which all families share",
            f"Change it for all, {shared}.{last}=...; or replace it whole, '{whole}={{low: 1e-3, high: 1, log: true}}'",
        )
    return InputError(key, None, "no such key", did_you_mean(last, [one for one in siblings if one != "hydra"]))


def not_chosen(family: str, chosen: Sequence[str]) -> InputError:
    """Something is set for a family that does not take part."""
    return InputError(
        f"schedule.{family}",
        None,
        "this family is not chosen",
        f"Choose it: 'schedule=[{','.join([*chosen, family])}]'",
    )


def unknown_choice(message: str) -> InputError | None:
    """Hydra's "Could not find 'schedule/cosin'", with the choices there are."""
    missing = re.search(r"Could not find '([^'/]+)/([^']+)'", message)
    if missing is None:
        return None
    group, choice = missing.groups()
    options = re.findall(r"^\t(\w[\w.-]*)$", message, re.MULTILINE)
    return InputError(group, choice, "no such choice", did_you_mean(choice, options))


def not_understood(words: Sequence[str], message: str) -> InputError:
    """An override that is no override."""
    first = message.splitlines()[0] if message else ""
    word = next((word for word in words if word in message), " ".join(words))
    return InputError(
        "override",
        None,
        f"not understood: {word} ({first})",
        "Write key=value, in quotes if it has spaces, brackets or braces",
    )


def orphans(schedules: Mapping[str, object]) -> list[str]:
    """Families for which something is set though they do not take part: nodes without a factor."""
    return [name for name, node in schedules.items() if not isinstance(node, Mapping) or "factor" not in node]
