"""Randomness that is counted, not drawn: a hash, and batch order and dropout made of it.

Every function here is pure integer arithmetic, the same text for Python's int, NumPy's int64 and torch's int64,
and equal bit for bit in all three. Words are 32 bits wide and held in 64, and both multipliers are below 2^31,
so no product overflows. See docs/decisions/0002-counted-randomness.md.
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
GOLDEN = 0x9E37_79B9  # 2^32 / golden ratio: consecutive multiples lie far apart
SMALL = 256  # examples; rings of fewer than 16 need more turns before every order is equally likely (measured)
ORDER, DROPOUT, TURN, EVALUATION, PROBE, AUGMENT, LOOK = range(7)  # what a key is for, its second word


def mix(word: Words) -> Words:
    """A permutation of the 32-bit words in which each bit of `word` turns half of the result's.

    Wellons' form x ^= x >> a; x *= m; ... with TheIronBorn's constants (found with hash-prospector, bias 0.107).
    """
    word = word ^ (word >> 16)
    word = word * 0x21F0_AAAD & MASK
    word = word ^ (word >> 15)
    word = word * 0x735A_2D97 & MASK
    return word ^ (word >> 15)


def key_of(*words: Any) -> Any:
    """A 32-bit key of whole numbers or int64 arrays that broadcast; each counts modulo 2^32, order matters."""
    key: Any = GOLDEN
    for word in words:
        key = absorb(key, word)
    return key


def absorb(key: Any, word: Any) -> Any:
    """The key after one more word."""
    return mix((key + GOLDEN & MASK) ^ (word & MASK))


def micro_batch_key(key: Any, micro: int) -> Any:
    """The key of an update in its micro-batch of that number; the first one has the update's own."""
    return absorb(key, micro) if micro else key


# --- batch order ------------------------------------------------------------------------------------


