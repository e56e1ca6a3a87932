"""The closed form of a trial's LR (and momentum) as the source of functions of the update."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.export.dialects import JAX, KERAS, PYTHON, Dialect, translate
from sweeper.export.formulas import OF_FACTOR, OF_MOMENTUM, Formula
from sweeper.export.writer import UPDATES, Writer, begin_ramp, end_ramp, hold_epochs
from sweeper.schedules.trace import complete
from sweeper.types import Family, Value

WORD = re.compile(r"[A-Za-z]\w*")
STANDARD = ("bisect", "itertools", "math", "re")
HELD = "After the run it stays at its last value."


@dataclass(frozen=True)
class ClosedForm:
    """A trial's LR and momentum as functions of the update, in text that `dialects` translates.

    Attributes:
        constants: Text of each constant by its name, in order.
        lr: Names and texts of the variables of `lr`, and its value last, under "".
        momentum: The same of `momentum`; None if the optimizer's momentum is constant.
    """

    constants: Mapping[str, str]
    lr: Mapping[str, str]
    momentum: Mapping[str, str] | None = None


def closed_form(family: Family, params: Mapping[str, Value], steps: int, epoch: float | None) -> ClosedForm | None:
    """Return the closed form of a trial.

    Args:
        family: Its family.
        params: The hyperparameters of its schedule.
        steps: Updates of the run.
        epoch: Updates of an epoch if each LR is held through one, else None.

    Returns:
        None if it has none: the schedule is reactive, or its factor is the user's own.
    """
    formula = OF_FACTOR.get(family.factor)
    momentum = None if family.momentum is None else OF_MOMENTUM.get(family.momentum)
    if formula is None or family.controller is not None or (family.momentum is not None and momentum is None):
        return None
    params = complete(family, params)
    constants = {"STEPS": str(steps)}
    Writer(params, constants=constants).number("peak_lr")
    lr = _written(formula, params, epoch, constants, with_ramp=True)
    lr[""] = "PEAK_LR" if lr[""] == "1.0" else f"PEAK_LR * ({lr['']})"
    cycled = None if momentum is None else _written(momentum, params, epoch, constants, with_ramp=False)
    texts = [*lr.values(), *(cycled or {}).values()]
    return ClosedForm({"STEPS": str(steps), **_needed(constants, texts)}, lr, cycled)


def _written(
    formula: Formula, params: Mapping[str, Value], epoch: float | None, constants: dict[str, str], *, with_ramp: bool
) -> dict[str, str]:
    """Return the variables of a function and its value, and add its constants. Momentum holds during a ramp."""
    w = Writer(params, constants=constants)
    hold_epochs(w, epoch)
    ramp = begin_ramp(w)
    value = formula(w)
    whole = end_ramp(w, ramp, value) if with_ramp else value
    return {**_needed(w.lines, [whole]), "": whole}


def _needed(named: Mapping[str, str], texts: Sequence[str]) -> dict[str, str]:
    """Return the texts that others name, directly or through each other, in their order."""
    words = set(WORD.findall(" ".join(texts)))
    needed: dict[str, str] = {}
    for name, text in reversed(list(named.items())):
        if name in words:
            needed = {name: text, **needed}
            words.update(WORD.findall(text))
    return needed


# --- source -----------------------------------------------------------------------------------------


def python_source(form: ClosedForm, imports: Sequence[str] = ()) -> str:
    """Return a file that needs no package but those of `imports`, lines such as "import torch"."""
    return _source(form, PYTHON, "step = min(step, STEPS - 1)", imports)


def jax_source(form: ClosedForm) -> str:
    """Return a file for JAX, whose functions can be traced. They compute in float64 if JAX may, else in float32."""
    first = "step = jnp.asarray(jnp.minimum(step, STEPS - 1), float)"
    return _source(form, JAX, first, ["import jax.numpy as jnp"])


def keras_source(form: ClosedForm) -> str:
    """Return a file for Keras, whose functions backends can trace. They compute in float32, as Keras mostly does."""
    first = 'step = ops.minimum(ops.cast(step, "float32"), STEPS - 1.0)'
    return _source(form, KERAS, first, ["import keras", "from keras import ops"])


def _source(form: ClosedForm, dialect: Dialect, first: str, imports: Sequence[str]) -> str:
    constants = [f"{name} = {_constant(name, text)}" for name, text in form.constants.items()]
    functions = [_function("lr", "LR", form.lr, dialect, first)]
    if form.momentum is not None:
        functions.append(_function("momentum", "momentum", form.momentum, dialect, first))
    helper = [UPDATES] if any("_updates(" in line for line in constants) else []
    code = "\n\n\n".join([*helper, "\n".join(constants), *functions])
    used = [f"import {name}" for name in STANDARD if f"{name}." in code or f"import {name}" in imports]
    others = [line for line in imports if line not in used]
    head = "\n\n".join("\n".join(block) for block in (used, others) if block)
    return "\n\n".join(filter(None, [head + "\n" * bool(head and helper), code])) + "\n"


def _constant(name: str, text: str) -> str:
    if name == "STEPS":
        return f"{text}  # updates of the run; the schedule fits any other number, too"
    return translate(text, PYTHON)


def _function(name: str, what: str, lines: Mapping[str, str], dialect: Dialect, first: str) -> str:
    body = [f"{variable} = {translate(text, dialect)}" for variable, text in lines.items() if variable]
    uses_step = any("step" in text for text in lines.values())
    return "\n".join(
        [
            f"def {name}(step):",
            f'    """Return the {what} of an update, counted from 0. {HELD}"""',
            *(f"    {line}" for line in ([first] if uses_step else []) + body),
            f"    return {translate(lines[''], dialect)}",
        ]
    )
