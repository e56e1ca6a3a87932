"""Counted randomness: batch order, dropout and augmentation are hashes of where they are used.

The hash functions are pure integer arithmetic. They take Python's int, NumPy's int64 and torch's int64, with results
that are equal bit for bit. Words have 32 bits and are held in 64, and both multipliers are below 2^31, so no product
overflows. See docs/decisions/0002-counted-randomness.md.
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Words = TypeVar("Words", int, NDArray[np.int64], Tensor)

MASK = 0xFFFF_FFFF
GOLDEN = 0x9E37_79B9  # 2^32 / golden ratio: consecutive multiples are far from each other
SMALL = 256  # examples; rings of fewer than 16 need more rounds before every order is equally likely (measured)
ORDER, DROPOUT, TURN, EVALUATION, PROBE, AUGMENT, LOOK = range(7)  # the second word of a key: its purpose


def mix(word: Words) -> Words:
    """Return the hash of a 32-bit word. It is a permutation, and each bit of `word` flips about half of the result's.

    Source: Wellons' form x ^= x >> a; x *= m; ... with TheIronBorn's constants (hash-prospector, bias 0.107).
    """
    word = word ^ (word >> 16)
    word = word * 0x21F0_AAAD & MASK
    word = word ^ (word >> 15)
    word = word * 0x735A_2D97 & MASK
    return word ^ (word >> 15)


def key_of(*words: Any) -> Any:
    """Return a 32-bit key of `words`: ints or int64 arrays that broadcast, each modulo 2^32. Their order matters."""
    key: Any = GOLDEN
    for word in words:
        key = absorb(key, word)
    return key


def absorb(key: Any, word: Any) -> Any:
    """Return the key extended by one more word."""
    return mix((key + GOLDEN & MASK) ^ (word & MASK))


def micro_batch_key(key: Any, micro: int) -> Any:
    """Return the key of a micro-batch of an update. The first one has the key of the update."""
    return absorb(key, micro) if micro else key


# --- batch order ------------------------------------------------------------------------------------


def example_index(seed: Any, place: Any, size: int) -> Any:
    """Return the example at a place in the sequence of all epochs.

    Each epoch is another permutation of the examples. Only the given places are computed, and nothing is read back from
    a device.

    Args:
        seed: Seed of the job, an int or int64.
        place: epoch * size + position in the epoch, an int64 array or tensor that broadcasts against `seed`.
        size: Number of examples.

    Returns:
        Indices of examples in [0, size), int64, of the broadcast shape.
    """
    return permute(key_of(seed, ORDER, place // size), place % size, size)


def permute(key: Any, position: Any, size: int) -> Any:
    """Return the image of `position` under the permutation of 0 .. size - 1 that `key` selects.

    The positions fill rows of about sqrt(size). Each round rotates every column, then every row, by a hash of the key
    and its index. This is a Feistel network (two halves, each moved by a hash of the other) whose last row may be
    short. So it permutes exactly `size` positions, and needs no walk through a larger domain.
    """
    width = math.isqrt(size - 1) + 1
    rows = -(-size // width)
    last = size - (rows - 1) * width
    row, column = position // width, position % width
    for round in range(0, 16 if size < SMALL else 8, 2):
        row = _rotate(row, mix(_round_key(key, round) ^ column), (column < last) + (rows - 1))
        column = _rotate(column, mix(_round_key(key, round + 1) ^ row), last + (width - last) * (row < rows - 1))
    return row * width + column


def batches(seed: int, first: int, until: int, batch_size: int, size: int) -> NDArray[np.int64]:
    """Return the examples of updates first .. until - 1, int64 [S, B].

    Every batch is full: at the end of an epoch it continues with the next one.
    """
    place = np.arange(first * batch_size, until * batch_size, dtype=np.int64)
    index: NDArray[np.int64] = example_index(seed, place, size)
    return index.reshape(until - first, batch_size)


def _round_key(key: Any, round: int) -> Any:
    return key + (round + 1) * GOLDEN & MASK


def _rotate(place: Any, word: Any, length: Any) -> Any:
    """Return `place` rotated by `word` / 2^32 of a ring of `length`."""
    place = place + (word * length >> 32)
    return place - length * (place >= length)


# --- dropout ----------------------------------------------------------------------------------------


def keep_mask(key: Any, threshold: Any, rows: int, elements: int, device: torch.device) -> Tensor:
    """Return which elements dropout keeps.

    Args:
        key: Key of this use of the layer.
        threshold: Elements whose hash is below it are dropped, with probability threshold / 2^32.
        rows: Examples of the batch.
        elements: Elements of an example.
        device: Where the mask is.

    Returns:
        The mask, bool [rows, elements].
    """
    row, element = _element_hashes(rows, device), _element_hashes(elements, device)
    keep: Tensor = mix((row ^ key)[:, None] + element & MASK) >= threshold
    return keep


def _element_hashes(count: int, device: torch.device) -> Tensor:
    """Return the hashes of 1 .. count, int64. They are the same in every update, and small, so they are cached."""
    return _compute_hashes(count, device) if torch.compiler.is_compiling() else _cached_hashes(count, device)


def _compute_hashes(count: int, device: torch.device) -> Tensor:
    word: Tensor = mix(torch.arange(1, count + 1, device=device))
    return word


_cached_hashes = functools.lru_cache(maxsize=64)(_compute_hashes)


class Counts(Protocol):
    """The counters of a model's dropout layers.

    Each method takes `layer`, the layer's number in the model, and some take `p`, the fraction that it drops.
    """

    def key(self, layer: int) -> Any:
        """Return the key of this use of the layer, an int or an int64 tensor [1]."""
        ...

    def threshold(self, layer: int, p: float) -> Any:
        """Return the smallest hash of an element that is kept."""
        ...

    def scale(self, layer: int, p: float) -> Any:
        """Return the factor of the elements that are kept."""
        ...

    def never_drops(self, layer: int, p: float) -> bool:
        """Return whether the layer passes everything through."""
        ...


@dataclass
class Clock:
    """The position of one model in its training, by which its dropout layers count.

    Attributes:
        seed: Seed of the job.
        step: The update, counted from 0.
        micro: The micro-batch of the update, counted from 0.
        backward: Whether the forward pass is over.
    """

    seed: int
    step: int = 0
    micro: int = 0
    backward: bool = False
    _counted: tuple[int, int] = (-1, 0)
    _calls: dict[int, int] = field(default_factory=dict)

    def key(self, layer: int) -> int:
        key: int = micro_batch_key(key_of(self.seed, DROPOUT, self.step), self.micro)
        return int(absorb(absorb(key, layer), self._call_number(layer)))

    def threshold(self, layer: int, p: float) -> int:
        return round(p * 2**32)

    def scale(self, layer: int, p: float) -> float:
        return 0.0 if p == 1 else 1 / (1 - p)

    def never_drops(self, layer: int, p: float) -> bool:
        return p == 0

    def _call_number(self, layer: int) -> int:
        """Return how often the layer was used before in this update.

        In the backward pass it is 0, since torch.utils.checkpoint repeats the first use.

        Raises:
            RuntimeError: If a layer that is used more than once is recomputed.
        """
        if self.backward:
            if self._calls.get(layer, 0) > 1:
                raise RuntimeError(
                    "a dropout layer used more than once in a forward pass cannot be recomputed in the backward pass "
                    "(torch.utils.checkpoint). Give each use a layer of its own"
                )
            return 0
        if self._counted != (self.step, self.micro):
            self._counted, self._calls = (self.step, self.micro), {}
        call = self._calls.get(layer, 0)
        self._calls[layer] = call + 1
        return call


class LaneClock:
    """The counters of the dropout layers of stacked models: each lane has its own key and its own p.

    Within torch.vmap the tensors are those of one lane. Keys are 1-d because torch.compile(vmap) multiplies 0-d keys
    wrongly.

    Attributes:
        silent: Layers at which no lane drops anything.
    """

    def __init__(self) -> None:
        self.silent: frozenset[int] = frozenset()
        self._calls: dict[int, int] = {}

    def start_forward(self, counts: Mapping[str, Tensor]) -> None:
        """Start a forward pass.

        Args:
            counts: Of the lane "key", int64 [1], of (seed, DROPOUT, update); "threshold", int64 [K], and "scale", [K],
                of its K dropout layers. Empty if nothing is dropped.
        """
        self._counts, self._calls = counts, {}

    def key(self, layer: int) -> Tensor:
        call = self._calls.get(layer, 0)
        self._calls[layer] = call + 1
        key: Tensor = absorb(absorb(self._counts["key"], layer), call)
        return key

    def threshold(self, layer: int, p: float) -> Tensor:
        return self._counts["threshold"][layer : layer + 1]

    def scale(self, layer: int, p: float) -> Tensor:
        return self._counts["scale"][layer : layer + 1]

    def never_drops(self, layer: int, p: float) -> bool:
        return layer in self.silent


CHANNELS: dict[type[nn.Module], int] = {nn.Dropout1d: 2, nn.Dropout2d: 3, nn.Dropout3d: 4}  # dimensions of one example
ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
REPLACED = (nn.Dropout, *CHANNELS, *ALPHA)


class CountedDropout(nn.Module):
    """A torch dropout layer whose mask is a hash of (seed, step, layer, call, element).

    The call is how often the layer was used before in the same update. `p` is read at each use, as torch does.
    """

    def __init__(self, dropout: nn.Module, clock: Counts, layer: int) -> None:
        super().__init__()
        self.kind, self.clock, self.layer = type(dropout), clock, layer
        self.p: float = dropout.p  # type: ignore[assignment] # a float on every class of REPLACED
        self.inplace = bool(dropout.inplace)
        self.training = dropout.training

    def extra_repr(self) -> str:
        return f"{self.kind.__name__}, p={self.p}, layer={self.layer}"

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.clock.never_drops(self.layer, self.p):
            return input
        mask = self._mask(input).to(input.dtype)
        if self.kind not in ALPHA:
            mask.mul_(self.clock.scale(self.layer, self.p))
            return input.mul_(mask) if self.inplace else input * mask
        if self.p == 1:
            return input * 0
        # Klambauer et al. 2017 (1706.02515), equation 5 on: dropped units get alpha', then mean and variance return.
        alpha = 1.7580993408473766
        scale: float = ((alpha * alpha * self.p + 1) * (1 - self.p)) ** -0.5
        return input * (mask * scale) + ((mask - 1) * (alpha * scale) + alpha * scale * self.p)

    def _mask(self, input: Tensor) -> Tensor:
        shape = self._mask_shape(input)
        rows = shape[0] if shape else 1
        elements = math.prod(shape[1:])
        key, threshold = self.clock.key(self.layer), self.clock.threshold(self.layer, self.p)
        return keep_mask(key, threshold, rows, elements, input.device).view(shape)

    def _mask_shape(self, input: Tensor) -> tuple[int, ...]:
        """Return the mask's shape: one value for each element or channel.

        As in torch, the number of dimensions decides whether the input is one example without a batch.
        """
        shape = tuple(input.shape)
        if self.kind in (nn.Dropout, nn.AlphaDropout):
            return shape
        unbatched = input.dim() == CHANNELS.get(self.kind) and self.kind is not nn.Dropout2d
        leading = 1 if unbatched else 2
        return shape[:leading] + (1,) * (len(shape) - leading)


def count_dropout(model: nn.Module, clock: Counts) -> nn.Module:
    """Return the model with torch's dropout layers replaced by counted ones, numbered as in model.modules()."""
    dropouts = [module for module in model.modules() if type(module) in REPLACED]
    counted = {id(module): CountedDropout(module, clock, layer) for layer, module in enumerate(dropouts)}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in counted:
                setattr(parent, name, counted[id(child)])
    return counted.get(id(model), model)


# --- augmentation -----------------------------------------------------------------------------------


class Draws:
    """Uniform random numbers for the batches of one update, each a hash of (seed, update, number, example, element).

    Args:
        key_L: key_of(seed, AUGMENT, update) of each lane, int64 [L].
        batch_size: Examples of a lane's batch. An example counts by its place in the batch.
    """

    def __init__(self, key_L: Tensor, batch_size: int) -> None:
        self._key_L, self._batch_size = key_L, batch_size

    def __call__(self, number: int, count: int) -> Tensor:
        """Return `count` values for each example, float32 [L, B, count] in [0, 1).

        They are multiples of 2^-24, which every device represents exactly.
        """
        key_L = absorb(self._key_L, number)
        device = key_L.device
        key_LB = mix(key_L[:, None] ^ _element_hashes(self._batch_size, device))
        word: Tensor = mix(key_LB[:, :, None] + _element_hashes(count, device) & MASK)
        return (word >> 8).float() * 2**-24


# --- other random numbers ---------------------------------------------------------------------------


@contextlib.contextmanager
def seeded_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python for a block of code, then restore their states."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call] # creates the generators
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    states = [generator.get_state() for generator in generators]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        for generator in generators:
            generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
