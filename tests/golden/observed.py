"""Readings of a sweep for the golden record, without times and ids, and their comparison."""

import json
import math
import platform
import re
import sqlite3
from contextlib import closing

import yaml

# x86 processors with AVX2 agree to the nine recorded digits. Others round the initial weights, drawn in float32,
# differently in the last bit. In these trainings that grows to 5e-6 and changes no decision.
RELATIVE, ABSOLUTE = (1e-6, 1e-9) if platform.machine() in ("x86_64", "AMD64") else (1e-4, 1e-6)
DIGITS = 9  # recorded
PASSING = ("id", "version", "machines", "worker_id", "crc")  # keys of a run or a machine, not of the sweep
NUMBER = re.compile(r"(-?\d+\.\d+(?:e[+-]?\d+)?)")


def plain(tree):
    """Return the tree as JSON without times, ids and missing values. Floats have DIGITS digits."""
    if isinstance(tree, dict):
        kept = {str(key): plain(value) for key, value in tree.items() if not _is_passing(str(key))}
        return {key: value for key, value in kept.items() if value is not None}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    if isinstance(tree, str) and tree.startswith("{"):  # JSON within JSON
        return plain(json.loads(tree))
    if hasattr(tree, "item"):  # a NumPy scalar
        return plain(tree.item())
    if isinstance(tree, float):
        return None if math.isnan(tree) else float(f"{tree:.{DIGITS}g}")
    return tree if isinstance(tree, bool | int | str) else None


def _is_passing(key):
    return key in PASSING or key.startswith(("seconds", "datetime"))


def config(folder):
    """Return the stored configuration of the sweep."""
    return plain(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))


def journal(folder):
    """Return the lines of the journal, without those that hold only times.

    A distribution is repeated with every value. After its first line, its index replaces it.
    """
    lines = (folder / "journal.log").read_text(encoding="utf-8").splitlines()
    logs = [plain(log) for log in map(json.loads, lines) if "clock" not in log.get("user_attr", {})]
    seen = []
    for log in logs:
        if "distribution" in log and log["distribution"] in seen:
            log["distribution"] = seen.index(log["distribution"])
        elif "distribution" in log:
            seen.append(log["distribution"])
    return logs


def files(folder):
    """Return the paths of all files in the folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def tables(sweep):
    """Return the tables of a loaded sweep."""
    return {name: plain(getattr(sweep, name).to_dict("records")) for name in ("trials", "families")}


def one_trial(sweep, trial):
    """Return everything logged for the trial, and its planned LRs."""
    trace = {name: plain(column.tolist()) for name, column in sweep.trace(trial).items()}
    return {"trial": trial, "trace": trace, "lr": plain(sweep.lr(trial).tolist())}


def in_mlflow(database):
    """Return, for each role, the number of runs and the names of their params, metrics and tags."""
    contents = {}
    with closing(sqlite3.connect(database)) as connection:
        roles = dict(connection.execute("select run_uuid, value from tags where key = 'sweep.role'"))
        for role in roles.values():
            contents.setdefault(role, {"runs": 0, "params": set(), "metrics": set(), "tags": set()})["runs"] += 1
        for kind in ("params", "metrics", "tags"):
            for run, key in connection.execute(f"select run_uuid, key from {kind}"):
                contents[roles[run]][kind].add(key)
    return {
        role: {kind: sorted(of_kind) if isinstance(of_kind, set) else of_kind for kind, of_kind in of_role.items()}
        for role, of_role in contents.items()
    }


def differences(before, now, path=""):
    """Return one line for each difference between two readings. Numbers may differ by rounding."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        pairs = [(f"{path}.{key}", before.get(key), now.get(key)) for key in keys]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(f"{path}[{place}]", *pair) for place, pair in enumerate(zip(before, now, strict=True))]
    else:
        return [] if _same(before, now) else [f"{path}: {_short(before)} recorded, {_short(now)} now"]
    return [line for where, one, other in pairs for line in differences(one, other, where)]


def _same(before, now):
    if isinstance(before, str) and isinstance(now, str):
        one, other = NUMBER.split(before), NUMBER.split(now)
        return len(one) == len(other) and all(map(_same_piece, one, other))
    if isinstance(before, float) or isinstance(now, float):
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, now))
        return numbers and math.isclose(before, now, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(before) is type(now) and before == now


def _same_piece(before, now):
    """Compare pieces of a text. Words must be equal; a printed number may differ by one in its last digit."""
    if not (NUMBER.fullmatch(before) and NUMBER.fullmatch(now)):
        return before == now
    decimals = len(before.partition("e")[0].partition(".")[2])
    scale = 10.0 ** int(before.partition("e")[2] or 0)
    return math.isclose(float(before), float(now), rel_tol=RELATIVE, abs_tol=1.01 * scale * 10.0**-decimals)


def _short(value):
    text = json.dumps(value)
    if isinstance(value, list):
        return f"{len(value)} of {text[:80]}..."
    return text if len(text) < 120 else f"{text[:120]}..."


def text(tree, indent=""):
    """Return JSON in lines of readable length, so that a difference shows in few lines."""
    short = json.dumps(tree, ensure_ascii=False)
    if not isinstance(tree, dict | list) or len(indent) + len(short) <= 110:
        return short
    if isinstance(tree, list) and not any(isinstance(value, dict | list) for value in tree):
        return short
    items = (
        [f"{indent} {json.dumps(key)}: {text(value, indent + ' ')}" for key, value in tree.items()]
        if isinstance(tree, dict)
        else [f"{indent} {text(value, indent + ' ')}" for value in tree]
    )
    opening, closing = "{}" if isinstance(tree, dict) else "[]"
    return f"{opening}\n" + ",\n".join(items) + f"\n{indent}{closing}"
