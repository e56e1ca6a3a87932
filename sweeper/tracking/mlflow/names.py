"""Names and colors that identify runs at a glance: a short name, and the color of the family."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sweeper.text.colors import kin_of
from sweeper.types import Value

# MLflow draws no dashed lines, so related families have shades of one color. Of the baselines, the untuned one is gray
# and the tuned one black.
GRAY = {"default_lr": "#8c8c8c"}
# Negative: towards black. Positive: towards white. The last shade is for the user's own families.
SHADES = (0.0, -0.4, 0.45, -0.65, 0.25)
SHORT = {"peak_lr": "lr", "warmup": "wu"}
SHARES = ("warmup", "cycle")  # fractions of a run, in percent


def run_name(
    family: str,
    number: int,
    params: Mapping[str, Value],
    hparams: Mapping[str, Value] | None = None,
    searched: Sequence[str] = (),
) -> str:
    """Return the name of a trial's run: `cosine:38 lr=.034 wu=17%`, then what else is searched (`wd=.01 decay=.1`).

    MLflow's list shows about 18 characters, so what distinguishes trials comes first.

    Args:
        family: Name of the family.
        number: Number of the trial.
        params: Hyperparameters of the schedule.
        hparams: Other hyperparameters by config path. They come before those of the schedule.
        searched: Names of the searched hyperparameters.
    """
    outside, inside = dict(hparams or {}), {name: params[name] for name in params if name not in SHORT}
    values = {name: params[name] for name in SHORT if name in params}
    values |= {name: value for name, value in (outside | inside).items() if name in searched}
    words = [
        f"{_abbreviate(name)}={_format_value(name, value)}"
        for name, value in values.items()
        if _is_informative(name, value)
    ]
    return " ".join([f"{family}:{number}", *words])


def run_color(family: str) -> str:
    """Return the color of a family's runs, always the same."""
    main, place = kin_of(family)
    return GRAY.get(family) or _shade(main, SHADES[place])


def _is_informative(name: str, value: object) -> bool:
    """Return whether a value is worth showing. No warmup is not."""
    return value is not None and not (name == "warmup" and value == 0)


def _abbreviate(name: str) -> str:
    """Return a short name: lr, wu; optimizer.weight_decay: wd; optimizer.groups.head.lr: head.lr."""
    if name.startswith("optimizer.groups."):
        return name.removeprefix("optimizer.groups.")
    last = name.rpartition(".")[2]
    return SHORT.get(name) or ("".join(word[:1] for word in last.split("_")) if "_" in last else last)


def _format_value(name: str, value: object) -> str:
    """Return a number in two digits, as short as possible: .034, 3.4e-5, 17%."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if name in SHARES:
        return f"{100 * value:.2g}%"
    return re.sub(r"e-0", "e-", re.sub(r"^0\.", ".", f"{value:.2g}"))


def _shade(color: str, share: float) -> str:
    """Return a color mixed with white, or with black if `share` is negative."""
    end = 255 if share > 0 else 0
    parts = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(share) * (end - part)):02x}" for part in parts)
