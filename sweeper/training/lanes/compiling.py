"""torch.compile for the update of a stack: whole, once, quietly; where it cannot be compiled it runs as it is."""

from __future__ import annotations

import contextlib
import logging
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

_log = logging.getLogger(__name__)


class CompiledUpdate:
    """`update` compiled into one graph at its first call; if that fails, the same uncompiled from then on.

    A failure leaves the arguments untouched, since nothing has run yet. Call it within `compiler_settings()`.
    """

    def __init__(self, update: Callable[..., Any]) -> None:
        # Torch counts by code object how often it compiled, and gives up at the eighth: each update has its own.
        own: Any = types.FunctionType(
            update.__code__.replace(), update.__globals__, update.__name__, update.__defaults__, update.__closure__
        )
        self._plain = update
        self._fast: Any = torch.compile(own, fullgraph=True, dynamic=False)
        self._works = True

    def __call__(self, *arguments: Any) -> Any:
        if self._works:
            try:
                return self._fast(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:
                self._works = False
                _log.warning("the update cannot be compiled and runs uncompiled (%s)", str(error).splitlines()[0])
        return self._plain(*arguments)


@contextlib.contextmanager
def compiler_settings() -> Iterator[None]:
    """What compiling needs, within: Dynamo follows torch.autograd.grad, and what torch warns of itself is not shown."""
    settings: Any = torch._dynamo.config
    follow = {"trace_autograd_ops": True} if hasattr(settings, "trace_autograd_ops") else {}
    patched: Any = settings.patch(follow)
    with patched, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\.")
        yield


def has_compiled() -> bool:
    """Whether torch has compiled on this machine before: what it then learnt of the processor is kept."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    folder = Path(cache_dir())
    return folder.is_dir() and any(folder.iterdir())
