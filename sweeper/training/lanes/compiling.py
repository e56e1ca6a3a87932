"""torch.compile for the update of a stack, with a fallback to the uncompiled update."""

from __future__ import annotations

import contextlib
import logging
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

_log = logging.getLogger(__name__)


class CompiledUpdate:
    """An update that is compiled into one graph at its first call, or runs uncompiled if compiling fails.

    Call it within `compiler_settings()`. A failed compilation leaves the arguments unchanged, since nothing has run
    yet.

    Args:
        update: The function to compile.
    """

    def __init__(self, update: Callable[..., Any]) -> None:
        # Torch counts compilations per code object and gives up at the eighth, so each update gets a code object.
        copy: Any = types.FunctionType(
            update.__code__.replace(), update.__globals__, update.__name__, update.__defaults__, update.__closure__
        )
        self._update = update
        self._compiled: Any = torch.compile(copy, fullgraph=True, dynamic=False)
        self._is_compilable = True

    def __call__(self, *arguments: Any) -> Any:
        if self._is_compilable:
            try:
                return self._compiled(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:
                self._is_compilable = False
                _log.warning("the update cannot be compiled and runs uncompiled (%s)", str(error).splitlines()[0])
        return self._update(*arguments)


@contextlib.contextmanager
def compiler_settings() -> Iterator[None]:
    """Let Dynamo trace torch.autograd.grad, and ignore the warnings that torch raises about its own code."""
    settings: Any = torch._dynamo.config
    follow = {"trace_autograd_ops": True} if hasattr(settings, "trace_autograd_ops") else {}
    patched: Any = settings.patch(follow)
    with patched, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\.")
        yield
