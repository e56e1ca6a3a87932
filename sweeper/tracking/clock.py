"""The clock of a run: at which step each logged value is. Every record of a run uses it.

Step n is the moment after n updates.

    LR, momentum              of update k + 1 at step k, which is 0 .. steps - 1: step k has lr_S[k], used next
    training loss, norms      of update k + 1 at step k + 1, when that update is done
    validation, test metrics  after n updates at step n

So a run of S updates has the steps 0 .. S: step 0 has no losses, and step S no LR. `trace()`, the Parquet files, MLflow
and the figures show these steps. A `Report` and the spool hold arrays with one value for each update, without steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sweeper.types import Floats

Traces = dict[str, Floats]

USED = ("lr/", "momentum")  # what an update uses; all other traces are what it results in


def is_used(name: str) -> bool:
    """Return whether a trace holds what updates use, such as the LR, rather than their results."""
    return name.startswith(USED)


def first_step(name: str) -> int:
    """Return the step at which a trace has the value of the first update: 0 for the LR, 1 for a loss."""
    return 0 if is_used(name) else 1


def by_step(updates: Mapping[str, Floats]) -> Traces:
    """Return the traces of a run as a table with one row for each step.

    Args:
        updates: Columns with one row for each update: "step", the number of the update from 1, and a column for each
            trace and metric, NaN where there is no value. All are float64 [U].

    Returns:
        "step" in increasing order, and the same columns, NaN where a step has no value.
    """
    values = {name: column_U for name, column_U in updates.items() if name != "step"}
    steps = {name: updates["step"] - 1 + first_step(name) for name in values}
    known = {name: ~np.isnan(column_U) for name, column_U in values.items()}
    step_N = np.unique(np.concatenate([updates["step"], *(steps[name][known[name]] for name in values)]))
    table = {"step": step_N}
    for name, column_U in values.items():
        table[name] = np.full(len(step_N), np.nan)
        table[name][np.searchsorted(step_N, steps[name][known[name]])] = column_U[known[name]]
    return table
