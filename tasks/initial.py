"""Initial weights that replace those a model draws by itself (`model.init`)."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

GLOROT = "glorot"
DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def glorot(model: nn.Module) -> nn.Module:
    """Draw new weights for linear layers and convolutions, as Keras does, and return the model.

    Weights are uniform within sqrt(6 / (fan_in + fan_out)), and biases are 0. Embeddings, with the weights that a
    linear layer shares with them, and normalizations stay as they are.

    Source: Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks,
        equation 16. It is the default of Keras' Dense and Conv layers.
    """
    embedded = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    for part in model.modules():
        if not isinstance(part, DENSE):
            continue
        if id(part.weight) not in embedded:
            nn.init.xavier_uniform_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    return model


def initialized(factory: Callable[..., nn.Module], init: object) -> Callable[..., nn.Module]:
    """Return a factory of models with these initial weights.

    Args:
        factory: Makes a model; a partial call keeps its keywords.
        init: "glorot", or None for the weights that the model draws.

    Raises:
        ValueError: If there is no such initialization.
    """
    if init is None:
        return factory
    if init != GLOROT:
        problem = "no such initialization. Choose glorot, or null for the model's own"
        raise ValueError(f"model.init={init}: {problem}")
    if isinstance(factory, functools.partial):
        return functools.partial(_Glorot(factory.func), *factory.args, **factory.keywords)
    return _Glorot(factory)


class _Glorot:
    """A factory with the signature and the name of another. A class, so that processes can send it to each other."""

    def __init__(self, factory: Callable[..., nn.Module]) -> None:
        self.__wrapped__ = factory  # what inspect.signature reads
        self.__name__ = getattr(factory, "__name__", type(factory).__name__)

    def __call__(self, *arguments: object, **keywords: object) -> nn.Module:
        return glorot(self.__wrapped__(*arguments, **keywords))