def example_index(seed: Any, place: Any, size: int) -> Any:
    """Which example stands at `place` of the endless row of epochs 0, 1, ..., each a permutation of `size`.

    place: int64 array or tensor, epoch * size + position, broadcastable against seed. Nothing but the places asked
    for is computed, and nothing is read back from a device.
    """
    return permute(key_of(seed, ORDER, place // size), place % size, size)


def permute(key: Any, position: Any, size: int) -> Any:
    """Where the permutation of 0 .. size - 1 named by `key` sends `position`.

    The numbers are laid out in rows of about sqrt(size). In turn every column, then every row is rotated by a
    hash of the key and its number: a Feistel network (two halves, each moved by a hash of the other) whose last
    row may be short, so that it permutes exactly `size` numbers and never has to walk out of a larger domain.
    """
    width = math.isqrt(size - 1) + 1
    rows = -(-size // width)
    last = size - (rows - 1) * width
    row, column = position // width, position % width
    for turn in range(0, 16 if size < SMALL else 8, 2):
        row = _rotate(row, mix(_round_key(key, turn) ^ column), (column < last) + (rows - 1))
        column = _rotate(column, mix(_round_key(key, turn + 1) ^ row), last + (width - last) * (row < rows - 1))
    return row * width + column


def batches(seed: int, first: int, until: int, batch_size: int, size: int) -> NDArray[np.int64]:
    """The examples of updates first .. until - 1: int64 [S, B]. Every batch is full: it runs on into the next epoch."""
    place = np.arange(first * batch_size, until * batch_size, dtype=np.int64)
    index: NDArray[np.int64] = example_index(seed, place, size)
    return index.reshape(until - first, batch_size)


def _round_key(key: Any, turn: int) -> Any:
    return key + (turn + 1) * GOLDEN & MASK


def _rotate(place: Any, word: Any, length: Any) -> Any:
    """`place` moved on by `word` / 2^32 of a ring of `length`."""
    place = place + (word * length >> 32)
    return place - length * (place >= length)


# --- dropout ----------------------------------------------------------------------------------------


def keep_mask(key: Any, threshold: Any, rows: int, elements: int, device: torch.device) -> Tensor:
    """Which of the elements dropout keeps: bool [rows, elements], each dropped with probability threshold / 2^32."""
    row, element = _element_hashes(rows, device), _element_hashes(elements, device)
    keep: Tensor = mix((row ^ key)[:, None] + element & MASK) >= threshold
    return keep


def _element_hashes(count: int, device: torch.device) -> Tensor:
    """Hashes of 1 .. count, int64: the part of a mask that is the same in every update, and small."""
    return _compute_hashes(count, device) if torch.compiler.is_compiling() else _cached_hashes(count, device)


def _compute_hashes(count: int, device: torch.device) -> Tensor:
    word: Tensor = mix(torch.arange(1, count + 1, device=device))
    return word


_cached_hashes = functools.lru_cache(maxsize=64)(_compute_hashes)


class Counts(Protocol):
    """What dropout layers count by. A layer is its number in the model; p the fraction that it drops."""

    def key(self, layer: int) -> Any:
        """The key of this use of the layer: an int, or an int64 tensor [1]."""
        ...

    def threshold(self, layer: int, p: float) -> Any:
        """Elements whose hash is at least this are kept."""
        ...

    def scale(self, layer: int, p: float) -> Any:
        """What the kept elements are multiplied by."""
        ...

    def never_drops(self, layer: int, p: float) -> bool: ...


@dataclass
class Clock:
    """Which update a model is at, and which micro-batch of it. `backward`: its forward pass is over."""

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
        """How often the layer was used before in this update; the same again where checkpointing repeats a use."""
        if self.backward:
            if self._calls.get(layer, 0) > 1:
                raise RuntimeError(
                    "a dropout layer used more than once in a forward pass cannot be recomputed in the backward pass "
                    "(torch.utils.checkpoint): give each use a layer of its own"
                )
            return 0
        if self._counted != (self.step, self.micro):
            self._counted, self._calls = (self.step, self.micro), {}
        call = self._calls.get(layer, 0)
        self._calls[layer] = call + 1
        return call


class LaneClock:
    """What the dropout layers of stacked models count by, each lane by its own key and with its own p.

    Within torch.vmap the three tensors are those of one lane: key int64 [1], of (seed, DROPOUT, update), threshold
    int64 [K] and scale [K] of its K dropout layers. 1-d: torch.compile(vmap) multiplies 0-d keys wrongly.
    silent: layers at which no lane drops anything.
    """

    def __init__(self) -> None:
        self.silent: frozenset[int] = frozenset()
        self._calls: dict[int, int] = {}

    def start_forward(self, counts: Mapping[str, Tensor]) -> None:
        """A forward pass begins. counts: "key", "threshold", "scale" of the lane; empty where there is no dropout."""
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

    call: how often the layer was used before in the same update. Reads `p` at each use, as torch does.
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
        """Of each element, or of each channel; torch's rule says which inputs are one example without a batch."""
        shape = tuple(input.shape)
        if self.kind in (nn.Dropout, nn.AlphaDropout):
            return shape
        unbatched = input.dim() == CHANNELS.get(self.kind) and self.kind is not nn.Dropout2d
        leading = 1 if unbatched else 2
        return shape[:leading] + (1,) * (len(shape) - leading)


def count_dropout(model: nn.Module, clock: Counts) -> nn.Module:
    """The model with torch's dropout layers replaced by counted ones, numbered in the order of model.modules()."""
    found = [module for module in model.modules() if type(module) in REPLACED]
    counted = {id(module): CountedDropout(module, clock, layer) for layer, module in enumerate(found)}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in counted:
                setattr(parent, name, counted[id(child)])
    return counted.get(id(model), model)


# --- augmentation -----------------------------------------------------------------------------------


class Draws:
    """Uniform numbers for the batches of one update, each a hash of (seed, update, number, example, element).

    key_L: int64 [L], key_of(seed, AUGMENT, update) of each lane; an example is its place in its batch.
    """

    def __init__(self, key_L: Tensor, batch_size: int) -> None:
        self._key_L, self._batch_size = key_L, batch_size

    def __call__(self, number: int, count: int) -> Tensor:
        """float32 [L, B, count] in [0, 1): multiples of 2^-24, which every device holds exactly."""
        key_L = absorb(self._key_L, number)
        device = key_L.device
        key_LB = mix(key_L[:, None] ^ _element_hashes(self._batch_size, device))
        word: Tensor = mix(key_LB[:, :, None] + _element_hashes(count, device) & MASK)
        return (word >> 8).float() * 2**-24


# --- everything else that draws ---------------------------------------------------------------------


@contextlib.contextmanager
def seeded_generators(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of torch, NumPy and Python start at `seed` within, and go on as if nothing was after."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call] # makes the generators
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
