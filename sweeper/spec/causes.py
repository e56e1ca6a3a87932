"""The cause of an exception in the code of data, model or task, as one InputError."""

from __future__ import annotations

import re

from sweeper.types import InputError

NAMED = re.compile(r"((?:data|model|task)\.\w+)(=.*?)?: (.*)\. (.+)", re.DOTALL)


def input_error(key: str, error: BaseException, problem: str = "", remedy: str = "") -> InputError:
    """Return the error for a node that cannot be built or used.

    Classes of `tasks` raise `ValueError("data.valid=2: problem. Remedy")`, which names everything itself. Of any other
    exception the type and the text are the problem.

    Args:
        key: The config key of the node.
        error: What was raised, perhaps wrapped by another exception.
        problem: What could not be done, in front of the cause.
        remedy: What to do about an exception that names nothing itself.
    """
    cause = innermost(error)
    if isinstance(cause, InputError):
        return cause
    named = NAMED.fullmatch(str(cause))
    if named is not None:
        where, value, what, way_out = named.groups()
        return InputError(where, value and value[1:], what, way_out.rstrip("."))
    text = f"{type(cause).__name__}: {str(cause).rstrip('.')}".removesuffix(": ")
    return InputError(key, None, f"{problem} ({text})" if problem else text, remedy)


def innermost(error: BaseException) -> BaseException:
    """Return the exception that another one was raised from, as far as an InputError or a cause of its own."""
    while not isinstance(error, InputError) and error.__cause__ is not None and _is_wrapper(error):
        error = error.__cause__
    return error


def _is_wrapper(error: BaseException) -> bool:
    """Whether an exception only passes another one on: Hydra's of instantiation."""
    return type(error).__module__.startswith("hydra")
